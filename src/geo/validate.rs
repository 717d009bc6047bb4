//! Refuses a shape that means nothing, and says where it is broken.
//!
//! The rules are those of OGC Simple Features (what PostGIS checks in `ST_IsValid`) plus cima's limits.

use super::shape::{Form, RawShape, Ring, covers};
use super::{MAX_VERTICES, Point};
use geo::line_intersection::{LineIntersection, line_intersection};
use geo::{Coord, Line};

/// One thing wrong with a shape.
#[derive(Clone, PartialEq, Debug)]
pub struct ShapeFault {
    /// Where: a path into the shape, such as `coordinates[0][3]`.
    pub place: String,
    /// A stable word for what is wrong.
    pub code: &'static str,
    /// The same for a person.
    pub detail: String,
}

fn fault(place: impl Into<String>, code: &'static str, detail: impl Into<String>) -> ShapeFault {
    ShapeFault { place: place.into(), code, detail: detail.into() }
}

/// Everything checked; the form to ask.
pub(super) fn form(raw: &RawShape) -> Result<Form, Vec<ShapeFault>> {
    match raw {
        RawShape::Circle { center, radius_m } => {
            let [lon, lat] = position(center, || "center".into()).map_err(|f| vec![f])?;
            let center = Point::new(lat, lon)
                .ok_or_else(|| vec![fault("center", "out_of_range", "|lon| <= 180 and |lat| <= 90")])?;
            if !(1.0..=1_000_000.0).contains(radius_m) {
                return Err(vec![fault("radius_m", "out_of_range", "a radius is 1 to 1,000,000 metres")]);
            }
            Ok(Form::Circle { center, radius_m: *radius_m })
        }
        RawShape::Polygon { coordinates } => {
            polygons(std::slice::from_ref(coordinates), &|_| "coordinates".into())
        }
        RawShape::MultiPolygon { coordinates } => {
            polygons(coordinates, &|polygon| format!("coordinates[{polygon}]"))
        }
    }
}

fn position(position: &[f64], place: impl Fn() -> String) -> Result<[f64; 2], ShapeFault> {
    match *position {
        [lon, lat] | [lon, lat, _] => {
            if lon.abs() <= 180.0 && lat.abs() <= 90.0 {
                Ok([lon, lat])
            } else {
                Err(fault(place(), "out_of_range", "|lon| <= 180 and |lat| <= 90, in this order"))
            }
        }
        _ => Err(fault(place(), "not_a_position", "a position is [lon, lat]")),
    }
}

fn polygons(
    polygons: &[Vec<Vec<Vec<f64>>>],
    path: &dyn Fn(usize) -> String,
) -> Result<Form, Vec<ShapeFault>> {
    let vertices: usize = polygons.iter().flatten().map(Vec::len).sum();
    if vertices == 0 {
        return Err(vec![fault("coordinates", "empty", "a shape needs a ring of at least four positions")]);
    }
    if vertices > MAX_VERTICES {
        let detail = format!("{vertices} vertices; a shape has at most {MAX_VERTICES}");
        return Err(vec![fault("coordinates", "too_many_vertices", detail)]);
    }
    let mut faults = Vec::new();
    let mut shape: Vec<Vec<Ring>> = Vec::with_capacity(polygons.len());
    for (p, rings) in polygons.iter().enumerate() {
        if rings.is_empty() {
            faults.push(fault(path(p), "empty", "a polygon needs a shell"));
        }
        let mut read = Vec::with_capacity(rings.len());
        for (r, raw) in rings.iter().enumerate() {
            match ring(raw, &format!("{}[{r}]", path(p))) {
                Ok(ring) => read.push(ring),
                Err(fault) => faults.push(fault),
            }
        }
        shape.push(read);
    }
    if faults.is_empty() {
        faults.extend(crossing(&shape, path));
    }
    if faults.is_empty() {
        faults.extend(nesting(&shape, path));
    }
    if faults.is_empty() { Ok(Form::Polygons(shape)) } else { Err(faults) }
}

fn ring(raw: &[Vec<f64>], path: &str) -> Result<Ring, ShapeFault> {
    if raw.is_empty() {
        return Err(fault(path, "empty", "a ring has at least four positions"));
    }
    let ring = raw
        .iter()
        .enumerate()
        .map(|(v, at)| position(at, || format!("{path}[{v}]")))
        .collect::<Result<Ring, ShapeFault>>()?;
    if ring.first() != ring.last() {
        let last = ring.len() - 1;
        return Err(fault(format!("{path}[{last}]"), "unclosed", "the last position of a ring is its first"));
    }
    if ring.len() < 4 {
        return Err(fault(path, "too_few_positions", "a ring has at least four positions"));
    }
    if let Some(v) = ring.windows(2).position(|e| (e[0][0] - e[1][0]).abs() > 180.0) {
        let detail = "an edge spans over 180 degrees; split the shape at the antimeridian";
        return Err(fault(format!("{path}[{v}]"), "edge_too_long", detail));
    }
    Ok(ring)
}

