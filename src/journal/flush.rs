//! From the journal to the store: a heap at a time while the node runs, and what was left when it starts.

use super::append::{Journal, failed, left};
use super::{coding, segment};
use crate::error::Stored;
use crate::id::DeviceId;
use crate::runtime::{Tasks, blocking};
use crate::tracking::{FixKey, FixStore, NewFix};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Fixes that the store takes in one transaction: others write between two of them.
const AT_ONCE: usize = 16_384;
/// Between tries while the store does not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Starts the task that flushes a heap that is full, or old. It ends with the journal: while it waits it does not hold it.
pub(super) fn start(journal: &Arc<Journal>, tasks: &Tasks) {
    let (weak, full, age) = (Arc::downgrade(journal), Arc::clone(&journal.full), journal.limits.age);
    let stop = tasks.stop();
    tasks.spawn("journal", async move {
        let mut wait = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = full.notified(), if wait.is_none() => {}
                () = tokio::time::sleep(wait.unwrap_or(age)) => {}
            }
            let Some(journal) = weak.upgrade() else { break };
            wait = match journal.flush_heap().await {
                Ok(()) => None,
                Err(error) => {
                    tracing::error!(%error, "fixes could not be moved to the store; they are safe in the journal");
                    metrics::counter!("cima_journal_failures_total").increment(1);
                    Some(wait.map_or(RETRY.0, |before: Duration| RETRY.1.min(before * 2)))
                }
            };
        }
    });
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

    /// Moves one heap to the store and wipes its segments.
    async fn flush_heap(&self) -> Stored<()> {
        let mut unfinished = self.unfinished.lock().await;
        if unfinished.is_none() && !self.pending().is_empty() {
            *unfinished = Some(self.take_heap().await);
        }
        let Some((heap, segments)) = unfinished.as_ref() else { return Ok(()) };
        let mut block = Vec::with_capacity(AT_ONCE.min(heap.len()));
        for fix in heap.sorted() {
            block.push(fix.clone());
            if block.len() == AT_ONCE {
                keep(self.inner.as_ref(), &block).await?;
                block.clear();
            }
        }
        keep(self.inner.as_ref(), &block).await?;
        metrics::histogram!("cima_journal_heap_fixes").record(heap.len() as f64);
        self.pending_mut().flushed();
        self.freed.notify_waiters();
        let segments = segments.clone();
        *unfinished = None;
        wipe(segments).await;
        Ok(())
    }
}

async fn keep(store: &dyn FixStore, fixes: &[NewFix]) -> Stored<()> {
    if fixes.is_empty() {
        return Ok(());
    }
    let kept = store.record(fixes).await?;
    // Duplicates are of a flush that was repeated. A number is given out twice only by a phone that talks to two nodes.
    if !kept.conflicts.is_empty() {
        tracing::warn!(fixes = kept.conflicts.len(), "numbers were given out twice; the first stays");
        metrics::counter!("cima_journal_conflicts_total").increment(kept.conflicts.len() as u64);
    }
    Ok(())
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
pub(super) async fn replay(folder: &Path, store: &dyn FixStore) -> Stored<(u64, HashMap<DeviceId, FixKey>)> {
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
        for block in fixes.chunks(AT_ONCE) {
            keep(store, block).await?;
        }
        for fix in &fixes {
            let first = brought.entry(fix.device).or_insert(fix.fix.order());
            *first = fix.fix.order().min(*first);
        }
        tracing::info!(fixes = fixes.len(), torn, "the journal had fixes that are in the store now");
        if unreadable > 0 {
            tracing::error!(records = unreadable, segment = %path.display(), "records of the journal say nothing; the segment is kept");
            let _ = tokio::fs::rename(path, path.with_extension("unreadable")).await;
        } else {
            wipe(vec![path.clone()]).await;
        }
    }
    Ok((next, brought))
}
