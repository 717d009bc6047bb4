//! Forgetting a person.

use crate::world::{alert, contacts, fence, fix, new_fix, new_session, raised};
use crate::{T0, World, after, id};
use cima::alerts::{Change, Command, Emergency, Recipients};
use cima::geo::{RawShape, Shape};
use cima::id::{DeviceId, UserId};
use cima::identity::Revoked;
use cima::tracking::{FixBatch, Geofence, NewFix};
use cima::trust::{Disclosed, DisclosureKey, LinkRole, Scope};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) async fn the_forgotten_leave_nothing_but_marks(w: &World) {
    let anna = w.person("anna").await;
    let (phone, session) = w.device(anna).await;
    let (removed, _) = w.device(anna).await;
    w.identity.remove_device(anna, removed, T0).await.unwrap();
    let bob = w.contact(anna, "bob", &Scope::ALL, true).await;
    let (bobs_phone, _) = w.device(bob).await;
    let home = Geofence { notify: Some(vec![anna, bob]), ..fence(bob, "home") };
    w.tracking.create_fence(&home, 200, 50_000).await.unwrap();
    w.tracking.create_fence(&fence(anna, "hers"), 200, 50_000).await.unwrap();
    let hers = raised(anna, 0);
    w.alerts.raise(&hers, hers.id, &[alert(anna, contacts())]).await.unwrap();
    let his = raised(bob, 0);
    w.alerts.raise(&his, his.id, &[alert(bob, Recipients::Person(anna))]).await.unwrap();
    let claimed = his.apply(Command::Claim(anna), after(1)).unwrap().emergency;
    w.alerts.change(Change { emergency: &claimed, joined: None, alerts: &[] }).await.unwrap();
    let key =
        DisclosureKey { viewer: anna, subject: bob, basis: "live_location", emergency: None, covert: false };
    w.trust.disclose(vec![Disclosed { key, first_at: T0, last_at: T0, fixes: 1 }]).await.unwrap();
    w.fixes
        .record(&[new_fix(phone, 1, T0), new_fix(removed, 1, T0), new_fix(bobs_phone, 1, T0)])
        .await
        .unwrap();

    assert_eq!(w.identity.forget(anna, after(9)).await.unwrap(), vec![phone]);
    assert!(w.identity.account(anna).await.unwrap().is_none());
    assert!(w.identity.account_by_handle("anna").await.unwrap().is_none());
    assert!(w.identity.device(phone).await.unwrap().is_none());
    assert!(w.identity.session(session).await.unwrap().is_none());
    assert_eq!(w.trust.links(bob, LinkRole::Contact, None, 10, T0).await.unwrap(), vec![]);
    assert_eq!(w.trust.disclosures(bob, None, 10).await.unwrap(), vec![]);
    assert_eq!(w.tracking.fences(anna, None, 10).await.unwrap(), vec![]);
    let left = w.tracking.fence(bob, home.id).await.unwrap().unwrap();
    assert_eq!(left.notify, Some(vec![bob]), "and a list that named her does not become everybody");
    assert_eq!(w.alerts.emergency(hers.id).await.unwrap(), None);
    assert_eq!(w.alerts.emergency_of(anna, hers.id).await.unwrap(), None);
    assert_eq!(w.alerts.emergency(his.id).await.unwrap(), Some(Emergency { claims: vec![], ..claimed }));
    assert_eq!(w.alerts.inbox_after(anna, 0, 10).await.unwrap(), vec![]);
    assert_eq!(w.fixes.newest(&[phone, removed]).await.unwrap(), None);
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 0);
    assert!(w.fixes.newest(&[bobs_phone]).await.unwrap().is_some());
    let revoked = w.identity.revoked_since(T0).await.unwrap();
    for expected in [Revoked::Device(phone), Revoked::Device(removed), Revoked::Session(session)] {
        assert!(revoked.contains(&expected), "{expected:?}");
    }
}

pub(crate) async fn a_deleted_alert_leaves_its_place(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let (gone, stays) = (alert(anna, Recipients::Person(bob)), alert(bob, Recipients::Person(bob)));
    w.alerts.tell(&[gone.clone(), stays.clone()]).await.unwrap();
    w.identity.forget(anna, T0).await.unwrap();
    let inbox = w.alerts.inbox_after(bob, 0, 10).await.unwrap();
    let places: Vec<_> = inbox.iter().map(|p| (p.cursor, p.id, p.alert.is_some())).collect();
    assert_eq!(places, vec![(1, gone.id, false), (2, stays.id, true)]);
    let state = cima::alerts::DeliveryState::Seen;
    assert!(w.alerts.ack(bob, gone.id, state, T0).await.unwrap(), "it is still in their inbox");
    w.alerts.tell(&[alert(bob, Recipients::Person(bob))]).await.unwrap();
    assert_eq!(w.inbox(bob).await.len(), 3);
}

/// Coordinates that are nobody else's.
fn place(person: u32, n: u32) -> (f64, f64) {
    let part = f64::from(n) * 0.000_123_456_789 + f64::from(person) * 0.000_000_031_4;
    (-33.123_456_7 + part, 151.765_432_1 - part)
}

