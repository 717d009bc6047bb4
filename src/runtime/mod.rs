//! Tasks and what they have in common: how one is started and stopped, what is done every so often, what is gathered and
//! written in groups, when something is tried again, and what is set aside.
//!
//! A panic or a permanent refusal belongs to the unit of work that met it. [`Tasks`] says what becomes of a task that
//! dies; [`Writes`] finds the one unit of a batch that is refused.

mod backoff;
mod every;
mod gather;
mod mechanism;
mod panics;
mod refusal;
mod sos;
mod stuck;
mod tasks;
mod writes;

pub use backoff::Backoff;
pub use every::{Pace, Rounds, repeat};
pub use gather::Gathers;
pub use mechanism::Mechanism;
pub use panics::{Panicked, attempt, caught};
pub use refusal::{Refusal, SetAside, tried};
pub use sos::Reached;
pub use stuck::Stuck;
pub use tasks::{Tasks, detach};
pub use writes::{Part, Writes};

use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Waits for something until it is time to stop; `None` if that came first.
pub async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = work => Some(done),
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
