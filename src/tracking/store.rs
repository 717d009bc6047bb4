//! What tracking needs from the store. Every method is one use case and atomic; absent is `Ok(None)`.
//!
//! Two stores: [`TrackingStore`] keeps fences and their states beside alerts; [`FixStore`] keeps fixes in a file
//! (or table) of their own, so that a flood of fixes is never in front of an alarm.

use super::{Geofence, Membership, OwnershipStore, RetentionStore, TrackPage, TrailStore, Transition};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, NodeId, UserId};
use async_trait::async_trait;

/// What became of a new fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceCreated {
    /// It is new.
    Created,
    /// The same owner has this id already: a repeat.
    Repeated,
    /// The id is somebody else's.
    Conflict,
    /// The owner would have more fences or vertices than the limits.
    TooMany,
}

/// What is known of one device against one fence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FenceState {
    /// Which fence.
    pub fence: GeofenceId,
    /// Of which revision of its shape.
    pub revision: i64,
    /// Inside, outside or not known.
    pub membership: Membership,
    /// When the fix was taken that made it so.
    pub since: Timestamp,
    /// That fix's number.
    pub since_seq: i64,
    /// It has been inside for the fence's dwell, and that was found.
    pub dwelled: bool,
    /// When it will have been, if the fence is watched for it: a timer, so that a stream that stops still fires.
    pub dwell_at: Option<Timestamp>,
}

/// What a device's tracker goes on from: the states, and the newest fix that went into them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DeviceTail {
    /// One a fence.
    pub states: Vec<FenceState>,
    /// (`fixed_at`, `seq`) of the newest fix in them.
    pub folded_to: Option<(Timestamp, i64)>,
}

/// A transition in the history of a person.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredTransition {
    /// What happened.
    pub transition: Transition,
    /// A late fix has shown that it did not happen.
    pub retracted: bool,
}

/// Fences, their states and their history.
#[async_trait]
pub trait TrackingStore: RetentionStore + OwnershipStore {
    /// Creates a fence unless the owner would have more than `max_fences` or `max_vertices`.
    async fn create_fence(
        &self,
        fence: &Geofence,
        max_fences: u32,
        max_vertices: u32,
    ) -> Stored<FenceCreated>;
    /// The fence, if it is the owner's.
    async fn fence(&self, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>>;
    /// The owner's fences, by id, after `after`, at most `limit`.
    async fn fences(&self, owner: UserId, after: Option<GeofenceId>, limit: u32) -> Stored<Vec<Geofence>>;
    /// Replaces a fence of the owner's under the same limits; its revision grows by one. The fence after it.
    async fn replace_fence(
        &self,
        fence: &Geofence,
        max_fences: u32,
        max_vertices: u32,
    ) -> Stored<Option<Result<Geofence, FenceCreated>>>;
    /// Deletes a fence with its states; its history stays. `false` if it is not the owner's.
    async fn delete_fence(&self, owner: UserId, id: GeofenceId) -> Stored<bool>;
    /// What the device's tracker goes on from.
    async fn device_tail(&self, device: DeviceId) -> Stored<DeviceTail>;
    /// The tracked device of a person.
    async fn tracked_device(&self, user: UserId) -> Stored<Option<DeviceId>>;
    /// All devices of a person that are not removed, the tracked one first.
    async fn devices_of(&self, user: UserId) -> Stored<Vec<DeviceId>>;
    /// Ids and names of the owner's fences that the device is in.
    async fn fences_inside(&self, owner: UserId, device: DeviceId) -> Stored<Vec<(GeofenceId, String)>>;
    /// The device's transitions at or after `from`, in event order, retracted ones too.
    async fn transitions_since(&self, device: DeviceId, from: Timestamp) -> Stored<Vec<StoredTransition>>;
    /// People and tracked devices of which a dwell is due at `now`, at most `limit`. Of devices that another node owns, only
    /// those whose dwell was due at `others` already.
    async fn due_dwells(
        &self,
        now: Timestamp,
        node: NodeId,
        others: Timestamp,
        limit: u32,
    ) -> Stored<Vec<(UserId, DeviceId)>>;
    /// The device's state against each fence just before `before`, from its history. `dwell_at` is left to the tracker.
    async fn states_before(&self, device: DeviceId, before: (Timestamp, i64)) -> Stored<Vec<FenceState>>;
}

/// A fix of a device, to be made durable.
#[derive(Clone, PartialEq, Debug)]
pub struct NewFix {
    /// Whose phone.
    pub device: DeviceId,
    /// The reading.
    pub fix: Fix,
    /// When the server had it.
    pub received_at: Timestamp,
    /// Came by the stream: it moves `last_seq`.
    pub streamed: bool,
}

impl NewFix {
    /// Which fix it is, for the log: its device and number, and nothing of the reading.
    pub fn ids(&self) -> String {
        format!("{} {}", self.device, self.fix.seq)
    }
}

/// What became of a group of fixes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FixBatch {
    /// Indices (into the group) of fixes that were there already.
    pub duplicates: Vec<usize>,
    /// Indices of fixes whose `seq` is there with another time; they are not stored.
    pub conflicts: Vec<usize>,
}

/// A fix as it was kept.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredFix {
    /// From which device.
    pub device: DeviceId,
    /// The reading.
    pub fix: Fix,
    /// When the server had it.
    pub received_at: Timestamp,
}

/// The fixes.
#[async_trait]
pub trait FixStore: TrailStore {
    /// Stores a group in one transaction that is on disk when this returns. Idempotent by (device, seq).
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch>;
    /// The times of those of the asked numbers that are stored.
    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>>;
    /// The highest number stored of each device that has any.
    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>>;
    /// The highest `seq` of the device that is stored, or was streamed and had its time; 0 if none.
    async fn last_seq(&self, device: DeviceId) -> Stored<i64>;
    /// The newest fix of any of the devices, by (`fixed_at`, `seq`).
    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>>;
    /// Fixes of the device that were taken at one of these times.
    async fn at(&self, device: DeviceId, times: &[Timestamp]) -> Stored<Vec<StoredFix>>;
    /// What the device sent last: the fix with the highest number, or the newest without one, by [`Arrival`](super::Arrival). A
    /// phone whose clock was set back goes on counting.
    async fn latest(&self, device: DeviceId) -> Stored<Option<StoredFix>>;
    /// A page of the devices' track.
    async fn page(&self, devices: &[DeviceId], page: TrackPage) -> Stored<Vec<StoredFix>>;
    /// The newest fix of one device at or before `at` in event order.
    async fn at_or_before(&self, device: DeviceId, at: (Timestamp, i64)) -> Stored<Option<StoredFix>>;
    /// Fixes of one device after `after` in event order, at most `limit`: what a build reads.
    async fn after(&self, device: DeviceId, after: (Timestamp, i64), limit: u32) -> Stored<Vec<StoredFix>>;
}