/// How many of the numbers are in the files: as the bytes that SQLite and Postgres keep, or as text.
fn in_files(files: &[Vec<u8>], numbers: &[f64]) -> usize {
    let forms = |n: &f64| [n.to_be_bytes().to_vec(), n.to_string().into_bytes()];
    let mut sought: HashMap<[u8; 8], Vec<(usize, Vec<u8>)>> = HashMap::new();
    for (n, form) in numbers.iter().enumerate().flat_map(|(n, number)| forms(number).map(|form| (n, form))) {
        let start = form[..8].try_into().unwrap();
        sought.entry(start).or_default().push((n, form));
    }
    let mut found = HashSet::new();
    for file in files {
        for (place, start) in file.array_windows::<8>().enumerate() {
            let starting = sought.get(start).into_iter().flatten();
            found.extend(starting.filter(|(_, form)| file[place..].starts_with(form)).map(|(n, _)| *n));
        }
    }
    found.len()
}

/// What one person leaves everywhere a coordinate may be.
async fn live_there(w: &World, user: UserId, person: u32) -> Vec<f64> {
    let mut numbers = Vec::new();
    for n in 5_000..5_004 {
        let (lat, lon) = place(person, n);
        let raw = RawShape::Circle { center: vec![lon, lat], radius_m: 50.0 };
        let shape = Arc::new(Shape::try_from(raw).unwrap());
        w.tracking.create_fence(&Geofence { shape, ..fence(user, "there") }, 200, 50_000).await.unwrap();
        numbers.extend([lat, lon]);
    }
    let (lat, lon) = place(person, 6_000);
    let emergency = Emergency { opening_fix: Some(fix(1, T0, lat, lon)), ..raised(user, 0) };
    w.alerts.raise(&emergency, emergency.id, &[]).await.unwrap();
    numbers.extend([lat, lon]);
    numbers
}

/// What a backend may promise whose files are on this machine.
pub(crate) async fn no_coordinate_stays(w: &World, files: impl Fn() -> Vec<PathBuf>) {
    let people = [w.person("anna").await, w.person("bob").await];
    let mut numbers = [Vec::new(), Vec::new()];
    for (person, user) in people.iter().enumerate() {
        numbers[person].extend(live_there(w, *user, person as u32).await);
    }
    // Rows of both share pages. This many, in this order, leave copies where they were when pages are split and merged;
    // `secure_delete` alone does not reach those.
    let phones: Vec<DeviceId> = (0..2).map(|n| DeviceId(Uuid::from_u128(n))).collect();
    for (phone, user) in phones.iter().zip(people) {
        assert!(w.identity.open_session(new_session(user, *phone)).await.unwrap());
    }
    for group in 0..40_u32 {
        let fixes = (group * 60..(group + 1) * 60).map(|n| {
            let person = n * 31 % 1_009 % 2;
            let (lat, lon) = place(person, n);
            numbers[person as usize].extend([lat, lon]);
            let fix = fix(i64::from(n) + 1, after(u64::from(n)), lat, lon);
            NewFix { device: phones[person as usize], fix, received_at: T0, streamed: true }
        });
        w.fixes.record(&fixes.collect::<Vec<_>>()).await.unwrap();
    }
    let read = || -> Vec<Vec<u8>> { files().iter().map(|f| std::fs::read(f).unwrap()).collect() };
    let before = read();
    assert_eq!(in_files(&before, &numbers[0]), numbers[0].len(), "the search finds what is there");

    w.identity.forget(people[0], T0).await.unwrap();
    let files = read();
    assert_eq!(in_files(&files, &numbers[0]), 0, "of {} numbers", numbers[0].len());
    assert_eq!(in_files(&files, &numbers[1]), numbers[1].len(), "and only hers are gone");
}

pub(crate) async fn forgetting_twice_is_forgetting(w: &World) {
    let anna = w.person("anna").await;
    let (phone, _) = w.device(anna).await;
    assert_eq!(w.identity.forget(anna, T0).await.unwrap(), vec![phone]);
    assert_eq!(w.identity.forget(anna, T0).await.unwrap(), vec![]);
    assert_eq!(w.identity.forget(UserId(id()), T0).await.unwrap(), vec![]);
}

pub(crate) async fn what_was_on_its_way_is_not_kept(w: &World) {
    let anna = w.person("anna").await;
    let (phone, _) = w.device(anna).await;
    w.identity.forget(anna, T0).await.unwrap();
    let other = DeviceId(id());
    let group = [new_fix(phone, 1, after(1)), new_fix(other, 1, after(1)), new_fix(phone, 2, after(2))];
    assert_eq!(w.fixes.record(&group).await.unwrap(), FixBatch::default());
    assert_eq!(w.fixes.newest(&[phone]).await.unwrap(), None);
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 0);
    assert!(w.fixes.newest(&[other]).await.unwrap().is_some());
    let raise = raised(anna, 0);
    assert!(w.alerts.raise(&raise, raise.id, &[]).await.is_err(), "there is nobody to raise for");
    w.alerts.tell(&[alert(anna, contacts())]).await.unwrap();
    assert_eq!(w.alerts.open().await.unwrap(), vec![]);
}
