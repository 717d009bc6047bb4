//! A box in lon/lat that something lies in: what an index can ask for before the exact measure.

use super::measure::{DEGREE_MIN_M, degree_lengths_m};
use super::{Point, RawShape, Shape};
use std::collections::HashMap;

/// Longitudes from `west` to `east` and latitudes from `south` to `north`, never across the antimeridian: what would be
/// goes all the way round.
#[derive(Clone, Copy, PartialEq)]
pub struct Area {
    /// Degrees.
    pub west: f64,
    /// Degrees.
    pub south: f64,
    /// Degrees.
    pub east: f64,
    /// Degrees.
    pub north: f64,
}

impl Area {
    /// Everywhere.
    pub const WORLD: Self = Self { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };

    /// Holds every place within `radius_m` of the point, and some more.
    pub fn around(point: Point, radius_m: f64) -> Self {
        let up = radius_m / DEGREE_MIN_M;
        let (south, north) = (point.lat() - up, point.lat() + up);
        let round = |south: f64, north: f64| Self { west: -180.0, south, east: 180.0, north };
        if south <= -90.0 || north >= 90.0 {
            // A pole is in it.
            return round(south.max(-90.0), north.min(90.0));
        }
        // A degree of longitude is shortest at the highest latitude; a little more for the bulge of the circle.
        let aside = 1.01 * radius_m / degree_lengths_m(south.abs().max(north.abs())).0;
        let (west, east) = (point.lon() - aside, point.lon() + aside);
        if west < -180.0 || east > 180.0 { round(south, north) } else { Self { west, south, east, north } }
    }

    /// Holds the whole shape.
    pub fn of(shape: &Shape) -> Self {
        let vertices: Vec<&Vec<f64>> = match shape.raw() {
            RawShape::Circle { center, radius_m } => {
                let center = center.first().zip(center.get(1)).and_then(|(lon, lat)| Point::new(*lat, *lon));
                return center.map_or(Self::WORLD, |center| Self::around(center, *radius_m));
            }
            RawShape::Polygon { coordinates } => coordinates.iter().flatten().collect(),
            RawShape::MultiPolygon { coordinates } => coordinates.iter().flatten().flatten().collect(),
        };
        let of = |axis: usize| vertices.iter().filter_map(move |v| v.get(axis).copied());
        Self {
            west: of(0).fold(180.0, f64::min),
            south: of(1).fold(90.0, f64::min),
            east: of(0).fold(-180.0, f64::max),
            north: of(1).fold(-90.0, f64::max),
        }
    }

    /// Whether the two have a place in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.west <= other.east
            && other.west <= self.east
            && self.south <= other.north
            && other.south <= self.north
    }

    /// The smallest that holds both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            west: self.west.min(other.west),
            south: self.south.min(other.south),
            east: self.east.max(other.east),
            north: self.north.max(other.north),
        }
    }

    /// Fewer areas that hold all of these: those whose middles lie in the same square degree become one.
    pub fn gathered(areas: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut squares: HashMap<(i16, i16), Self> = HashMap::new();
        for area in areas {
            let middle = |low: f64, high: f64| f64::midpoint(low, high).floor() as i16;
            let square = (middle(area.west, area.east), middle(area.south, area.north));
            squares.entry(square).and_modify(|held| *held = held.with(&area)).or_insert(area);
        }
        squares.into_values().collect()
    }
}

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Area(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use geo::{Destination, Geodesic};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_within_the_radius_is_outside(lat in -90.0..=90.0_f64, lon in -180.0..=180.0_f64,
                                                radius_m in 1.0..1_000_000.0_f64, bearing in 0.0..360.0_f64) {
            let area = Area::around(Point::new(lat, lon).unwrap(), radius_m);
            let at = Geodesic.destination(geo::Point::new(lon, lat), bearing, radius_m);
            let aside = at.x() >= area.west && at.x() <= area.east;
            prop_assert!(aside && at.y() >= area.south && at.y() <= area.north);
        }
    }

    #[test]
    fn areas_meet_where_they_touch() {
        let (west, east) = (area(0.0, 0.0, 1.0, 1.0), area(1.0, 0.5, 2.0, 2.0));
        assert!(west.meets(&east) && east.meets(&west) && west.meets(&west));
        assert!(!west.meets(&area(1.1, 0.0, 2.0, 1.0)) && !west.meets(&area(0.0, 1.1, 1.0, 2.0)));
        assert!(west.with(&east) == area(0.0, 0.0, 2.0, 2.0));
    }

    #[test]
    fn gathered_areas_hold_what_was_gathered() {
        let (one, near, far) = (area(0.1, 0.1, 0.2, 0.2), area(0.7, 0.7, 0.9, 1.2), area(5.0, 5.0, 5.1, 5.1));
        let mut gathered = Area::gathered([one, near, far]);
        gathered.sort_by(|a, b| a.west.total_cmp(&b.west));
        assert!(gathered == [one.with(&near), far]);
    }

    fn area(west: f64, south: f64, east: f64, north: f64) -> Area {
        Area { west, south, east, north }
    }

    #[test]
    fn a_small_circle_has_a_small_box() {
        let area = Area::around(Point::new(48.0, 16.0).unwrap(), 1_000.0);
        assert!(area.east - area.west < 0.028 && area.north - area.south < 0.0182);
    }
}
