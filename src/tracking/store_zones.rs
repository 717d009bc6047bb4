//! What public zones need from the cellar. Every method is one use case and atomic.

use super::Zone;
use crate::error::Stored;
use crate::geo::Point;
use crate::id::ZoneId;
use async_trait::async_trait;

/// Public zones.
#[async_trait]
pub trait ZoneStore: Send + Sync {
    /// Stores a zone, or replaces one of a lower revision. `false` if what is there is as new or newer.
    async fn put_zone(&self, zone: &Zone) -> Stored<bool>;
    /// Deletes a zone. `false` if there is none.
    async fn delete_zone(&self, id: ZoneId) -> Stored<bool>;
    /// The zones that come within `radius_m` of the point, nearest first by [`super::nearest`], at most `limit`. What is
    /// looked through grows with the radius, so the caller bounds it.
    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>>;
}
