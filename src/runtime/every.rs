//! What is done every so often until the node stops.

use super::{Backoff, Panicked, Tasks, caught, until};
use crate::clock::{Clock, Timestamp};
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After a round that panicked, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Something that is done again and again. What it keeps outlives a round that panics.
pub trait Rounds: Send + 'static {
    /// What a round says of the next one.
    type Next: Send;

    /// Does it once. `None` ends it for good.
    fn round(&mut self) -> impl Future<Output = Option<Self::Next>> + Send;

    /// Until it is time for the next; dropped when the node stops.
    fn wait(&mut self, next: Self::Next) -> impl Future<Output = ()> + Send;

    /// Whether a stop drops a round in the middle; otherwise the stop waits for its end.
    fn is_cut_short(&self) -> bool {
        false
    }
}

/// How often something is done.
#[derive(Clone, Debug)]
pub struct Pace {
    pause: Duration,
    clock: Option<Clock>,
    waits_first: bool,
    cut_short: bool,
}

impl Pace {
    /// At once, and again each time so long after the last has ended, by the system's time.
    pub const fn of(pause: Duration) -> Self {
        Self { pause, clock: None, waits_first: false, cut_short: false }
    }
    /// Not at once: the first time is after a pause too.
    pub fn later(self) -> Self {
        Self { waits_first: true, ..self }
    }
    /// By this clock, and so long after the last has begun: no step of a clock that a test moves is missed.
    pub fn by(self, clock: &Clock) -> Self {
        Self { clock: Some(clock.clone()), ..self }
    }
    /// The stop of the node does not wait for its end.
    pub fn cut_short(self) -> Self {
        Self { cut_short: true, ..self }
    }

    /// Until the given time of its clock, or for a pause.
    async fn wait(&self, next: Option<Timestamp>) {
        match (&self.clock, next) {
            (Some(clock), Some(next)) => clock.sleep_until(next).await,
            (Some(clock), None) => clock.sleep(self.pause).await,
            (None, _) => tokio::time::sleep(self.pause).await,
        }
    }
}

/// Does something at a pace until it fails; of a task or a connection that ends with that.
pub async fn repeat<F, E>(pace: Pace, mut work: impl FnMut() -> F) -> E
where
    F: Future<Output = Result<(), E>>,
{
    let mut waits = pace.waits_first;
    loop {
        if !std::mem::take(&mut waits)
            && let Err(error) = work().await
        {
            return error;
        }
        pace.wait(None).await;
    }
}

impl Tasks {
    /// Does something every so often until the node stops. If it panics that is told, and it is done again.
    pub fn every<F>(&self, name: &'static str, pace: Pace, work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let waits = pace.waits_first;
        self.rounds(name, Each { pace, waits, work });
    }

    /// Does rounds until the node stops or there is no next one. If one panics that is told, and the next follows after a
    /// pause.
    pub fn rounds(&self, name: &'static str, mut rounds: impl Rounds) {
        let stop = self.stop();
        self.spawn(name, async move {
            let mut backoff = Backoff::between(AGAIN.0, AGAIN.1);
            loop {
                match turn(&mut rounds, &stop).await {
                    Turn::Over => break,
                    Turn::Done => backoff.reset(),
                    Turn::Died(panicked) => {
                        Self::died(name, &panicked);
                        if until(&stop, backoff.wait()).await.is_none() {
                            break;
                        }
                    }
                }
            }
        });
    }
}

enum Turn {
    Done,
    Over,
    Died(Panicked),
}

/// One round, and the wait for the next.
async fn turn(rounds: &mut impl Rounds, stop: &CancellationToken) -> Turn {
    let round = if rounds.is_cut_short() {
        until(stop, caught(rounds.round())).await
    } else {
        Some(caught(rounds.round()).await)
    };
    let next = match round {
        None | Some(Ok(None)) => return Turn::Over,
        Some(Ok(Some(next))) => next,
        Some(Err(panicked)) => return Turn::Died(panicked),
    };
    match until(stop, caught(rounds.wait(next))).await {
        None => Turn::Over,
        Some(Ok(())) => Turn::Done,
        Some(Err(panicked)) => Turn::Died(panicked),
    }
}

/// Something that is done at a pace.
struct Each<W> {
    pace: Pace,
    waits: bool,
    work: W,
}

impl<F, W> Rounds for Each<W>
where
    F: Future<Output = ()> + Send + 'static,
    W: FnMut() -> F + Send + 'static,
{
    type Next = Option<Timestamp>;

    async fn round(&mut self) -> Option<Option<Timestamp>> {
        let next = self.pace.clock.as_ref().map(|clock| clock.now() + self.pace.pause);
        if !std::mem::take(&mut self.waits) {
            (self.work)().await;
        }
        Some(next)
    }

    async fn wait(&mut self, next: Option<Timestamp>) {
        self.pace.wait(next).await;
    }

    fn is_cut_short(&self) -> bool {
        self.pace.cut_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    const PAUSE: Duration = Duration::from_secs(600);

    fn counting(count: &Arc<AtomicU32>) -> impl FnMut() -> std::future::Ready<()> + Send + 'static {
        let count = Arc::clone(count);
        move || {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        }
    }

    async fn until_counted(count: &AtomicU32, wanted: u32) {
        let counted = async {
            while count.load(Ordering::Relaxed) < wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), counted).await.expect("counted in time");
    }

    #[tokio::test]
    async fn it_is_done_at_once_or_later_and_at_each_step_of_its_clock() {
        let (clock, tasks) = (Clock::manual(Timestamp::from_unix_ms(0)), Tasks::default());
        let (once, later) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        tasks.every("once", Pace::of(PAUSE).by(&clock), counting(&once));
        tasks.every("later", Pace::of(PAUSE).by(&clock).later(), counting(&later));
        until_counted(&once, 1).await;
        assert_eq!(later.load(Ordering::Relaxed), 0);
        for step in 1..4 {
            clock.advance(PAUSE);
            until_counted(&once, step + 1).await;
            until_counted(&later, step).await;
        }
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert_eq!((once.load(Ordering::Relaxed), later.load(Ordering::Relaxed)), (4, 3));
    }

    #[tokio::test]
    async fn a_round_that_panics_is_followed_by_the_next() {
        let (tasks, count) = (Tasks::default(), Arc::<AtomicU32>::default());
        let counted = Arc::clone(&count);
        tasks.every("panics", Pace::of(Duration::from_millis(1)), move || {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(n != 1, "the second is too much") }
        });
        until_counted(&count, 4).await;
        assert!(!tasks.failed().is_cancelled());
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_stop_waits_for_a_round_unless_it_is_cut_short() {
        let tasks = Tasks::default();
        tasks.every("endless", Pace::of(PAUSE).cut_short(), std::future::pending::<()>);
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        let (tasks, count) = (Tasks::default(), Arc::<AtomicU32>::default());
        let (counted, stop) = (Arc::clone(&count), tasks.stop());
        tasks.every("whole", Pace::of(PAUSE), move || {
            let (counted, stop) = (Arc::clone(&counted), stop.clone());
            async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::task::yield_now().await;
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
