//! What check-ins need from the store. Every method is one use case and atomic; absent is `Ok(None)`.

use super::CheckIn;
use crate::alerts::{AlertDraft, Change, Committed, Emergency};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{CheckInId, UserId};
use async_trait::async_trait;

/// What became of a new check-in.
#[derive(Clone, PartialEq, Debug)]
pub enum CheckInCreated {
    /// It is stored.
    Created,
    /// The person has one of this id: what it is now.
    Repeated(CheckIn),
    /// The id is somebody else's check-in.
    Conflict,
    /// As many as may wait do.
    TooMany,
}

/// What became of a miss.
#[derive(Clone, PartialEq, Debug)]
pub enum Fired {
    /// Stored: the check-in is missed, its emergency raised or joined, its alerts told.
    Stored(Committed),
    /// Nothing stored: the check-in has changed; it may have been completed.
    Stale,
    /// Nothing stored: this emergency takes joins; join it.
    Open(Box<Emergency>),
    /// Nothing stored: the emergency to join has changed; look again.
    Changed,
    /// Nothing stored: the emergency's id is used already; raise with another.
    IdTaken,
}

/// Where a list of check-ins goes on: those that wait come first, each part by id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckInCursor {
    /// Whether the last one shown waited.
    pub waiting: bool,
    /// The last one shown.
    pub id: CheckInId,
}

/// Check-ins' part of the store.
#[async_trait]
pub trait CheckInStore: Send + Sync {
    /// Stores a new one, unless so many of the person's wait already.
    async fn create_check_in(&self, check_in: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated>;
    /// The person's check-in, a deleted one too.
    async fn check_in(&self, subject: UserId, id: CheckInId) -> Stored<Option<CheckIn>>;
    /// The person's check-ins without deleted ones: those that wait first, then the others, each by id.
    async fn check_ins(
        &self,
        subject: UserId,
        after: Option<CheckInCursor>,
        limit: u32,
    ) -> Stored<Vec<CheckIn>>;
    /// Stores a change with its alerts if the version is still the one it was made from; `None` if not.
    async fn change_check_in(&self, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>>;
    /// Stores a missed check-in, if the version is still the one it was made from, together with the emergency that it
    /// opens or, if `change.joined` is set, joins.
    async fn fire_check_in(&self, missed: &CheckIn, change: Change<'_>) -> Stored<Fired>;
    /// The earliest time at which a timer has to look at one.
    async fn next_check_in(&self) -> Stored<Option<Timestamp>>;
    /// Those that a timer has to look at, the longest overdue first.
    async fn due_check_ins(&self, now: Timestamp) -> Stored<Vec<CheckIn>>;
    /// The people and ids of those, also where one of them cannot be read.
    async fn due_check_in_ids(&self, now: Timestamp) -> Stored<Vec<(UserId, CheckInId)>>;
    /// Removes all of the person's: none of them fires from now on.
    async fn forget_check_ins(&self, subject: UserId) -> Stored<()>;
}
