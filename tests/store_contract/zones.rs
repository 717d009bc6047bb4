//! Public zones, and who is near them.

use crate::world::alert;
use crate::{T0, World, after, id};
use cima::alerts::{AlertDraft, AlertKind, Recipients, SAME_VISIT, VisitCommit};
use cima::clock::Timestamp;
use cima::geo::{Area, Point, RawShape, Shape};
use cima::id::{UserId, ZoneId};
use cima::tracking::{Severity, Zone, ZoneDraft, ZoneStep, ZoneVisit};
use std::sync::Arc;
use std::time::Duration;

fn zone(raw: RawShape) -> ZoneDraft {
    let shape = Arc::new(Shape::try_from(raw).unwrap());
    ZoneDraft { id: ZoneId(id()), name: "flood".into(), shape, severity: Severity::Warning }
}

fn circle(lat: f64, lon: f64, radius_m: f64) -> ZoneDraft {
    zone(RawShape::Circle { center: vec![lon, lat], radius_m })
}

/// A square of a hundredth of a degree whose south-west corner is there, with heights that nobody asked for.
fn square(lat: f64, lon: f64) -> ZoneDraft {
    let corners = [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01), (0.0, 0.01), (0.0, 0.0)];
    let ring = corners.iter().map(|(x, y)| vec![lon + x, lat + y, 200.0]).collect();
    zone(RawShape::Polygon { coordinates: vec![ring] })
}

/// What is read of a zone that was put at `at` for the time that `revision` says.
fn stored(draft: &ZoneDraft, revision: i64, at: Timestamp) -> Zone {
    let ZoneDraft { id, name, shape, severity } = draft.clone();
    Zone { id, name, shape, severity, revision, updated_at: at }
}

async fn put(w: &World, zones: &[&ZoneDraft]) -> Vec<bool> {
    let zones: Vec<ZoneDraft> = zones.iter().map(|zone| (*zone).clone()).collect();
    w.zones.put_zones(&zones, T0).await.unwrap()
}

async fn near(w: &World, lat: f64, lon: f64, radius_m: f64, limit: u32) -> Vec<Zone> {
    w.zones.zones_near(Point::new(lat, lon).unwrap(), radius_m, limit).await.unwrap()
}

pub(crate) async fn zones_are_found_nearest_first(w: &World) {
    // 111 m north of the middle one's edge, inside the first, and 890 m from the last.
    let (around, beside, far) =
        (square(48.2, 16.3), circle(48.204, 16.305, 100.0), circle(48.214, 16.305, 100.0));
    let elsewhere = circle(-48.2, 16.3, 1_000.0);
    assert_eq!(put(w, &[&far, &elsewhere, &beside, &around]).await, [true; 4]);
    let [around, beside, far] = [&around, &beside, &far].map(|zone| stored(zone, 1, T0));
    let at = (48.2051, 16.305);
    assert_eq!(near(w, at.0, at.1, 2_000.0, 10).await, vec![around.clone(), beside.clone(), far]);
    assert_eq!(near(w, at.0, at.1, 2_000.0, 1).await, vec![around.clone()]);
    assert_eq!(near(w, at.0, at.1, 100.0, 10).await, vec![around.clone(), beside.clone()]);
    assert_eq!(near(w, at.0, at.1, 0.0, 10).await, vec![around], "inside is no distance");
    assert_eq!(near(w, 48.3, 16.305, 2_000.0, 10).await, vec![]);
}

pub(crate) async fn a_zone_is_found_from_all_sides(w: &World) {
    let (rim, pole) = (circle(10.0, 179.999, 500.0), circle(89.99, 30.0, 500.0));
    assert_eq!(put(w, &[&rim, &pole]).await, [true; 2]);
    let [rim, pole] = [&rim, &pole].map(|zone| stored(zone, 1, T0));
    assert_eq!(near(w, 10.0, -179.999, 10.0, 10).await, vec![rim.clone()], "inside, beyond the antimeridian");
    assert_eq!(near(w, 10.0, -179.99, 1_000.0, 10).await, vec![rim]);
    assert_eq!(near(w, 89.99, -150.0, 2_000.0, 10).await, vec![pole], "over the pole");
}

