//! Fences and devices.

use crate::world::fence;
use crate::{T0, World, after, id};
use cima::geo::{RawShape, Shape};
use cima::id::{GeofenceId, UserId};
use cima::tracking::{FenceCreated, Geofence, Severity, Trigger};
use std::sync::Arc;
use std::time::Duration;

/// A square with four corners, so five vertices.
fn square(owner: UserId) -> Geofence {
    let ring = [[0.1, 0.2], [1.1, 0.2], [1.1, 1.2], [0.1, 1.2], [0.1, 0.2]];
    let raw = RawShape::Polygon { coordinates: vec![ring.iter().map(|v| v.to_vec()).collect()] };
    Geofence { shape: Arc::new(Shape::try_from(raw).unwrap()), ..fence(owner, "square") }
}

pub(crate) async fn a_fence_reads_back_as_it_was_written(w: &World) {
    let anna = w.person("anna").await;
    let people = vec![UserId(id()), UserId(id()), anna];
    let named = Geofence {
        triggers: vec![Trigger::Dwell, Trigger::Enter],
        cooldown: Duration::from_millis(1_500),
        notify: Some(people),
        ..square(anna)
    };
    let told_to_nobody = Geofence { notify: Some(vec![]), severity: Severity::Info, ..fence(anna, "quiet") };
    for fence in [&named, &told_to_nobody, &fence(anna, "home")] {
        assert_eq!(w.tracking.create_fence(fence, 200, 50_000).await.unwrap(), FenceCreated::Created);
        assert_eq!(w.tracking.fence(anna, fence.id).await.unwrap().as_ref(), Some(fence));
    }
}

pub(crate) async fn fences_are_their_owners(w: &World) {
    let (anna, mallory) = (w.person("anna").await, w.person("mallory").await);
    let home = fence(anna, "home");
    w.tracking.create_fence(&home, 200, 50_000).await.unwrap();
    let repeat = Geofence { name: "changed".into(), ..home.clone() };
    assert_eq!(w.tracking.create_fence(&repeat, 1, 0).await.unwrap(), FenceCreated::Repeated);
    let stolen = Geofence { owner: mallory, ..home.clone() };
    assert_eq!(w.tracking.create_fence(&stolen, 200, 50_000).await.unwrap(), FenceCreated::Conflict);
    assert!(w.tracking.fence(mallory, home.id).await.unwrap().is_none());
    assert!(w.tracking.replace_fence(&stolen, 200, 50_000).await.unwrap().is_none());
    assert!(!w.tracking.delete_fence(mallory, home.id).await.unwrap());
    assert_eq!(w.tracking.fence(anna, home.id).await.unwrap(), Some(home.clone()));

    let mut all = vec![home.id];
    for n in 0..4 {
        let more = fence(anna, &format!("fence {n}"));
        w.tracking.create_fence(&more, 200, 50_000).await.unwrap();
        all.push(more.id);
    }
    all.sort();
    let mut seen: Vec<GeofenceId> = Vec::new();
    loop {
        let page = w.tracking.fences(anna, seen.last().copied(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|f| f.id));
    }
    assert_eq!(seen, all);
    assert!(w.tracking.fences(mallory, None, 10).await.unwrap().is_empty());
    assert!(w.tracking.delete_fence(anna, home.id).await.unwrap());
    assert!(!w.tracking.delete_fence(anna, home.id).await.unwrap());
    assert!(w.tracking.fence(anna, home.id).await.unwrap().is_none());
}

pub(crate) async fn fences_and_vertices_are_limited(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let first = square(anna);
    assert_eq!(w.tracking.create_fence(&first, 2, 9).await.unwrap(), FenceCreated::Created);
    assert_eq!(w.tracking.create_fence(&square(anna), 2, 9).await.unwrap(), FenceCreated::TooMany);
    let circle = fence(anna, "no vertices");
    assert_eq!(w.tracking.create_fence(&circle, 2, 9).await.unwrap(), FenceCreated::Created);
    assert_eq!(w.tracking.create_fence(&fence(anna, "third"), 2, 9).await.unwrap(), FenceCreated::TooMany);
    assert_eq!(w.tracking.create_fence(&square(bob), 2, 9).await.unwrap(), FenceCreated::Created);

    let grown = Geofence { id: circle.id, ..square(anna) };
    let refused = w.tracking.replace_fence(&grown, 2, 9).await.unwrap();
    assert_eq!(refused, Some(Err(FenceCreated::TooMany)));
    assert_eq!(w.tracking.fence(anna, circle.id).await.unwrap(), Some(circle), "a refusal changes nothing");
    let same_size = w.tracking.replace_fence(&first, 2, 5).await.unwrap();
    assert!(matches!(same_size, Some(Ok(_))), "what it replaces does not count");
}

pub(crate) async fn a_replaced_fence_has_a_new_revision(w: &World) {
    let anna = w.person("anna").await;
    let home = Geofence { notify: Some(vec![UserId(id())]), ..fence(anna, "home") };
    w.tracking.create_fence(&home, 200, 50_000).await.unwrap();
    let new = Geofence {
        id: home.id,
        notify: Some(vec![anna]),
        created_at: after(50),
        revision: 77,
        ..square(anna)
    };
    let stored = w.tracking.replace_fence(&new, 200, 50_000).await.unwrap().unwrap().unwrap();
    assert_eq!(stored, Geofence { revision: 2, created_at: T0, ..new.clone() });
    assert_eq!(w.tracking.fence(anna, home.id).await.unwrap(), Some(stored));
    let nowhere = Geofence { id: GeofenceId(id()), ..new };
    assert!(w.tracking.replace_fence(&nowhere, 200, 50_000).await.unwrap().is_none());
}

pub(crate) async fn devices_of_a_person(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    assert!(w.tracking.devices_of(anna).await.unwrap().is_empty());
    let mut devices = Vec::new();
    for _ in 0..4 {
        devices.push(w.device(anna).await.0);
    }
    devices.sort();
    w.device(bob).await;
    w.identity.track(anna, devices[2]).await.unwrap();
    w.identity.remove_device(anna, devices[1], T0).await.unwrap();
    let expected = vec![devices[2], devices[0], devices[3]];
    assert_eq!(w.tracking.devices_of(anna).await.unwrap(), expected, "the tracked one first");
    assert_eq!(w.tracking.tracked_device(anna).await.unwrap(), Some(devices[2]));
}
