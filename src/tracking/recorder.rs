//! The recorder: makes fixes durable in groups. While one group is written the next one gathers, so the cost of a
//! sync to disk is shared by all phones that are streaming.

use super::{FixStore, NewFix};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::DeviceId;
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches that may wait; beyond, the senders wait, and with them their phones.
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

    /// Hands a batch over; waits while the queue is full. `false` if the node is stopping.
    pub async fn submit(
        &self,
        device: DeviceId,
        fixes: Arc<[Fix]>,
        received_at: Timestamp,
        streamed: bool,
        receipt: Receipt,
    ) -> bool {
        self.queue.send(Batch { device, fixes, received_at, streamed, receipt }).await.is_ok()
    }

    /// Batches that wait now.
    pub fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }
}

/// Ends when every sender is gone and the last batch is on disk.
async fn run(store: Arc<dyn FixStore>, mut batches: mpsc::Receiver<Batch>) {
    let mut group = Vec::new();
    while batches.recv_many(&mut group, GROUP / 8).await > 0 {
        let mut fixes = Vec::new();
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
