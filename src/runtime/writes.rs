//! Writing a batch of which one unit may be refused for good: the batch is split until that one is found, the others are
//! written in their order, and it is set aside.
//!
//! A store that is broken as a whole refuses everything, and then nothing may be set aside for it. So a unit is only
//! believed to be at fault if the store took another one of the same batch, or if few were since it last took one.

use super::{Backoff, Refusal, SetAside, tried};
use crate::error::Stored;
use futures_util::future::BoxFuture;
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// Units that are believed to be at fault though the store takes nothing beside them, and one more after each of these
/// times.
const ALONE: (usize, Duration) = (3, Duration::from_secs(10));
/// So many refused with none taken, and the rest of the batch is not tried before it is known what to believe.
const HOPELESS: usize = 64;

/// A part of a batch.
#[derive(Debug)]
pub struct Part<A> {
    /// Which units.
    pub units: Range<usize>,
    /// What the store said to them, together. None: the one unit was set aside.
    pub answer: Option<A>,
}

/// How far a batch has come.
struct Progress<A> {
    /// Done, from the first unit on without a gap.
    parts: Vec<Part<A>>,
    /// Still to be written, the next one last.
    todo: Vec<Range<usize>>,
    /// Refused, behind the parts; whether that is their fault is not known yet.
    refused: Vec<(usize, String)>,
    /// Whether the store took any of it.
    taken: bool,
}

impl<A> Progress<A> {
    fn of(units: usize) -> Self {
        Self {
            parts: Vec::new(),
            todo: std::iter::once(0..units).collect(),
            refused: Vec::new(),
            taken: false,
        }
    }
}

/// One who writes batches.
pub struct Writes {
    aside: SetAside,
    failures: &'static str,
    backoff: Backoff,
    /// Since when everything was refused, and how many units were set aside since then.
    refusing: Option<(Instant, usize)>,
    alone: (usize, Duration),
}

impl Writes {
    /// `what` a unit is, the counter of failures, and the pauses between tries.
    pub fn of(what: &'static str, failures: &'static str, backoff: Backoff) -> Self {
        metrics::counter!(failures).increment(0);
        Self { aside: SetAside::of(what), failures, backoff, refusing: None, alone: ALONE }
    }

