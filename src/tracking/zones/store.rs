//! What public zones need from the store. Every method is one use case and atomic.

use super::{Zone, ZoneDraft};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::{Area, Point};
use crate::id::{UserId, ZoneId};
use async_trait::async_trait;

/// Somebody is in a zone, and was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneVisit {
    /// Which zone.
    pub zone: ZoneId,
    /// As it was when they were told.
    pub revision: i64,
}

/// Where zones changed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ZoneChanges {
    /// The number of the newest change that is told of here; 0 if there never was one.
    pub to: i64,
    /// The places, oldest first.
    pub areas: Vec<Area>,
    /// Some are not told of any more: it may have been anywhere.
    pub some_lost: bool,
}

/// Public zones.
#[async_trait]
pub trait ZoneStore: Send + Sync {
    /// Stores zones, some hundred at a time. What is there already and the same stays as it is; what differs gets the next
    /// revision. Which of them are new or differ, in their order.
    async fn put_zones(&self, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>>;
    /// Deletes zones, with who is in them. How many there were.
    async fn delete_zones(&self, ids: &[ZoneId], at: Timestamp) -> Stored<u64>;
    /// All zones, by id, after `after`, at most `limit`.
    async fn zones(&self, after: Option<ZoneId>, limit: u32) -> Stored<Vec<Zone>>;
    /// The zones that come within `radius_m` of the point, nearest first by [`super::nearest`], at most `limit`. What is
    /// looked through grows with the radius, so the caller bounds it.
    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>>;
    /// The zones that the person was told of and has not left.
    async fn zones_inside(&self, user: UserId) -> Stored<Vec<ZoneVisit>>;
    /// The changes after the number `after`, at most `limit`; without one, the newest number alone.
    async fn zone_changes(&self, after: Option<i64>, limit: u32) -> Stored<ZoneChanges>;
}
