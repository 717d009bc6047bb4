//! A public zone: a shape that everybody near it may be told of. Nobody's own, so it tells of nobody.

use crate::clock::Timestamp;
use crate::geo::{Point, Shape};
use crate::id::ZoneId;
use crate::tracking::Severity;
use std::sync::Arc;

/// A zone to be put.
#[derive(Clone, PartialEq, Debug)]
pub struct ZoneDraft {
    /// Given by who puts it.
    pub id: ZoneId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub shape: Arc<Shape>,
    /// How much it matters to be in it.
    pub severity: Severity,
}

/// A zone, as it was last put.
#[derive(Clone, PartialEq, Debug)]
pub struct Zone {
    /// Given by who puts it.
    pub id: ZoneId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub shape: Arc<Shape>,
    /// How much it matters to be in it.
    pub severity: Severity,
    /// 1 at first; grows with every change of it.
    pub revision: i64,
    /// When it was put.
    pub updated_at: Timestamp,
}

/// Those of the zones that come within `radius_m` of the point, nearest first, at most `limit`. Being inside is no
/// distance. Measured as for fences, so a polygon ends at the antimeridian (RFC 7946) and is not near from beyond it.
pub fn nearest(zones: Vec<Zone>, point: Point, radius_m: f64, limit: u32) -> Vec<Zone> {
    let away = |zone: Zone| {
        let placed = zone.shape.place(point, radius_m);
        let away_m = if placed.inside { 0.0 } else { placed.edge_m };
        (away_m <= radius_m).then_some((away_m, zone))
    };
    let mut near: Vec<(f64, Zone)> = zones.into_iter().filter_map(away).collect();
    near.sort_by(|(a_m, a), (b_m, b)| a_m.total_cmp(b_m).then(a.id.cmp(&b.id)));
    near.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    near.into_iter().map(|(_, zone)| zone).collect()
}
