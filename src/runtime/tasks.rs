//! The tasks of a node: each has a name and a parent, stops when told, and says so when it dies.

use super::{Backoff, caught, until};
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Before a task that died is started again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// One that lived for so long is started again at once.
const SOUND: Duration = Duration::from_secs(60);

/// The tasks of one node.
///
/// | started with | when it panics |
/// |---|---|
/// | [`Tasks::spawn`], [`Tasks::spawn_last`] | it is gone; nothing else is |
/// | [`Tasks::keep`], [`Tasks::every`], [`Tasks::rounds`], [`Tasks::gather`] | it goes on after a pause |
/// | [`Tasks::vital`] | the node stops, and the process ends with the task's name |
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    last: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    fault: OnceLock<&'static str>,
}

impl Tasks {
    /// Starts a task that ends when [`Tasks::stop`] is cancelled and that others can do without.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        start(&self.0.tracker, name, task);
    }

    /// Starts a task that ends by itself when all who feed it are gone; it is waited for last.
    pub fn spawn_last(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        start(&self.0.last, name, task);
    }

    /// Starts a task that others count on: if it dies it is made anew, after a pause that grows. What it must not lose
    /// by that is owned by whoever makes it.
    pub fn keep<F>(&self, name: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop();
        start(&self.0.tracker, name, async move {
            let mut backoff = Backoff::between(AGAIN.0, AGAIN.1);
            loop {
                let began = Instant::now();
                let Err(panicked) = caught(async { make().await }).await else { break };
                Self::died(name, &panicked);
                if began.elapsed() >= SOUND {
                    backoff.reset();
                }
                if until(&stop, backoff.wait()).await.is_none() {
                    break;
                }
            }
        });
    }

    /// Starts a task without which a node is none. If it fails or dies the node stops, and the process says its name.
    pub fn vital<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let tasks = self.clone();
        start(&self.0.tracker, name, async move {
            match caught(task).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(task = name, %error, "a task failed that must not"),
                Err(panicked) => Self::died(name, &panicked),
            }
            tasks.0.fault.get_or_init(|| name);
            tasks.0.failed.cancel();
        });
    }

    /// Cancelled when the node is to stop.
    pub fn stop(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Cancelled when a vital task has ended.
    pub fn failed(&self) -> CancellationToken {
        self.0.failed.clone()
    }

    /// The first vital task that has ended.
    pub fn fault(&self) -> Option<&'static str> {
        self.0.fault.get().copied()
    }

    /// Tells all tasks to stop and waits for them, at most so long. `false` if some did not.
    pub async fn shut_down(&self, within: Duration) -> bool {
        self.0.stop.cancel();
        self.0.tracker.close();
        tokio::time::timeout(within, self.0.tracker.wait()).await.is_ok()
    }

    /// Waits for the tasks that end when all who feed them are gone.
    pub async fn wait_last(&self, within: Duration) -> bool {
        self.0.last.close();
        tokio::time::timeout(within, self.0.last.wait()).await.is_ok()
    }
}

fn start(tracker: &TaskTracker, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    Tasks::expect(name);
    let task = tracker.track_future(task);
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
    tokio::spawn(ended(name, task));
}

/// Starts something short that nobody waits for and whose loss loses nothing.
pub fn detach(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
    tokio::spawn(ended(name, task));
}

async fn ended(name: &'static str, task: impl Future<Output = ()>) {
    match caught(task).await {
        Ok(()) => tracing::trace!(task = name, "ended"),
        Err(panicked) => Tasks::died(name, &panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), work).await.expect("in time")
    }

    #[tokio::test]
    async fn a_task_that_dies_takes_no_node_along() {
        let tasks = Tasks::default();
        tasks.spawn("one", async { panic!("of itself") });
        assert!(soon(tasks.shut_down(Duration::from_secs(5))).await);
        assert!(!tasks.failed().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_others_count_on_is_made_anew_until_it_ends() {
        let (tasks, made, done) = (Tasks::default(), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let (count, end) = (Arc::clone(&made), Arc::clone(&done));
        tasks.keep("counted on", move || {
            let (count, end) = (Arc::clone(&count), Arc::clone(&end));
            async move {
                assert!(count.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
                end.notify_one();
            }
        });
        soon(done.notified()).await;
        assert_eq!(made.load(Ordering::Relaxed), 3);
        assert!(!tasks.failed().is_cancelled());
    }

    #[tokio::test]
    async fn a_vital_task_stops_the_node_and_is_named() {
        let tasks = Tasks::default();
        tasks.vital("well", async { Ok::<(), String>(()) });
        tasks.vital("listener", async { Err("closed") });
        soon(tasks.failed().cancelled()).await;
        assert_eq!(tasks.fault(), Some("listener"));
        let tasks = Tasks::default();
        tasks.vital("listener", async { std::hint::black_box(None::<Result<(), String>>).expect("it dies") });
        soon(tasks.failed().cancelled()).await;
        assert_eq!(tasks.fault(), Some("listener"));
    }
}