pub(crate) async fn only_what_differs_is_a_new_revision(w: &World) {
    let (first, other) = (square(1.0, 1.0), square(3.0, 3.0));
    assert_eq!(put(w, &[&first, &other]).await, [true, true]);
    let moved = ZoneDraft { id: first.id, severity: Severity::Critical, ..circle(2.0, 2.0, 50.0) };
    let again = w.zones.put_zones(&[other.clone(), moved.clone()], after(60)).await.unwrap();
    assert_eq!(again, [false, true]);
    assert_eq!(near(w, 1.005, 1.005, 10.0, 10).await, vec![], "it is not where it was");
    assert_eq!(near(w, 2.0, 2.0, 10.0, 10).await, vec![stored(&moved, 2, after(60))]);
    assert_eq!(near(w, 3.005, 3.005, 10.0, 10).await, vec![stored(&other, 1, T0)]);
    let renamed = ZoneDraft { name: "fire".into(), ..other.clone() };
    assert_eq!(put(w, &[&renamed]).await, [true]);

    let mut all = vec![stored(&moved, 2, after(60)), stored(&renamed, 2, T0)];
    all.sort_by_key(|zone| zone.id);
    assert_eq!(w.zones.zones(None, 10).await.unwrap(), all);
    assert_eq!(w.zones.zones(Some(all[0].id), 10).await.unwrap(), all[1..]);
    assert_eq!(w.zones.zones(None, 1).await.unwrap(), all[..1]);

    let gone = [moved.id, ZoneId(id())];
    assert_eq!(w.zones.delete_zones(&gone, T0).await.unwrap(), 1);
    assert_eq!(w.zones.delete_zones(&gone, T0).await.unwrap(), 0);
    assert_eq!(near(w, 2.0, 2.0, 10.0, 10).await, vec![]);
}

async fn areas_after(w: &World, known: i64) -> Vec<Area> {
    w.zones.zone_changes(Some(known), 100).await.unwrap().areas
}

pub(crate) async fn changes_of_zones_are_told_where_they_were(w: &World) {
    let head = || async { w.zones.zone_changes(None, 0).await.unwrap().to };
    assert_eq!(head().await, 0, "there never was a zone");
    let (first, other) = (square(1.0, 1.0), square(3.0, 3.0));
    put(w, &[&first, &other]).await;
    let here = |zone: &ZoneDraft, areas: &[Area]| areas.iter().any(|area| area.meets(&Area::of(&zone.shape)));
    let told = areas_after(w, 0).await;
    assert!(here(&first, &told) && here(&other, &told) && !here(&square(40.0, 40.0), &told));

    let known = head().await;
    assert_eq!(known, w.zones.zone_changes(Some(0), 100).await.unwrap().to);
    put(w, &[&first]).await;
    assert!(areas_after(w, known).await.is_empty(), "nothing changed");
    let moved = ZoneDraft { id: first.id, ..circle(20.0, 20.0, 50.0) };
    put(w, &[&moved]).await;
    let told = areas_after(w, known).await;
    assert!(
        here(&first, &told) && here(&moved, &told) && !here(&other, &told),
        "both where it was and where it is"
    );

    let known = head().await;
    w.zones.delete_zones(&[other.id], T0).await.unwrap();
    assert!(here(&other, &areas_after(w, known).await));

    let page = w.zones.zone_changes(Some(0), 1).await.unwrap();
    assert!(page.areas.len() == 1 && page.to > 0 && page.to < head().await && !page.some_lost);
    // Two days on, the oldest are not told of any more.
    w.zones.put_zones(&[square(5.0, 5.0)], after(48 * 3_600)).await.unwrap();
    assert!(w.zones.zone_changes(Some(0), 100).await.unwrap().some_lost);
    assert!(!w.zones.zone_changes(Some(head().await), 100).await.unwrap().some_lost);
}

