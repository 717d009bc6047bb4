//! What keeping and dropping fixes needs from the store.

use super::super::{StoredFix, TrackPage};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId, UserId};
use async_trait::async_trait;
use std::time::Duration;

/// A device, and how long its fixes are kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Keeper {
    /// The device, removed or not.
    pub device: DeviceId,
    /// Whose.
    pub user: UserId,
    /// What they chose, if not the server's setting.
    pub retention: Option<Duration>,
    /// A check-in waits since then: should it be missed, contacts see the trail from there.
    pub held_from: Option<Timestamp>,
}

impl Keeper {
    /// The oldest time of a fix that is kept at `now`.
    pub fn keeps_from(&self, now: Timestamp, usual: Duration) -> Timestamp {
        let from = now - self.retention.unwrap_or(usual);
        self.held_from.map_or(from, |held| held.min(from))
    }
}

/// An emergency as far as it decides which fixes are kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Incident {
    /// Which.
    pub emergency: EmergencyId,
    /// Where its trail begins.
    pub from: Timestamp,
    /// Where it truly ended; none while it is open.
    pub to: Option<Timestamp>,
    /// The end that the subject's tokens see.
    pub shown_to: Option<Timestamp>,
}

/// A part of an emergency's trail that may be read: both ends included.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrailPart {
    /// Of which emergency.
    pub emergency: EmergencyId,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
}

/// Who keeps fixes, how long, and for which emergencies.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// All devices, by id, after `after`, at most `limit`.
    async fn keepers(&self, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Keeper>>;
    /// The person's emergencies that are open or ended at or after `since`, oldest first.
    async fn incidents(&self, user: UserId, since: Timestamp) -> Stored<Vec<Incident>>;
    /// Every device the person has or had, by id: those that were removed may still have fixes.
    async fn every_device_of(&self, user: UserId) -> Stored<Vec<DeviceId>>;
}

/// The trails of emergencies, and how fixes come to be there and nowhere.
#[async_trait]
pub trait TrailStore: Send + Sync {
    /// Which of the devices have fixes before the time that is named with them.
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>>;
    /// Drops some of the device's oldest fixes before `before`, in one short transaction that first copies to the trails
    /// those in the windows of `incidents`, and for an open one the newest fix of all, whatever its age. How many were
    /// dropped; 0 when there are no more.
    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64>;
    /// As [`super::super::FixStore::page`], of the parts of trails; each fix once, whatever number of trails it is in.
    async fn trail_page(
        &self,
        devices: &[DeviceId],
        parts: &[TrailPart],
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>>;
    /// As [`super::super::FixStore::newest`], of the parts of trails.
    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>>;
    /// Drops an emergency's trail; how many fixes that were.
    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64>;
    /// Leaves nothing in the files of what was dropped, as far as that keeps nobody waiting.
    async fn wipe_fixes(&self) -> Stored<()>;
}