    /// Writes all of a batch, however long the store does not answer. `name` has the ids of a unit, for the log.
    pub async fn all<T: Sync, A: Send>(
        &mut self,
        batch: &[T],
        write: impl for<'a> Fn(&'a [T]) -> BoxFuture<'a, Stored<A>> + Send + Sync,
        name: impl Fn(&T) -> String + Send + Sync,
    ) -> Vec<Part<A>> {
        let mut progress = Progress::of(batch.len());
        loop {
            match self.go_on(batch, &mut progress, &write, &name).await {
                Ok(()) => return progress.parts,
                Err(refusal) => {
                    metrics::counter!(self.failures).increment(1);
                    tracing::error!(error = %refusal, units = batch.len(), "a batch could not be stored; it is tried again");
                    self.backoff.wait().await;
                }
            }
        }
    }

    /// Writes all of a batch, or says why that is not possible now. What was written until then is written.
    ///
    /// # Errors
    /// When the store does not answer, or refuses everything.
    pub async fn once<T: Sync, A: Send>(
        &mut self,
        batch: &[T],
        write: impl for<'a> Fn(&'a [T]) -> BoxFuture<'a, Stored<A>> + Send + Sync,
        name: impl Fn(&T) -> String + Send + Sync,
    ) -> Stored<Vec<Part<A>>> {
        let mut progress = Progress::of(batch.len());
        match self.go_on(batch, &mut progress, &write, &name).await {
            Ok(()) => Ok(progress.parts),
            Err(refusal) => {
                metrics::counter!(self.failures).increment(1);
                Err(refusal.into())
            }
        }
    }

    /// Goes on where it stopped. Units that were refused while others behind them were written stay aside: written later
    /// they would come out of order.
    async fn go_on<T: Sync, A: Send>(
        &mut self,
        batch: &[T],
        progress: &mut Progress<A>,
        write: &(impl for<'a> Fn(&'a [T]) -> BoxFuture<'a, Stored<A>> + Send + Sync),
        name: &(impl Fn(&T) -> String + Send + Sync),
    ) -> Result<(), Refusal> {
        let Progress { parts, todo, refused, taken } = progress;
        while let Some(units) = todo.pop().filter(|units| !units.is_empty()) {
            match tried(write(&batch[units.clone()])).await {
                Ok(answer) => {
                    self.backoff.reset();
                    (*taken, self.refusing) = (true, None);
                    for (unit, why) in refused.drain(..) {
                        parts.push(self.set_aside(unit, why, batch, name));
                    }
                    parts.push(Part { units, answer: Some(answer) });
                }
                Err(Refusal::Lasting(_)) if units.len() > 1 => {
                    let middle = units.start + units.len() / 2;
                    todo.extend([middle..units.end, units.start..middle]);
                }
                Err(Refusal::Lasting(why)) if *taken => {
                    parts.push(self.set_aside(units.start, why, batch, name));
                }
                Err(Refusal::Lasting(why)) => refused.push((units.start, why)),
                Err(refusal) => {
                    // What took too long may take too long again, each time: less of it is asked for.
                    let middle = units.start + units.len() / 2;
                    if refusal.is_late() && units.len() > 1 {
                        todo.extend([middle..units.end, units.start..middle]);
                    } else {
                        todo.push(units);
                    }
                    return Err(refusal);
                }
            }
            if refused.len() == HOPELESS || todo.is_empty() {
                if !self.are_believed_alone(refused.len()) {
                    let why = refused.pop().map(|(_, why)| why).unwrap_or_default();
                    refused.clear();
                    todo.clear();
                    todo.push(parts.last().map_or(0, |part| part.units.end)..batch.len());
                    return Err(Refusal::Lasting(why));
                }
                for (unit, why) in refused.drain(..) {
                    parts.push(self.set_aside(unit, why, batch, name));
                }
            }
        }
        Ok(())
    }

    fn are_believed_alone(&mut self, units: usize) -> bool {
        if units == 0 {
            return true;
        }
        let (since, before) = self.refusing.get_or_insert((Instant::now(), 0));
        let (at_once, each) = self.alone;
        let more = since.elapsed().as_millis() / each.as_millis().max(1);
        let believed = *before + units <= at_once.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
        if believed {
            *before += units;
        }
        believed
    }

    fn set_aside<T, A>(
        &self,
        unit: usize,
        why: String,
        batch: &[T],
        name: &impl Fn(&T) -> String,
    ) -> Part<A> {
        self.aside.note(name(&batch[unit]), why);
        Part { units: unit..unit + 1, answer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Fault, StoreError};
    use std::sync::{Arc, Mutex};

    const PAUSE: Duration = Duration::from_millis(1);

    fn writes() -> Writes {
        Writes::of("test", "cima_test_failures_total", Backoff::between(PAUSE, PAUSE))
    }

    /// What a store makes of one number.
    type Rule = fn(u32) -> Stored<()>;

    fn corrupt(n: u32) -> Stored<()> {
        Err(StoreError::new(Fault::Corrupt, n.to_string()))
    }

    /// A store of numbers with a rule, that takes a batch whole or not at all.
    #[derive(Clone, Default)]
    struct Numbers(Arc<Mutex<(Vec<u32>, usize)>>);

    impl Numbers {
        fn by(&self, rule: Rule) -> impl for<'a> Fn(&'a [u32]) -> BoxFuture<'a, Stored<u32>> + use<> {
            let numbers = self.clone();
            move |batch| {
                let numbers = numbers.clone();
                Box::pin(async move {
                    numbers.0.lock().unwrap_or_else(|e| e.into_inner()).1 += 1;
                    batch.iter().try_for_each(|n| rule(*n))?;
                    numbers.0.lock().unwrap_or_else(|e| e.into_inner()).0.extend(batch);
                    Ok(batch.iter().sum())
                })
            }
        }
        /// A store that is too slow for more than so many at once.
        fn in_parts_of(
            &self,
            most: usize,
        ) -> impl for<'a> Fn(&'a [u32]) -> BoxFuture<'a, Stored<u32>> + use<> {
            let take = self.by(|_| Ok(()));
            move |batch| match batch.len() > most {
                true => Box::pin(async { Err(StoreError::late()) }),
                false => take(batch),
            }
        }
        fn taken(&self) -> Vec<u32> {
            self.0.lock().unwrap().0.clone()
        }
        fn calls(&self) -> usize {
            self.0.lock().unwrap().1
        }
    }

    fn aside(parts: &[Part<u32>]) -> Vec<usize> {
        parts.iter().filter(|part| part.answer.is_none()).map(|part| part.units.start).collect()
    }

    #[tokio::test]
    async fn a_batch_that_takes_too_long_is_written_in_smaller_parts() {
        let numbers = Numbers::default();
        let batch: Vec<u32> = (0..64).collect();
        let parts = writes().all(&batch, numbers.in_parts_of(8), u32::to_string).await;
        assert_eq!((numbers.taken(), parts.len(), aside(&parts)), (batch, 8, vec![]));
    }

    #[tokio::test]
    async fn one_that_is_refused_is_found_and_the_others_are_written_in_their_order() {
        for (poison, rule) in [
            (1, (|n| if n == 1 { corrupt(n) } else { Ok(()) }) as Rule),
            (13, |n| if n == 13 { corrupt(n) } else { Ok(()) }),
            (64, |n| if n == 64 { panic!("no more") } else { Ok(()) }),
        ] {
            let (numbers, batch) = (Numbers::default(), (1..=64).collect::<Vec<u32>>());
            let parts = writes().all(&batch, numbers.by(rule), u32::to_string).await;
            let others: Vec<u32> = (1..=64).filter(|n| *n != poison).collect();
            assert_eq!(numbers.taken(), others);
            assert_eq!(aside(&parts), [poison as usize - 1]);
            let mut next = 0;
            for part in &parts {
                assert_eq!(part.units.start, next, "every unit is in one part, in order");
                next = part.units.end;
                let sum: u32 = batch[part.units.clone()].iter().sum();
                assert!(part.answer.is_none_or(|answer| answer == sum));
            }
            assert_eq!(next, 64);
            assert!(numbers.calls() <= 13, "{} calls", numbers.calls());
        }
    }

    #[tokio::test]
    async fn of_a_store_that_refuses_everything_little_is_set_aside() {
        let (numbers, batch) = (Numbers::default(), (1..=300).collect::<Vec<u32>>());
        let mut writes = writes();
        for _ in 0..10 {
            writes.once(&batch, numbers.by(corrupt), u32::to_string).await.unwrap_err();
        }
        assert!(numbers.taken().is_empty());
        // It is well again.
        let parts = writes.once(&batch, numbers.by(|_| Ok(())), u32::to_string).await.unwrap();
        assert_eq!((aside(&parts), numbers.taken().len()), (vec![], 300));
    }

    #[tokio::test]
    async fn one_that_comes_alone_is_set_aside_and_not_many() {
        let (numbers, mut writes) = (Numbers::default(), writes());
        for n in 1..=3 {
            let parts = writes.once(&[n], numbers.by(corrupt), u32::to_string).await.unwrap();
            assert_eq!(aside(&parts), [0]);
        }
        writes.once(&[4], numbers.by(corrupt), u32::to_string).await.unwrap_err();
        // One that is taken says that the store is well.
        let parts = writes.once(&[5], numbers.by(|_| Ok(())), u32::to_string).await.unwrap();
        assert!(aside(&parts).is_empty());
        let parts = writes.once(&[6], numbers.by(corrupt), u32::to_string).await.unwrap();
        assert_eq!(aside(&parts), [0]);
    }

    #[tokio::test]
    async fn a_batch_of_which_every_unit_is_refused_is_not_tried_for_ever() {
        let (numbers, batch) = (Numbers::default(), (1..=10).collect::<Vec<u32>>());
        let (began, each) = (Instant::now(), Duration::from_millis(10));
        let mut writes = Writes { alone: (3, each), ..writes() };
        let parts = writes.all(&batch, numbers.by(corrupt), u32::to_string).await;
        assert_eq!(aside(&parts).len(), 10);
        assert!(began.elapsed() >= each * 7, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_waited_for() {
        let (numbers, tries) = (Numbers::default(), Mutex::new(0));
        let batch = [1, 2, 3, 4];
        let write = numbers.by(|n| if n == 3 { corrupt(n) } else { Ok(()) });
        let mut writes = writes();
        let parts = writes.all(
            &batch,
            |part| {
                let away = {
                    let mut tries = tries.lock().unwrap();
                    *tries += 1;
                    *tries % 2 == 1
                };
                if away { Box::pin(async { Err(StoreError::new(Fault::Gone, "away")) }) } else { write(part) }
            },
            u32::to_string,
        );
        let parts = parts.await;
        assert_eq!((numbers.taken(), aside(&parts)), (vec![1, 2, 4], vec![2]));
    }
}
