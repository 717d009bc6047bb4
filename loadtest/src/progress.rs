//! What a run has counted so far, said once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Counts that all phones of a run share.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) alerts: AtomicU64,
}

impl Tally {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }
}

/// Says the tally to standard error each second until it is dropped.
pub(crate) struct Progress(JoinHandle<()>);

impl Progress {
    pub(crate) fn start(what: String, tally: Arc<Tally>) -> Self {
        Self(tokio::spawn(async move {
            let mut before = 0;
            for second in 1.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let sent = tally.sent.load(Ordering::Relaxed);
                let (acked, alerts) = (tally.acked(), tally.alerts.load(Ordering::Relaxed));
                let rate = acked - before;
                eprintln!("{what} {second:>3} s: sent {sent}, acked {acked} (+{rate}/s), alerts {alerts}");
                before = acked;
            }
        }))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
    }
}
