//! Distances: exact on the ellipsoid where an edge may be near, cheap where it cannot be.

use super::Point;
use geo::{Distance, Geodesic};

/// Metres in one degree of latitude, at least (WGS 84 meridian at the equator).
pub(super) const DEGREE_MIN_M: f64 = 110_574.0;

/// The geodesic between two points on the WGS 84 ellipsoid, metres (Karney 2013).
pub fn distance_m(a: Point, b: Point) -> f64 {
    Geodesic.distance(geo::Point::new(a.lon, a.lat), geo::Point::new(b.lon, b.lat))
}

/// Metres per degree of (longitude, latitude) at a latitude, on the WGS 84 ellipsoid.
pub(super) fn degree_lengths_m(lat: f64) -> (f64, f64) {
    let (a, e2) = (6_378_137.0_f64, 6.694_379_990_14e-3_f64);
    let (sin, cos) = lat.to_radians().sin_cos();
    let w2 = 1.0 - e2 * sin * sin;
    let per_radian_lon = a * cos / w2.sqrt();
    let per_radian_lat = a * (1.0 - e2) / (w2 * w2.sqrt());
    (per_radian_lon.to_radians(), per_radian_lat.to_radians())
}

/// From the origin to the segment from `a` to `b`, in the plane.
pub(super) fn origin_to_segment(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = dx * dx + dy * dy;
    let t = if length2 == 0.0 { 0.0 } else { (-(a.0 * dx + a.1 * dy) / length2).clamp(0.0, 1.0) };
    (a.0 + t * dx).hypot(a.1 + t * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degree_is_as_long_as_the_ellipsoid_says() {
        for lat in [-89.0, -60.0, 0.0, 33.0, 48.0, 80.0] {
            let (lon_m, lat_m) = degree_lengths_m(lat);
            let at = |dlat: f64, dlon: f64| Point::new(lat + dlat, 10.0 + dlon).unwrap();
            assert!((distance_m(at(0.0, 0.0), at(0.0, 0.001)) / 0.001 - lon_m).abs() < lon_m * 1e-6 + 1e-3);
            assert!((distance_m(at(-0.0005, 0.0), at(0.0005, 0.0)) / 0.001 - lat_m).abs() < 1.0);
            assert!(lat_m < 111_695.0 && lat_m > DEGREE_MIN_M - 1.0);
        }
    }
}
