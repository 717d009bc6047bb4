//! The shape of a fence: a geodesic circle, or polygons whose edges are straight in lon/lat (RFC 7946).

use super::measure::{DEGREE_MIN_M, degree_lengths_m, origin_to_segment};
use super::{Point, ShapeFault, distance_m, validate};
use geo::line_intersection::line_intersection;
use geo::{Coord, Line};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Vertices of one shape, at most.
pub const MAX_VERTICES: usize = 10_000;

/// A shape as a client writes it, before anything is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", deny_unknown_fields)]
#[schema(as = Shape)]
pub enum RawShape {
    /// All places within `radius_m` of `center`, measured on the ellipsoid.
    Circle {
        /// `[lon, lat]`
        #[schema(min_items = 2, max_items = 3)]
        center: Vec<f64>,
        /// Metres, 1 to 1,000,000.
        #[schema(minimum = 1, maximum = 1_000_000)]
        radius_m: f64,
    },
    /// GeoJSON Polygon: a shell and its holes.
    Polygon {
        /// `[ring][vertex][lon, lat]`
        #[schema(min_items = 1)]
        coordinates: Vec<Vec<Vec<f64>>>,
    },
    /// GeoJSON MultiPolygon.
    MultiPolygon {
        /// `[polygon][ring][vertex][lon, lat]`
        #[schema(min_items = 1)]
        coordinates: Vec<Vec<Vec<Vec<f64>>>>,
    },
}

/// A closed line of `[lon, lat]` vertices, the last equal to the first.
pub(super) type Ring = Vec<[f64; 2]>;

/// A shape that was checked and is ready to be asked.
#[derive(Clone, PartialEq)]
pub struct Shape {
    pub(super) form: Form,
    raw: RawShape,
    bounds: Bounds,
    size_m: f64,
}

#[derive(Clone, PartialEq)]
pub(super) enum Form {
    Circle { center: Point, radius_m: f64 },
    Polygons(Vec<Vec<Ring>>),
}

#[derive(Clone, Copy, PartialEq)]
struct Bounds {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// Where a point lies against a shape.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Placement {
    /// Inside or on the edge.
    pub inside: bool,
    /// To the nearest edge, metres; beyond the reach that was asked for, a lower bound of it.
    pub edge_m: f64,
}

impl TryFrom<RawShape> for Shape {
    type Error = Vec<ShapeFault>;

    /// Checks everything that `ST_IsValid` would, and says where the shape is broken.
    fn try_from(raw: RawShape) -> Result<Self, Vec<ShapeFault>> {
        let form = validate::form(&raw)?;
        let (bounds, size_m) = match &form {
            Form::Circle { radius_m, .. } => {
                (Bounds { west: -180.0, south: -90.0, east: 180.0, north: 90.0 }, *radius_m)
            }
            Form::Polygons(polygons) => {
                let bounds = Bounds::of(polygons.iter().flatten().flatten());
                let (lon_m, lat_m) = degree_lengths_m((bounds.south + bounds.north) / 2.0);
                let area: f64 = polygons.iter().map(|rings| rings_area(rings)).sum();
                (bounds, (area * lon_m * lat_m / PI).sqrt())
            }
        };
        Ok(Self { form, raw, bounds, size_m })
    }
}

impl Bounds {
    fn of<'a>(vertices: impl Iterator<Item = &'a [f64; 2]>) -> Self {
        vertices.fold(Self { west: 180.0, south: 90.0, east: -180.0, north: -90.0 }, |b, [lon, lat]| Self {
            west: b.west.min(*lon),
            south: b.south.min(*lat),
            east: b.east.max(*lon),
            north: b.north.max(*lat),
        })
    }

    /// Whether the box of a way lies beside this one.
    fn misses(self, a: Point, b: Point) -> bool {
        a.lon().max(b.lon()) < self.west
            || a.lon().min(b.lon()) > self.east
            || a.lat().max(b.lat()) < self.south
            || a.lat().min(b.lat()) > self.north
    }

    /// At most the distance from the point to the box; zero inside it.
    fn at_least_m(self, point: Point) -> f64 {
        let north_m = (self.south - point.lat()).max(point.lat() - self.north).max(0.0) * DEGREE_MIN_M;
        let aside = (self.west - point.lon()).max(point.lon() - self.east).max(0.0);
        // The other way round the earth may be nearer; and a degree is shortest at the highest latitude.
        let aside = aside.min(360.0 - (self.east - self.west) - aside).max(0.0);
        let highest = point.lat().abs().max(self.south.abs()).max(self.north.abs());
        north_m.max(aside * DEGREE_MIN_M * highest.to_radians().cos() * 0.6)
    }
}

