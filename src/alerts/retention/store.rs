//! What has had its time, and how it goes. Everything here works in short transactions that an emergency waits for as
//! little as for any other.

use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::EmergencyId;
use async_trait::async_trait;
use std::time::Duration;

/// Old alerts, transitions and emergencies.
#[async_trait]
pub trait ExpiryStore: Send + Sync {
    /// Deletes the alerts stored before `before` with their deliveries; their places in inboxes stay. Those of an
    /// emergency wait for its end, as the subject sees it. How many.
    async fn expire_alerts(&self, before: Timestamp) -> Stored<u64>;
    /// Deletes the transitions that happened before `before`, unless a fix can still come from before them (fixes are
    /// kept for `fixes` unless their person chose otherwise), or the state at `before` of a fence follows from them. How
    /// many.
    async fn expire_transitions(&self, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64>;
    /// Forgets who entered which zone before `before`; who is still there is told once more. How many.
    async fn expire_zone_visits(&self, before: Timestamp) -> Stored<u64>;
    /// Marks the emergencies whose end, as the subject sees it, was before `before`: to the subject they are from now on
    /// no more than that they were. How many.
    async fn bare_emergencies(&self, before: Timestamp) -> Stored<u64>;
    /// Emergencies that truly ended before `before` and are not erased, at most `limit`.
    async fn past_emergencies(&self, before: Timestamp, limit: u32) -> Stored<Vec<EmergencyId>>;
    /// Deletes what an ended emergency was about: message, opening fix, claims. Its ids and how it ended stay for ever.
    async fn erase_emergency(&self, id: EmergencyId) -> Stored<()>;
    /// Leaves nothing in the files of what was deleted, as far as that keeps nobody waiting.
    async fn wipe(&self) -> Stored<()>;
}
