//! From the journal to the store: a heap at a time while the node runs, and what was left when it starts.

use super::append::{Journal, failed, left};
use super::segment::Segment;
use super::{coding, segment};
use crate::error::Stored;
use crate::id::DeviceId;
use crate::runtime::{Backoff, Refusal, Rounds, Tasks, Writes, blocking};
use crate::tracking::{FixKey, FixStore, NewFix};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Fixes that the store takes in one transaction: others write between two of them.
const AT_ONCE: usize = 16_384;
/// Between tries while the store does not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Moves heaps that are full, or old. Ends with the journal: while it waits it does not hold it.
struct Flushes {
    journal: Weak<Journal>,
    full: Arc<Notify>,
    age: Duration,
    backoff: Backoff,
}

/// Starts the task that flushes.
pub(super) fn start(journal: &Arc<Journal>, tasks: &Tasks) {
    let (weak, full, age) = (Arc::downgrade(journal), Arc::clone(&journal.full), journal.limits.age);
    let flushes = Flushes { journal: weak, full, age, backoff: Backoff::between(RETRY.0, RETRY.1) };
    tasks.rounds("journal", flushes);
}

impl Rounds for Flushes {
    /// The pause after a failure.
    type Next = Option<Duration>;

    async fn round(&mut self) -> Option<Option<Duration>> {
        match self.journal.upgrade()?.flush_heap().await {
            Ok(()) => {
                self.backoff.reset();
                Some(None)
            }
            Err(error) => {
                tracing::error!(%error, "fixes could not be moved to the store; they are safe in the journal");
                Some(Some(self.backoff.pause()))
            }
        }
    }

    async fn wait(&mut self, pause: Option<Duration>) {
        tokio::select! {
            () = self.full.notified(), if pause.is_none() => {}
            () = tokio::time::sleep(pause.unwrap_or(self.age)) => {}
        }
    }
}

impl Journal {
    /// Moves everything that waits to the store.
    ///
    /// # Errors
    /// When the store does not take it; it is moved by the next flush, or at the next start.
    pub async fn flush(&self) -> Stored<()> {
        while !self.pending().is_empty() {
            self.flush_heap().await?;
        }
        Ok(())
    }

    /// Moves one heap to the store and wipes its segments. A fix that the store refuses for good goes to a segment of its
    /// own, which the next start reads: it was acked, and may be taken by then.
    async fn flush_heap(&self) -> Stored<()> {
        let mut unfinished = self.unfinished.lock().await;
        if unfinished.is_none() && !self.pending().is_empty() {
            *unfinished = Some(self.take_heap().await);
        }
        let Some((heap, segments)) = unfinished.as_ref() else { return Ok(()) };
        let (mut block, mut refused) = (Vec::with_capacity(AT_ONCE.min(heap.len())), Vec::new());
        {
            let mut writes = self.writes.lock().await;
            for fix in heap.sorted() {
                block.push(fix.clone());
                if block.len() == AT_ONCE {
                    refused.extend(keep(&self.inner, &mut writes, &block).await?);
                    block.clear();
                }
            }
            refused.extend(keep(&self.inner, &mut writes, &block).await?);
        }
        self.set_aside(refused).await?;
        metrics::histogram!("cima_journal_heap_fixes").record(heap.len() as f64);
        self.pending_mut().flushed();
        self.freed.notify_waiters();
        let segments = segments.clone();
        *unfinished = None;
        wipe(segments).await;
        Ok(())
    }

    async fn set_aside(&self, fixes: Vec<NewFix>) -> Stored<()> {
        if fixes.is_empty() {
            return Ok(());
        }
        let (folder, number) = (self.folder.clone(), self.next_number().await);
        let written =
            blocking(move || Segment::create(&folder, number)?.append(&coding::encode(fixes.iter())));
        written.await.map_err(|e| failed(&self.folder, e))
    }
}

/// One who moves fixes to the store.
pub(super) fn writes() -> Writes {
    Writes::of("fix", "cima_journal_failures_total", Backoff::between(RETRY.0, RETRY.1))
}

/// Stores fixes; those that are refused for good.
async fn keep(store: &Arc<dyn FixStore>, writes: &mut Writes, fixes: &[NewFix]) -> Stored<Vec<NewFix>> {
    let parts = writes.once(
        fixes,
        |part| {
            let store = Arc::clone(store);
            Box::pin(async move { store.record(part).await })
        },
        NewFix::ids,
    );
    let mut refused = Vec::new();
    for part in parts.await? {
        let Some(kept) = part.answer else {
            refused.extend_from_slice(&fixes[part.units]);
            continue;
        };
        // Duplicates are of a flush that was repeated. A number is given out twice only by a phone that talks to two nodes.
        if !kept.conflicts.is_empty() {
            tracing::warn!(fixes = kept.conflicts.len(), "numbers were given out twice; the first stays");
            metrics::counter!("cima_journal_conflicts_total").increment(kept.conflicts.len() as u64);
        }
    }
    Ok(refused)
}

/// Their fixes are in the store: a segment that cannot be wiped now is, after the next start has read it again.
async fn wipe(segments: Vec<PathBuf>) {
    let wiped = blocking(move || {
        for path in segments {
            if let Err(error) = segment::shred(&path) {
                tracing::warn!(%error, segment = %path.display(), "a segment of the journal could not be wiped");
            }
        }
    });
    wiped.await;
}

/// Brings what a crash left in the folder to the store. The number of the next segment, and for each device the first
/// place of what was brought.
///
/// A segment with a fix that is refused for good stays, and is read again at the next start.
pub(super) async fn replay(
    folder: &Path,
    store: &Arc<dyn FixStore>,
    writes: &mut Writes,
) -> Stored<(u64, HashMap<DeviceId, FixKey>)> {
    let mut brought: HashMap<DeviceId, FixKey> = HashMap::new();
    let in_folder = folder.to_owned();
    let (segments, next) = blocking(move || left(&in_folder)).await.map_err(|e| failed(folder, e))?;
    for path in &segments {
        let of = path.clone();
        let read = blocking(move || {
            let (mut fixes, mut unreadable) = (Vec::new(), 0_u64);
            let torn = segment::read(&of, |payload| match coding::decode(payload) {
                Some(found) => fixes.extend(found),
                None => unreadable += 1,
            })?;
            Ok((fixes, torn, unreadable))
        });
        let (fixes, torn, unreadable) = read.await.map_err(|e| failed(path, e))?;
        let mut refused = 0;
        for block in fixes.chunks(AT_ONCE) {
            refused += match keep(store, writes, block).await {
                Ok(refused) => refused.len(),
                Err(error) => match Refusal::from(error) {
                    Refusal::Passing(error) => return Err(error),
                    // A node that starts can take an emergency.
                    Refusal::Lasting(why) => {
                        tracing::error!(
                            why,
                            fixes = block.len(),
                            "fixes of the journal are refused; the next start offers them again"
                        );
                        block.len()
                    }
                },
            };
        }
        for fix in &fixes {
            let first = brought.entry(fix.device).or_insert(fix.fix.order());
            *first = fix.fix.order().min(*first);
        }
        tracing::info!(fixes = fixes.len(), torn, refused, "the journal had fixes that are in the store now");
        if unreadable > 0 {
            tracing::error!(records = unreadable, segment = %path.display(), "records of the journal say nothing; the segment is kept");
            let _ = tokio::fs::rename(path, path.with_extension("unreadable")).await;
        } else if refused == 0 {
            wipe(vec![path.clone()]).await;
        }
    }
    Ok((next, brought))
}