struct Edge {
    line: Line,
    west: f64,
    east: f64,
    polygon: usize,
    ring: usize,
    index: usize,
    last: bool,
}

/// Two edges that cross or lie on each other; edges are swept from west to east.
fn crossing(shape: &[Vec<Ring>], path: &dyn Fn(usize) -> String) -> Option<ShapeFault> {
    let mut edges = Vec::new();
    for (polygon, rings) in shape.iter().enumerate() {
        for (ring, vertices) in rings.iter().enumerate() {
            let mut distinct: Vec<(usize, [f64; 2])> = vertices.iter().copied().enumerate().collect();
            distinct.dedup_by(|b, a| a.1 == b.1);
            let count = distinct.len().saturating_sub(1);
            for (n, pair) in distinct.windows(2).enumerate() {
                let [(index, [x1, y1]), (_, [x2, y2])] = [pair[0], pair[1]];
                let line = Line::new(Coord { x: x1, y: y1 }, Coord { x: x2, y: y2 });
                let (west, east) = (x1.min(x2), x1.max(x2));
                edges.push((n, Edge { line, west, east, polygon, ring, index, last: n + 1 == count }));
            }
            if count < 3 {
                return Some(fault(format!("{}[{ring}]", path(polygon)), "empty", "the ring has no area"));
            }
        }
    }
    edges.sort_by(|a, b| a.1.west.total_cmp(&b.1.west));
    for (i, (n, a)) in edges.iter().enumerate() {
        for (m, b) in edges[i + 1..].iter().take_while(|(_, b)| b.west <= a.east) {
            let (low, high) = (a.line.start.y.min(a.line.end.y), a.line.start.y.max(a.line.end.y));
            if b.line.start.y.max(b.line.end.y) < low || b.line.start.y.min(b.line.end.y) > high {
                continue;
            }
            let one_ring = (a.polygon, a.ring) == (b.polygon, b.ring);
            let follows = |x: usize, y: usize, last: bool| x.abs_diff(y) == 1 || (last && x.min(y) == 0);
            let neighbours = one_ring && follows(*n, *m, if n > m { a.last } else { b.last });
            let broken = match line_intersection(a.line, b.line) {
                None => false,
                Some(LineIntersection::Collinear { intersection }) => intersection.start != intersection.end,
                Some(LineIntersection::SinglePoint { is_proper, .. }) => {
                    is_proper || (one_ring && !neighbours)
                }
            };
            if broken {
                let place = format!("{}[{}][{}]", path(a.polygon), a.ring, a.index);
                let other = format!("{}[{}][{}]", path(b.polygon), b.ring, b.index);
                return Some(fault(
                    place,
                    "self_crossing",
                    format!("the edge from here meets the edge from {other}"),
                ));
            }
        }
    }
    None
}

