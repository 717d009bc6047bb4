//! Shapes and points made at random from a seed that can be given again.

use cima::geo::{Point, RawShape, Shape};
use cima_rig::dice::Dice;
use geo::{Destination, Geodesic};

/// A ring around a place whose radius follows the angle, so that it never crosses itself: `inner` to `outer` parts of
/// `size_deg`.
fn ring(r: &mut Dice, lon: f64, lat: f64, size_deg: f64, inner: f64, outer: f64) -> Vec<Vec<f64>> {
    let corners = 3 + r.below(20);
    let wide = size_deg / lat.to_radians().cos().max(0.01);
    let corner = |r: &mut Dice, n: usize| {
        let angle = (n as f64 + r.between(0.0, 0.8)) / corners as f64 * std::f64::consts::TAU;
        let far = r.between(inner, outer);
        let (lon, lat) = (lon + wide * far * angle.cos(), lat + size_deg * far * angle.sin());
        vec![lon.clamp(-180.0, 180.0), lat.clamp(-90.0, 90.0)]
    };
    let mut ring: Vec<Vec<f64>> = (0..corners).map(|n| corner(r, n)).collect();
    ring.push(ring[0].clone());
    ring
}

/// Where shapes are: anywhere, or where they are hard.
fn center(r: &mut Dice) -> (f64, f64) {
    match r.below(4) {
        0 => (r.between(-180.0, 180.0), r.between(75.0, 89.5) * if r.below(2) == 0 { 1.0 } else { -1.0 }),
        1 => (r.between(179.0, 180.0) * if r.below(2) == 0 { 1.0 } else { -1.0 }, r.between(-70.0, 70.0)),
        _ => (r.between(-180.0, 180.0), r.between(-75.0, 75.0)),
    }
}

fn raw(r: &mut Dice) -> RawShape {
    let (lon, lat) = center(r);
    let size_deg = 10_f64.powf(r.between(-4.0, 0.5));
    match r.below(4) {
        0 => RawShape::Circle { center: vec![lon, lat], radius_m: 10_f64.powf(r.between(0.0, 6.0)) },
        1 => RawShape::Polygon { coordinates: vec![ring(r, lon, lat, size_deg, 0.3, 1.0)] },
        2 => {
            let shell = ring(r, lon, lat, size_deg, 0.6, 1.0);
            let hole = ring(r, lon, lat, size_deg, 0.05, 0.2);
            RawShape::Polygon { coordinates: vec![shell, hole] }
        }
        _ => {
            let aside = if lon > 0.0 { -4.0 } else { 4.0 } * size_deg / lat.to_radians().cos().max(0.01);
            let parts = [lon, (lon + aside).clamp(-180.0, 180.0)];
            let coordinates = parts.map(|lon| vec![ring(r, lon, lat, size_deg, 0.3, 1.0)]).to_vec();
            RawShape::MultiPolygon { coordinates }
        }
    }
}

/// A shape that a client may write; what breaks at the rim of the map is made again.
pub(crate) fn shape(r: &mut Dice) -> Shape {
    loop {
        if let Ok(shape) = Shape::try_from(raw(r)) {
            return shape;
        }
    }
}

fn rings(shape: &RawShape) -> Vec<&Vec<Vec<f64>>> {
    match shape {
        RawShape::Circle { .. } => vec![],
        RawShape::Polygon { coordinates } => coordinates.iter().collect(),
        RawShape::MultiPolygon { coordinates } => coordinates.iter().flatten().collect(),
    }
}

fn on_earth(lon: f64, lat: f64) -> Point {
    let lon = if lon > 180.0 { lon - 360.0 } else { lon };
    let lon = if lon < -180.0 { lon + 360.0 } else { lon };
    Point::new(lat.clamp(-90.0, 90.0), lon).unwrap()
}

/// A point at most `off_m` from an edge of the shape.
pub(crate) fn near_edge(r: &mut Dice, shape: &Shape, off_m: f64) -> Point {
    let off_m = r.between(-off_m, off_m);
    if let RawShape::Circle { center, radius_m } = shape.raw() {
        let bearing = r.between(0.0, 360.0);
        let at = Geodesic.destination(geo::Point::new(center[0], center[1]), bearing, radius_m + off_m);
        return on_earth(at.x(), at.y());
    }
    let rings = rings(shape.raw());
    let ring = rings[r.below(rings.len())];
    let edge = r.below(ring.len() - 1);
    let (a, b) = (&ring[edge], &ring[edge + 1]);
    let part = r.between(0.0, 1.0);
    let (lon, lat) = (a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]));
    // Across the edge, in metres.
    let (lon_m, lat_m) = (111_320.0 * lat.to_radians().cos().max(1e-3), 111_133.0);
    let (dx, dy) = ((b[0] - a[0]) * lon_m, (b[1] - a[1]) * lat_m);
    // Two corners may have met at the rim of the map.
    let long = dx.hypot(dy).max(f64::MIN_POSITIVE);
    on_earth(lon - dy / long * off_m / lon_m, lat + dx / long * off_m / lat_m)
}

/// A point in and around the shape, or anywhere.
pub(crate) fn around(r: &mut Dice, shape: &Shape) -> Point {
    let (lon, lat, reach) = match shape.raw() {
        RawShape::Circle { center, radius_m } => (center[0], center[1], radius_m / 60_000.0),
        other => {
            let rings = rings(other);
            let (first, far) = (&rings[0][0], &rings[rings.len() - 1][1]);
            (first[0], first[1], 0.001 + (first[0] - far[0]).abs().max((first[1] - far[1]).abs()))
        }
    };
    if r.below(10) == 0 {
        return Point::new(r.between(-90.0, 90.0), r.between(-180.0, 180.0)).unwrap();
    }
    let reach = reach.min(90.0);
    on_earth(lon + r.between(-reach, reach), lat + r.between(-reach, reach))
}