fn enters(user: UserId, zone: &ZoneDraft, revision: i64, at: Timestamp) -> VisitCommit {
    let told = AlertDraft { kind: AlertKind::Zone, ..alert(user, Recipients::Person(user)) };
    VisitCommit { user, entered: vec![(ZoneStep { zone: zone.id, revision, at }, told)], left: Vec::new() }
}

fn leaves(user: UserId, zone: &ZoneDraft, revision: i64, at: Timestamp) -> VisitCommit {
    VisitCommit { user, entered: Vec::new(), left: vec![ZoneStep { zone: zone.id, revision, at }] }
}

pub(crate) async fn who_enters_a_zone_is_told_once(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let flood = square(1.0, 1.0);
    put(w, &[&flood]).await;
    let commit = |commits: Vec<VisitCommit>| async move { w.alerts.commit_visits(&commits).await.unwrap() };
    let inside = |user: UserId| async move { w.zones.zones_inside(user).await.unwrap() };

    let first = enters(anna, &flood, 1, after(0));
    let alert = first.entered[0].1.id;
    assert_eq!(commit(vec![first.clone(), enters(bob, &flood, 1, after(1))]).await.len(), 2);
    assert_eq!(w.inbox(anna).await, vec![alert]);
    assert_eq!(inside(anna).await, vec![ZoneVisit { zone: flood.id, revision: 1 }]);
    assert_eq!(
        commit(vec![first, enters(anna, &flood, 1, after(2))]).await,
        vec![],
        "another node saw it too"
    );

    // A wandering fix, and a true return.
    commit(vec![leaves(anna, &flood, 1, after(10))]).await;
    assert_eq!(inside(anna).await, vec![]);
    assert_eq!(commit(vec![enters(anna, &flood, 1, after(12))]).await, vec![]);
    assert_eq!(inside(anna).await.len(), 1, "the visit goes on");
    commit(vec![leaves(anna, &flood, 1, after(20))]).await;
    let later = after(20) + SAME_VISIT + Duration::from_secs(1);
    assert_eq!(commit(vec![enters(anna, &flood, 1, later)]).await, vec![anna]);
    commit(vec![leaves(anna, &flood, 1, after(21))]).await;
    assert_eq!(inside(anna).await.len(), 1, "an exit from before the entry is of another visit");

    // A zone that changed is entered anew; what is of an older one is nothing.
    put(w, &[&ZoneDraft { severity: Severity::Critical, ..flood.clone() }]).await;
    assert_eq!(commit(vec![enters(anna, &flood, 1, later)]).await, vec![]);
    assert_eq!(commit(vec![enters(anna, &flood, 2, later)]).await, vec![anna]);
    commit(vec![leaves(anna, &flood, 1, later + SAME_VISIT)]).await;
    assert_eq!(inside(anna).await, vec![ZoneVisit { zone: flood.id, revision: 2 }]);

    // With the zone goes who is in it, and nobody holds the others up.
    w.zones.delete_zones(&[flood.id], T0).await.unwrap();
    assert_eq!(inside(anna).await, vec![]);
    let still = square(5.0, 5.0);
    put(w, &[&still]).await;
    let gone = UserId(id());
    let commits =
        vec![enters(gone, &still, 1, later), enters(anna, &flood, 2, later), enters(bob, &still, 1, later)];
    assert_eq!(commit(commits).await, vec![bob]);
}

pub(crate) async fn visits_have_their_time(w: &World) {
    let anna = w.person("anna").await;
    let (old, new) = (square(1.0, 1.0), square(1.0, 1.0));
    put(w, &[&old, &new]).await;
    let commits = [enters(anna, &old, 1, after(0)), enters(anna, &new, 1, after(100))];
    w.alerts.commit_visits(&commits).await.unwrap();
    assert_eq!(w.alerts.expire_zone_visits(after(100)).await.unwrap(), 1);
    let left = w.zones.zones_inside(anna).await.unwrap();
    assert_eq!(left, vec![ZoneVisit { zone: new.id, revision: 1 }]);
}
