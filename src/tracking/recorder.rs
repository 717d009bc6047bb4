//! The recorder: makes fixes durable in groups. While one group is written the next one gathers, so the cost of a
//! sync to disk is shared by all phones that are streaming.

use super::{FixStore, NewFix};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::DeviceId;
use crate::runtime::{Tasks, detach};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Batches that may wait in the queue.
const QUEUE: usize = 4_096;
/// Fixes of one group, about: more gain nothing and make the first wait.
const GROUP: usize = 4_096;
/// Between tries while the store does not answer; no fix is acked meanwhile.
const RETRY: Duration = Duration::from_millis(200);

/// What became of a batch that is now on disk.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `seq`s that were there already, with the same time.
    pub duplicates: Vec<i64>,
    /// `seq`s that are there with another time; these fixes were not stored.
    pub conflicts: Vec<i64>,
}

/// Called when the batch is on disk, and never before.
pub type Receipt = Box<dyn FnOnce(Recorded) + Send>;

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
        tasks.spawn_last("recorder", run(store, batches));
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

/// Ends when every sender is gone and the last batch is on disk.
async fn run(store: Arc<dyn FixStore>, mut batches: mpsc::Receiver<Batch>) {
    let mut group = Vec::new();
    while let Some(first) = batches.recv().await {
        let mut gathered = first.fixes.len();
        group.push(first);
        while gathered < GROUP
            && let Ok(next) = batches.try_recv()
        {
            gathered += next.fixes.len();
            group.push(next);
        }
        let mut fixes = Vec::with_capacity(gathered);
        for batch in &group {
            fixes.extend(batch.fixes.iter().map(|fix| NewFix {
                device: batch.device,
                fix: fix.clone(),
                received_at: batch.received_at,
                streamed: batch.streamed,
            }));
        }
        let stored = loop {
            match store.record(&fixes).await {
                Ok(stored) => break stored,
                Err(error) => {
                    metrics::counter!("cima_recorder_failures_total").increment(1);
                    tracing::error!(%error, fixes = fixes.len(), "fixes could not be stored; none of them is acked");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        metrics::counter!("cima_fixes_recorded_total").increment(fixes.len() as u64);
        metrics::histogram!("cima_recorder_group_fixes").record(fixes.len() as f64);
        let mut start = 0;
        for batch in group.drain(..) {
            let end = start + batch.fixes.len();
            let seqs = |indices: &[usize]| -> Vec<i64> {
                indices.iter().filter(|i| (start..end).contains(i)).map(|i| fixes[*i].fix.seq).collect()
            };
            let recorded = if stored.duplicates.is_empty() && stored.conflicts.is_empty() {
                Recorded::default()
            } else {
                Recorded { duplicates: seqs(&stored.duplicates), conflicts: seqs(&stored.conflicts) }
            };
            (batch.receipt)(recorded);
            start = end;
        }
    }
}
