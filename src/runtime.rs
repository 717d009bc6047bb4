//! Tasks: each has a name and a parent, stops when told, and takes the process down if it dies.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one node.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    last: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// Starts a task that ends when [`Tasks::stop`] is cancelled. If it panics the node stops and says so.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(&self.0.tracker, name, task);
    }

    /// Starts a task that ends by itself when all who feed it are gone; it is waited for last.
    pub fn spawn_last(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(&self.0.last, name, task);
    }

    fn start(
        &self,
        tracker: &TaskTracker,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = tracker.track_future(task);
        let failed = self.0.failed.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
        tokio::spawn(async move {
            let guard = failed.clone().drop_guard();
            task.await;
            guard.disarm();
            tracing::debug!(task = name, "ended");
        });
    }

    /// Cancelled when the node is to stop.
    pub fn stop(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Cancelled when a task has died that must not.
    pub fn failed(&self) -> CancellationToken {
        self.0.failed.clone()
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

/// Runs what blocks on a thread where it may, and waits for it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never cancelled once it runs: it panicked, and so does whoever needs it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Starts something short that nobody waits for and whose loss at a stop loses nothing.
pub fn detach(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
    tokio::spawn(async move {
        task.await;
        tracing::trace!(task = name, "ended");
    });
}
