//! Public zones, and who is near them.

use crate::{T0, World, id};
use cima::geo::{Point, RawShape, Shape};
use cima::id::ZoneId;
use cima::tracking::{Severity, Zone};
use std::sync::Arc;

fn zone(raw: RawShape) -> Zone {
    Zone {
        id: ZoneId(id()),
        name: "flood".into(),
        shape: Arc::new(Shape::try_from(raw).unwrap()),
        severity: Severity::Warning,
        revision: 1,
        updated_at: T0,
    }
}

fn circle(lat: f64, lon: f64, radius_m: f64) -> Zone {
    zone(RawShape::Circle { center: vec![lon, lat], radius_m })
}

/// A square of a hundredth of a degree whose south-west corner is there, with heights that nobody asked for.
fn square(lat: f64, lon: f64) -> Zone {
    let corners = [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01), (0.0, 0.01), (0.0, 0.0)];
    let ring = corners.iter().map(|(x, y)| vec![lon + x, lat + y, 200.0]).collect();
    zone(RawShape::Polygon { coordinates: vec![ring] })
}

async fn near(w: &World, lat: f64, lon: f64, radius_m: f64, limit: u32) -> Vec<Zone> {
    w.zones.zones_near(Point::new(lat, lon).unwrap(), radius_m, limit).await.unwrap()
}

pub(crate) async fn zones_are_found_nearest_first(w: &World) {
    // 111 m north of the middle one's edge, inside the first, and 890 m from the last.
    let (around, beside, far) =
        (square(48.2, 16.3), circle(48.204, 16.305, 100.0), circle(48.214, 16.305, 100.0));
    let elsewhere = circle(-48.2, 16.3, 1_000.0);
    for zone in [&far, &elsewhere, &beside, &around] {
        assert!(w.zones.put_zone(zone).await.unwrap());
    }
    let at = (48.2051, 16.305);
    assert_eq!(near(w, at.0, at.1, 2_000.0, 10).await, vec![around.clone(), beside.clone(), far]);
    assert_eq!(near(w, at.0, at.1, 2_000.0, 1).await, vec![around.clone()]);
    assert_eq!(near(w, at.0, at.1, 100.0, 10).await, vec![around.clone(), beside.clone()]);
    assert_eq!(near(w, at.0, at.1, 0.0, 10).await, vec![around], "inside is no distance");
    assert_eq!(near(w, 48.3, 16.305, 2_000.0, 10).await, vec![]);
}

pub(crate) async fn a_zone_is_found_from_all_sides(w: &World) {
    let (rim, pole) = (circle(10.0, 179.999, 500.0), circle(89.99, 30.0, 500.0));
    for zone in [&rim, &pole] {
        assert!(w.zones.put_zone(zone).await.unwrap());
    }
    assert_eq!(near(w, 10.0, -179.999, 10.0, 10).await, vec![rim.clone()], "inside, beyond the antimeridian");
    assert_eq!(near(w, 10.0, -179.99, 1_000.0, 10).await, vec![rim]);
    assert_eq!(near(w, 89.99, -150.0, 2_000.0, 10).await, vec![pole], "over the pole");
}

pub(crate) async fn only_a_newer_zone_replaces_one(w: &World) {
    let first = Zone { revision: 4, ..square(1.0, 1.0) };
    assert!(w.zones.put_zone(&first).await.unwrap());
    let same = Zone { name: "late".into(), ..first.clone() };
    assert!(!w.zones.put_zone(&same).await.unwrap());
    assert_eq!(near(w, 1.005, 1.005, 10.0, 10).await, vec![first.clone()]);
    let moved = Zone { id: first.id, revision: 5, severity: Severity::Critical, ..circle(2.0, 2.0, 50.0) };
    assert!(w.zones.put_zone(&moved).await.unwrap());
    assert!(!w.zones.put_zone(&first).await.unwrap());
    assert_eq!(near(w, 1.005, 1.005, 10.0, 10).await, vec![], "it is not where it was");
    assert_eq!(near(w, 2.0, 2.0, 10.0, 10).await, vec![moved.clone()]);
    assert!(w.zones.delete_zone(moved.id).await.unwrap());
    assert!(!w.zones.delete_zone(moved.id).await.unwrap());
    assert_eq!(near(w, 2.0, 2.0, 10.0, 10).await, vec![]);
}
