//! Fences end to end: what is told, to whom, once, and what late fixes make of it.

use crate::harness::{Dice, Person, TestNode, count, seed, send_acked, settings};
use cima::client::fix;
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const HOME: (f64, f64) = (48.2, 16.4);
/// Degrees of latitude of a hundred metres, about.
const HUNDRED_M: f64 = 0.0009;

/// A fix so many hundred metres north of home.
fn north(seq: i64, hundreds: f64, at: Timestamp) -> Value {
    fix(seq, HOME.0 + hundreds * HUNDRED_M, HOME.1, at)
}

async fn alerts_of(person: &Person) -> Vec<(String, bool)> {
    let alerts = person.get("/v1/alerts?limit=1000").await.ok().unwrap();
    let of_fences = alerts["items"].as_array().unwrap().iter().filter(|a| a["kind"] == "geofence");
    of_fences.map(|a| (a["transition"].as_str().unwrap().to_owned(), a["late"] == true)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entering_and_leaving_is_told_once_each_and_noise_at_the_edge_is_not() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let fence = ada.fence(HOME.0, HOME.1, 100.0, &["enter", "exit"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now() - Duration::from_secs(60);
    let at = |s: u64| start + Duration::from_secs(s);
    // Outside, in, to and fro within the hysteresis, out.
    let way = [3.0, 0.5, 1.1, 0.95, 1.15, 0.5, 1.5, 3.0];
    let fixes: Vec<Value> = (1..).zip(way).map(|(seq, m)| north(seq, m, at(seq as u64))).collect();
    send_acked(&mut phone, &fixes).await;
    let enter =
        contact.wait_for("the alert", |f| f["type"] == "alert" && f["kind"] == "geofence").await.unwrap();
    assert_eq!(
        (&enter["transition"], &enter["geofence"], &enter["subject"]),
        (&json!("enter"), &json!(fence), &json!(ada.id()))
    );
    assert_eq!(enter["title"], "Ada entered home");
    let exit =
        contact.wait_for("the alert", |f| f["type"] == "alert" && f["kind"] == "geofence").await.unwrap();
    assert_eq!(exit["transition"], "exit");
    assert_eq!(alerts_of(&bo).await, [("enter".into(), false), ("exit".into(), false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_state_is_history_and_never_an_alert() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "zones"]).await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[north(1, 0.0, node.now())]).await;
    let fence = ada.fence(HOME.0, HOME.1, 100.0, &["enter", "exit"]).await;
    wait_for_zones(&bo, &ada, 1).await;
    assert_eq!(ada.delete(&format!("/v1/geofences/{fence}")).await.status, 204);
    wait_for_zones(&bo, &ada, 0).await;
    assert_eq!(alerts_of(&bo).await, []);
}

async fn wait_for_zones(viewer: &Person, subject: &Person, zones: usize) {
    let path = format!("/v1/people/{}/zones", subject.id());
    let seen = async {
        while viewer.get(&path).await.body["items"].as_array().map(Vec::len) != Some(zones) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(cima::client::DEADLINE, seen).await.expect("zones");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_contacts_with_alerts_are_told_and_only_those_named() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let (cy, eve) = (node.person("Cy").await, node.person("Eve").await);
    node.api.link(&ada.session, &cy.session, &cy.handle, &["zones"]).await.unwrap();
    let fence = ada.fence(HOME.0, HOME.1, 100.0, &["enter"]).await;
    let mut body = ada.get(&format!("/v1/geofences/{fence}")).await.ok().unwrap();
    for field in ["id", "created_at"] {
        body.as_object_mut().unwrap().remove(field);
    }
    body["notify"] = json!([cy.id(), eve.id(), bo.id()]);
    ada.call("PUT", &format!("/v1/geofences/{fence}"), body).await.ok().unwrap();
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now() - Duration::from_secs(10);
    send_acked(&mut phone, &[north(1, 5.0, start), north(2, 0.0, node.now())]).await;
    contact.wait_for("the alert", |f| f["kind"] == "geofence").await.unwrap();
    assert_eq!((alerts_of(&cy).await.len(), alerts_of(&eve).await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooldown_makes_further_alerts_history() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let shape = json!({"type": "Circle", "center": [HOME.1, HOME.0], "radius_m": 100});
    let fence = json!({"name": "gate", "shape": shape, "triggers": ["enter", "exit"], "cooldown_s": 40});
    ada.post("/v1/geofences", fence).await.ok().unwrap();
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now() - Duration::from_secs(100);
    let at = |s: u64| start + Duration::from_secs(s);
    let way = [(0, 5.0), (10, 0.0), (20, 5.0), (30, 0.0), (40, 5.0), (55, 0.0), (70, 5.0)];
    let fixes: Vec<Value> = (1..).zip(way).map(|(seq, (s, m))| north(seq, m, at(s))).collect();
    send_acked(&mut phone, &fixes).await;
    // enter 10, exit 20, (30, 40 cooled down), enter 55, exit 70.
    for kind in ["enter", "exit", "enter", "exit"] {
        let alert = contact.wait_for("an alert", |f| f["kind"] == "geofence").await.unwrap();
        assert_eq!(alert["transition"], kind);
    }
    assert_eq!(alerts_of(&bo).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_transition_that_still_holds_is_told_as_late_and_an_undone_one_is_not() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    ada.fence(HOME.0, HOME.1, 100.0, &["enter", "exit"]).await;
    let hour_ago = node.now() - Duration::from_secs(3600);
    let at = |s: u64| hour_ago + Duration::from_secs(s);
    // Came and went while the phone had no net, then came and stayed.
    let backlog = json!({"fixes": [north(1, 5.0, at(0)), north(2, 0.0, at(60)), north(3, 5.0, at(120)), north(4, 0.0, at(180))]});
    let mut contact = bo.stream().await;
    let answer = ada.post("/v1/locations", backlog.clone()).await.ok().unwrap();
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(4), &json!(0)));
    let again = ada.post("/v1/locations", backlog).await.ok().unwrap();
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(4)));
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[north(5, 0.1, node.now())]).await;
    let alert = contact.wait_for("the alert", |f| f["kind"] == "geofence").await.unwrap();
    assert_eq!((&alert["transition"], &alert["late"]), (&json!("enter"), &json!(true)));
    assert_eq!(alerts_of(&bo).await, [("enter".into(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fix_never_moves_the_last_position_back() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["live_location"]).await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[north(10, 5.0, node.now())]).await;
    send_acked(&mut phone, &[north(11, 1.0, node.now() - Duration::from_secs(600))]).await;
    let seen = bo.get(&format!("/v1/people/{}/location", ada.id())).await.ok().unwrap();
    assert_eq!(seen["fix"]["seq"], 10);
}

/// The history that is true at the end: (fence kind, seq) of every transition that was not taken back.
async fn history(node: &TestNode, ada: &Person) -> Vec<(String, i64)> {
    let store = &node.node.as_ref().unwrap().stores().tracking;
    let device = ada.session.device.parse().unwrap();
    let all = store.transitions_since(device, Timestamp::from_unix_ms(0)).await.unwrap();
    let kept = all.into_iter().filter(|t| !t.retracted).map(|t| t.transition);
    kept.map(|t| (t.kind.word().to_owned(), t.seq)).collect()
}

/// A walk to and fro across the edge, and frames of it in some order, with repeats.
async fn history_of(frames: &[Vec<Value>], wanted: Option<&[(String, i64)]>) -> Vec<(String, i64)> {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    ada.fence(HOME.0, HOME.1, 100.0, &["enter", "exit"]).await;
    let mut phone = ada.stream().await;
    for frame in frames {
        phone.send(&json!({"type": "fixes", "fixes": frame})).await.unwrap();
        phone.wait("acked").await.unwrap();
    }
    // The sign that all is evaluated: what is wanted is there, or (for the reference) a known last transition.
    let settled = async {
        loop {
            let tracking = &node.node.as_ref().unwrap().services.tracking;
            tracking.settled().await;
            let found = history(&node, &ada).await;
            match wanted {
                Some(wanted) if found == wanted => return found,
                Some(_) => tokio::task::yield_now().await,
                None if found.last().is_some_and(|(_, seq)| *seq == 1000) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    match tokio::time::timeout(cima::client::DEADLINE, settled).await {
        Ok(found) => found,
        Err(_) => history(&node, &ada).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_does_not_depend_on_the_order_of_arrival() {
    let mut dice = Dice(seed());
    let start = cima::clock::Clock::system().now() - Duration::from_secs(3000);
    let mut walk: Vec<Value> = Vec::new();
    for seq in 1..200_i64 {
        let hundreds = dice.roll(300) as f64 / 100.0;
        walk.push(north(seq, hundreds, start + Duration::from_secs(seq as u64 * 10)));
    }
    // Ends far out and then at home, so that the last transition is known.
    walk.push(north(999, 9.0, start + Duration::from_secs(2500)));
    walk.push(north(1000, 0.0, start + Duration::from_secs(2510)));
    let in_order: Vec<Vec<Value>> = walk.chunks(20).map(<[Value]>::to_vec).collect();
    let truth = history_of(&in_order, None).await;
    assert!(truth.len() > 20, "{truth:?}");
    for round in 0..count(30) {
        let mut shuffled = in_order.clone();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, dice.roll(i as u64 + 1) as usize);
        }
        let repeated = shuffled[dice.roll(shuffled.len() as u64) as usize].clone();
        shuffled.push(repeated);
        let found = history_of(&shuffled, Some(&truth)).await;
        assert_eq!(found, truth, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transition_whose_fix_was_acked_is_told_after_a_restart() {
    let mut node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    ada.fence(HOME.0, HOME.1, 100.0, &["enter"]).await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[north(1, 5.0, node.now())]).await;
    node.node.as_ref().unwrap().services.tracking.settled().await;
    // The fix is on disk, the transition is not: as if the power had gone in between.
    let device = ada.session.device.parse().unwrap();
    let lost = cima::tracking::NewFix {
        device,
        fix: serde_json::from_value(north(2, 0.0, node.now())).unwrap(),
        received_at: node.now(),
        streamed: true,
    };
    drop(phone);
    assert!(node.stop().await);
    let backend = settings(&node.folder).await.backend();
    let stores = cima::store::open(&backend, node.clock.clone()).await.unwrap();
    stores.fixes.record(&[lost]).await.unwrap();
    // And the owner at that moment, if there are several nodes, gave nothing back.
    stores.tracking.take_device(device, cima::id::NodeId::fresh(&node.clock)).await.unwrap();
    stores.close().await;
    node.start_again().await;
    let bo = Person { api: node.api.clone(), ..bo };
    let mut contact = bo.stream().await;
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    let alert = contact.wait_for("the alert", |f| f["kind"] == "geofence").await.unwrap();
    assert_eq!(alert["transition"], "enter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fix_that_waited_at_a_stop_is_evaluated_from_its_journal_in_files() {
    let mut node = TestNode::start().await;
    let (ada, _, _) = node.pair(&["alerts"]).await;
    ada.fence(HOME.0, HOME.1, 100.0, &["enter", "exit"]).await;
    let start = node.now() - Duration::from_secs(1_000);
    let mut phone = ada.stream().await;
    let at = |s| start + Duration::from_secs(s);
    send_acked(&mut phone, &[north(1, 5.0, at(0)), north(3, 5.0, at(200)), north(4, 5.0, at(300))]).await;
    drop(phone);
    assert!(node.stop().await);
    // As if the power had gone between the ack of a late fix and its evaluation.
    let device = ada.session.device.parse().unwrap();
    let late = cima::tracking::NewFix {
        device,
        fix: serde_json::from_value(north(2, 0.0, at(100))).unwrap(),
        received_at: node.now(),
        streamed: true,
    };
    let backend = cima::store::Backend::Folder(node.folder.path().to_owned());
    let stores = cima::store::open(&backend, node.clock.clone()).await.unwrap();
    let (limits, tasks) = (cima::journal::Limits::default(), cima::runtime::Tasks::default());
    let folder = node.folder.path().join("journal");
    let journal = cima::journal::Journal::open(&folder, stores.fixes.clone(), limits, &tasks).await.unwrap();
    cima::tracking::FixStore::record(journal.as_ref(), &[late]).await.unwrap();
    drop(journal);
    stores.close().await;
    node.start_again().await;
    let found = async {
        while history(&node, &ada).await.len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(cima::client::DEADLINE, found).await.unwrap();
    let passage = [("exit".into(), 1), ("enter".into(), 2), ("exit".into(), 3)];
    assert_eq!(history(&node, &ada).await, passage);
}