/// Holes lie in their shell and in no other hole; polygons lie outside each other. Edges do not cross here.
fn nesting(shape: &[Vec<Ring>], path: &dyn Fn(usize) -> String) -> Option<ShapeFault> {
    let on_edge = |ring: &Ring, v: [f64; 2]| ring.contains(&v);
    let within = |inner: &Ring, outer: &Ring| {
        let probe = inner.iter().find(|v| !on_edge(outer, **v)).or(inner.first());
        probe.is_some_and(|v| covers(std::slice::from_ref(outer), v[0], v[1]))
    };
    for (p, rings) in shape.iter().enumerate() {
        let (shell, holes) = rings.split_first()?;
        for (h, hole) in holes.iter().enumerate() {
            let place = || format!("{}[{}]", path(p), h + 1);
            if !within(hole, shell) {
                return Some(fault(place(), "hole_outside", "a hole lies inside its shell"));
            }
            if holes.iter().enumerate().any(|(o, other)| o != h && within(hole, other)) {
                return Some(fault(place(), "hole_in_hole", "a hole lies in no other hole"));
            }
        }
        for (q, others) in shape.iter().enumerate().filter(|(q, _)| *q != p) {
            let in_hole = others.iter().skip(1).any(|hole| within(shell, hole));
            if others.first().is_some_and(|other| within(shell, other)) && !in_hole {
                return Some(fault(path(p), "overlap", format!("lies inside {}", path(q))));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;
    use serde_json::json;

    fn faults(json: serde_json::Value) -> Vec<(String, &'static str)> {
        let raw: RawShape = serde_json::from_value(json).unwrap();
        Shape::try_from(raw).err().unwrap_or_default().into_iter().map(|f| (f.place, f.code)).collect()
    }
    fn one(place: &str, code: &'static str) -> Vec<(String, &'static str)> {
        vec![(place.to_owned(), code)]
    }

    #[test]
    fn says_where_a_shape_is_broken() {
        let polygon = |rings: serde_json::Value| faults(json!({"type": "Polygon", "coordinates": rings}));
        assert_eq!(polygon(json!([])), one("coordinates", "empty"));
        assert_eq!(polygon(json!([[[0, 0], [1, 0], [1, 1], [0, 1]]])), one("coordinates[0][3]", "unclosed"));
        assert_eq!(polygon(json!([[[0, 0], [1, 0], [0, 0]]])), one("coordinates[0]", "too_few_positions"));
        let bow_tie = json!([[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]);
        assert_eq!(polygon(bow_tie), one("coordinates[0][0]", "self_crossing"));
        let touching_itself = json!([[[0, 0], [4, 0], [4, 4], [2, 0], [0, 4], [0, 0]]]);
        assert_eq!(polygon(touching_itself)[0].1, "self_crossing");
        assert_eq!(polygon(json!([[[0, 0], [1, 0], [2, 0], [0, 0]]]))[0].1, "self_crossing");
        assert_eq!(
            polygon(json!([[[181, 0], [1, 0], [1, 1], [181, 0]]])),
            one("coordinates[0][0]", "out_of_range")
        );
        assert_eq!(
            polygon(json!([[[-170, 0], [170, 0], [170, 1], [-170, 0]]])),
            one("coordinates[0][0]", "edge_too_long")
        );
        assert_eq!(
            polygon(json!([[[0, 0], [1], [1, 1], [0, 0]]])),
            one("coordinates[0][1]", "not_a_position")
        );
        let shell = json!([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]);
        let outside = json!([[5, 5], [6, 5], [6, 6], [5, 5]]);
        assert_eq!(polygon(json!([shell, outside])), one("coordinates[1]", "hole_outside"));
        let big = json!([[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]);
        let small = json!([[1.5, 1.5], [2, 1.5], [2, 2], [1.5, 1.5]]);
        assert_eq!(polygon(json!([shell, big, small])), one("coordinates[2]", "hole_in_hole"));
        assert_eq!(polygon(json!([shell, big])), vec![]);
    }

    #[test]
    fn multipolygons_and_circles_are_checked_too() {
        let square = |at: f64, side: f64| {
            json!([[[at, at], [at + side, at], [at + side, at + side], [at, at + side], [at, at]]])
        };
        let multi = |parts: serde_json::Value| faults(json!({"type": "MultiPolygon", "coordinates": parts}));
        assert_eq!(multi(json!([square(0.0, 1.0), square(2.0, 1.0)])), vec![]);
        assert_eq!(multi(json!([square(0.0, 4.0), square(1.0, 1.0)])), one("coordinates[1]", "overlap"));
        assert_eq!(multi(json!([square(0.0, 2.0), square(1.0, 2.0)]))[0].1, "self_crossing");
        assert_eq!(
            faults(json!({"type": "Circle", "center": [0, 91], "radius_m": 5})),
            one("center", "out_of_range")
        );
        assert_eq!(
            faults(json!({"type": "Circle", "center": [0, 0], "radius_m": 0})),
            one("radius_m", "out_of_range")
        );
    }

    #[test]
    fn a_shape_of_ten_thousand_vertices_is_checked_and_a_larger_one_is_refused() {
        let ring = |n: usize| -> Vec<Vec<f64>> {
            let vertex = |i: usize| {
                let (sin, cos) = ((i % (n - 1)) as f64 / (n - 1) as f64 * std::f64::consts::TAU).sin_cos();
                vec![10.0 + cos, 10.0 + sin]
            };
            (0..n).map(vertex).collect()
        };
        assert_eq!(faults(json!({"type": "Polygon", "coordinates": [ring(10_000)]})), vec![]);
        let many = faults(json!({"type": "Polygon", "coordinates": [ring(10_001)]}));
        assert_eq!(many, one("coordinates", "too_many_vertices"));
    }
}
