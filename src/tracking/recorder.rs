//! The recorder: makes fixes durable in groups. While one group is written the next one gathers, so the cost of a
//! sync to disk is shared by all phones that are streaming.

use super::{FixBatch, FixStore, NewFix};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::DeviceId;
use crate::runtime::{Backoff, Gathers, Part, SetAside, Tasks, Writes, attempt, detach};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Batches that may wait in the queue.
const QUEUE: usize = 4_096;
/// Fixes of one group, about: more gain nothing and make the first wait.
const GROUP: usize = 4_096;
/// Between tries while the store does not answer, at first and at most; no fix is acked meanwhile.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// What became of a batch: what is stored of it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `seq`s that were there already, with the same time.
    pub duplicates: Vec<i64>,
    /// `seq`s that are there with another time, or that the store refuses for good; these fixes were not stored.
    pub conflicts: Vec<i64>,
}

/// Called when the batch is on disk, and never before.
pub type Receipt = Box<dyn FnOnce(Recorded) + Send>;

/// Fixes of one device that came together.
struct Batch {
    device: DeviceId,
    fixes: Arc<[Fix]>,
    received_at: Timestamp,
    streamed: bool,
    receipt: Receipt,
}

/// The way to the recorder's task.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Batch>,
}

impl Recorder {
    /// Starts the task.
    pub fn start(store: Arc<dyn FixStore>, tasks: &Tasks) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE);
        let writes = Writes::of("fix", "cima_recorder_failures_total", Backoff::between(RETRY.0, RETRY.1));
        tasks.gather("recorder", batches, GROUP, Groups { store, writes, receipts: SetAside::of("receipt") });
        Self { queue }
    }

    /// Hands a batch over. When the queue is full it waits beside it, so that nothing behind it on its socket does:
    /// what waits there is bounded by the windows of the sockets. `false` if the node is stopping.
    pub fn submit(
        &self,
        device: DeviceId,
        fixes: Arc<[Fix]>,
        received_at: Timestamp,
        streamed: bool,
        receipt: Receipt,
    ) -> bool {
        match self.queue.try_send(Batch { device, fixes, received_at, streamed, receipt }) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(batch)) => {
                metrics::counter!("cima_recorder_full_total").increment(1);
                let queue = self.queue.clone();
                detach("recorder queue", async move {
                    // Closed while it waited: it was never acked, and the phone has it.
                    let _ = queue.send(batch).await;
                });
                true
            }
        }
    }
}

/// Writes groups of batches and gives out the receipts.
struct Groups {
    store: Arc<dyn FixStore>,
    writes: Writes,
    receipts: SetAside,
}

impl Gathers for Groups {
    type Item = Batch;

    fn weight(batch: &Batch) -> usize {
        batch.fixes.len()
    }

    async fn take(&mut self, group: Vec<Batch>) {
        let mut fixes = Vec::with_capacity(group.iter().map(|batch| batch.fixes.len()).sum());
        for batch in &group {
            fixes.extend(batch.fixes.iter().map(|fix| NewFix {
                device: batch.device,
                fix: fix.clone(),
                received_at: batch.received_at,
                streamed: batch.streamed,
            }));
        }
        let store = Arc::clone(&self.store);
        let parts = self.writes.all(
            &fixes,
            |part| {
                let store = Arc::clone(&store);
                Box::pin(async move { store.record(part).await })
            },
            NewFix::ids,
        );
        let parts = parts.await;
        metrics::counter!("cima_fixes_recorded_total").increment(fixes.len() as u64);
        metrics::histogram!("cima_recorder_group_fixes").record(fixes.len() as f64);
        let stored = merged(parts);
        let mut start = 0;
        for batch in group {
            let end = start + batch.fixes.len();
            let recorded = stored.of(start..end, &fixes);
            let device = batch.device;
            // One socket's or tracker's fault is no reason to keep an ack from the others.
            if let Err(panicked) = attempt(move || (batch.receipt)(recorded)) {
                self.receipts.note(device, panicked);
            }
            start = end;
        }
    }
}

/// What the store said of a group, all of its parts together. What was set aside counts among the conflicts: it is not
/// stored and never will be, and the phone need not send it again.
fn merged(parts: Vec<Part<FixBatch>>) -> Answer {
    let mut answer = Answer(FixBatch::default());
    for Part { units, answer: stored } in parts {
        match stored {
            Some(stored) => {
                answer.0.duplicates.extend(stored.duplicates.iter().map(|n| units.start + n));
                answer.0.conflicts.extend(stored.conflicts.iter().map(|n| units.start + n));
            }
            None => answer.0.conflicts.extend(units),
        }
    }
    answer
}

/// What the store said, by places in the group.
struct Answer(FixBatch);

impl Answer {
    fn of(&self, places: Range<usize>, fixes: &[NewFix]) -> Recorded {
        let seqs = |indices: &[usize]| -> Vec<i64> {
            indices.iter().filter(|n| places.contains(n)).map(|n| fixes[*n].fix.seq).collect()
        };
        Recorded { duplicates: seqs(&self.0.duplicates), conflicts: seqs(&self.0.conflicts) }
    }
}