fn rings_area(rings: &[Ring]) -> f64 {
    let area =
        |ring: &Ring| ring.windows(2).map(|e| e[0][0] * e[1][1] - e[1][0] * e[0][1]).sum::<f64>().abs() / 2.0;
    let (shell, holes) = (rings.first().map_or(0.0, area), rings.iter().skip(1).map(area).sum::<f64>());
    (shell - holes).max(0.0)
}

/// Even-odd over all rings of one polygon.
pub(super) fn covers(rings: &[Ring], lon: f64, lat: f64) -> bool {
    let mut inside = false;
    for edge in rings.iter().flat_map(|ring| ring.windows(2)) {
        let ([x1, y1], [x2, y2]) = (edge[0], edge[1]);
        if (y1 > lat) != (y2 > lat) && lon < (x2 - x1) * (lat - y1) / (y2 - y1) + x1 {
            inside = !inside;
        }
    }
    inside
}

impl Shape {
    /// The shape as the client wrote it.
    pub fn raw(&self) -> &RawShape {
        &self.raw
    }
    /// The radius of a circle of the same area, metres.
    pub fn size_m(&self) -> f64 {
        self.size_m
    }
    /// How many vertices it has; a circle has none.
    pub fn vertices(&self) -> usize {
        match &self.form {
            Form::Circle { .. } => 0,
            Form::Polygons(polygons) => polygons.iter().flatten().map(Vec::len).sum(),
        }
    }

    /// Where `point` lies; the distance to the edge is exact up to `reach_m` and a lower bound beyond.
    pub fn place(&self, point: Point, reach_m: f64) -> Placement {
        match &self.form {
            Form::Circle { center, radius_m } => {
                let apart_lat_m = (point.lat() - center.lat()).abs() * DEGREE_MIN_M;
                if apart_lat_m > radius_m + reach_m {
                    return Placement { inside: false, edge_m: apart_lat_m - radius_m };
                }
                let apart_m = distance_m(point, *center);
                Placement { inside: apart_m <= *radius_m, edge_m: (apart_m - radius_m).abs() }
            }
            Form::Polygons(polygons) => {
                let bound_m = self.bounds.at_least_m(point);
                if bound_m > reach_m {
                    return Placement { inside: false, edge_m: bound_m };
                }
                let (lon_m, lat_m) = degree_lengths_m(point.lat());
                let local = |[lon, lat]: [f64; 2]| ((lon - point.lon()) * lon_m, (lat - point.lat()) * lat_m);
                let edges = polygons.iter().flatten().flat_map(|ring| ring.windows(2));
                let edge_m =
                    edges.map(|e| origin_to_segment(local(e[0]), local(e[1]))).fold(f64::INFINITY, f64::min);
                let inside = edge_m == 0.0 || polygons.iter().any(|p| covers(p, point.lon(), point.lat()));
                Placement { inside, edge_m }
            }
        }
    }
}

impl Shape {
    /// Whether the straight way (in lon/lat) between two points meets the shape. Ways across the antimeridian do not.
    pub fn meets_segment(&self, a: Point, b: Point) -> bool {
        if (a.lon() - b.lon()).abs() > 180.0 {
            return false;
        }
        match &self.form {
            Form::Circle { center, radius_m } => {
                let (lon_m, lat_m) = degree_lengths_m(center.lat());
                let local = |p: Point| ((p.lon() - center.lon()) * lon_m, (p.lat() - center.lat()) * lat_m);
                origin_to_segment(local(a), local(b)) <= *radius_m
            }
            Form::Polygons(polygons) => {
                if self.bounds.misses(a, b) {
                    return false;
                }
                let way = line([a.lon(), a.lat()], [b.lon(), b.lat()]);
                let mut edges = polygons.iter().flatten().flat_map(|ring| ring.windows(2));
                edges.any(|e| line_intersection(way, line(e[0], e[1])).is_some())
                    || polygons.iter().any(|p| covers(p, a.lon(), a.lat()))
            }
        }
    }
}

