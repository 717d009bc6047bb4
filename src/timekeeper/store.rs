//! What a timekeeper needs from the store.

use crate::clock::Timestamp;
use crate::error::Stored;
use async_trait::async_trait;

/// What the store says of the time.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// Its clock.
    pub now: Timestamp,
    /// The newest time that any node has seen on it since the last step.
    pub newest: Timestamp,
    /// How often what is due was moved with it.
    pub steps: i64,
    /// By how much it was moved last, in milliseconds.
    pub last_step_ms: i64,
    /// The last one took the one before it back.
    pub undone: bool,
}

/// The clock of a store.
#[async_trait]
pub trait TimeStore: Send + Sync {
    /// What it says now; that it was seen is stored. A store without a clock of its own goes by `wall`.
    ///
    /// # Errors
    /// When it takes no emergency now.
    async fn seen(&self, wall: Timestamp) -> Stored<Seen>;

    /// Moves everything that is due by `by_ms`, if nobody did since step number `from`; whether it did. Where something
    /// is changed at the same time, one of both is made again.
    ///
    /// # Errors
    /// When it does not answer.
    async fn step(&self, from: i64, by_ms: i64, undoes: bool, wall: Timestamp) -> Stored<bool>;
}