fn line(a: [f64; 2], b: [f64; 2]) -> Line {
    Line::new(Coord { x: a[0], y: a[1] }, Coord { x: b[0], y: b[1] })
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shape(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(json: serde_json::Value) -> Shape {
        Shape::try_from(serde_json::from_value::<RawShape>(json).unwrap()).unwrap()
    }
    fn at(lat: f64, lon: f64) -> Point {
        Point::new(lat, lon).unwrap()
    }

    #[test]
    fn a_circle_is_geodesic() {
        let circle = shape(serde_json::json!({"type": "Circle", "center": [16.37, 48.2], "radius_m": 150.0}));
        assert!(circle.place(at(48.2, 16.37), 0.0).inside);
        let out = circle.place(at(48.2, 16.37 + 0.0027), 1000.0);
        assert!(!out.inside && (out.edge_m - 50.6).abs() < 1.0, "{out:?}");
    }

    #[test]
    fn holes_are_outside_and_edges_are_inside() {
        let shape = shape(serde_json::json!({"type": "Polygon", "coordinates": [
            [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]]}));
        assert!(shape.place(at(0.5, 0.5), 0.0).inside);
        assert!(!shape.place(at(1.5, 1.5), 0.0).inside);
        assert!(shape.place(at(0.0, 2.0), 0.0).inside);
        let near = shape.place(at(2.0, 4.0001), 1000.0);
        assert!(!near.inside && (near.edge_m - 11.12).abs() < 0.05, "{near:?}");
    }

    #[test]
    fn a_way_meets_what_it_passes_through() {
        let square = shape(
            serde_json::json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}),
        );
        assert!(square.meets_segment(at(0.5, -1.0), at(0.5, 2.0)));
        assert!(square.meets_segment(at(0.4, 0.4), at(0.6, 0.6)));
        assert!(!square.meets_segment(at(1.5, -1.0), at(1.5, 2.0)));
        assert!(!square.meets_segment(at(-1.0, 0.5), at(0.5, -1.5)));
        assert!(!square.meets_segment(at(0.5, 179.0), at(0.5, -179.0)));
    }

    #[test]
    fn a_multipolygon_is_inside_any_of_its_parts() {
        let shape = shape(serde_json::json!({"type": "MultiPolygon", "coordinates": [
            [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]], [[[2, 2], [3, 2], [3, 3], [2, 3], [2, 2]]]]}));
        assert!(shape.place(at(2.5, 2.5), 0.0).inside && shape.place(at(0.5, 0.5), 0.0).inside);
        assert!(!shape.place(at(1.5, 1.5), 0.0).inside);
    }

    proptest! {
        /// The cheap bound never claims more distance than there is.
        #[test]
        fn the_cheap_way_agrees_with_the_long_one(lat in -85.0..85.0_f64, lon in -179.0..179.0_f64,
                                                   dlat in -2.0..2.0_f64, dlon in -3.0..3.0_f64) {
            let ring = vec![[lon, lat], [lon + 0.5, lat], [lon + 0.5, lat + 0.5], [lon, lat + 0.5], [lon, lat]];
            let ring: Vec<Vec<f64>> = ring.into_iter().map(|v| v.to_vec()).collect();
            let shape = Shape::try_from(RawShape::Polygon { coordinates: vec![ring] }).unwrap();
            let point = at((lat + dlat).clamp(-90.0, 90.0), (lon + dlon).clamp(-180.0, 180.0));
            let cheap = shape.place(point, 0.0);
            let exact = shape.place(point, f64::INFINITY);
            prop_assert_eq!(cheap.inside, exact.inside);
            prop_assert!(cheap.edge_m <= exact.edge_m + 1e-6, "{} {}", cheap.edge_m, exact.edge_m);
        }
    }
}
