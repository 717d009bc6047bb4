//! Emergencies end to end: raise, join, claim, end, countdown, expiry, joins, what contacts see and when it stops.

use crate::harness::{Person, TestNode, proving, send_acked};
use cima::client::{Heard, fix};
use serde_json::{Value, json};
use std::time::Duration;

fn is_emergency(state: &'static str) -> impl Fn(&Value) -> bool {
    move |f| f["type"] == "emergency" && f["emergency"]["state"] == state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_sees_a_position_only_while_the_emergency_is_active() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    let watch = json!({"type": "watch", "user": ada.id()});
    contact.send(&watch).await.unwrap();
    assert_eq!(contact.wait("unavailable").await.unwrap()["user"], *ada.id());
    let location = format!("/v1/people/{}/location", ada.id());
    let before = bo.get(&location).await;
    assert_eq!((before.status, before.code()), (404, "not_available"));

    let id = cima::id::fresh(&cima::clock::Clock::system()).to_string();
    let raise =
        json!({"type": "emergency", "id": id, "kind": "sos", "fix": fix(2, 48.21, 16.41, node.now())});
    phone.send(&raise).await.unwrap();
    let accepted = phone.wait("accepted").await.unwrap();
    assert_eq!((&accepted["emergency"], &accepted["state"]), (&json!(id), &json!("active")));
    assert_eq!((&accepted["copies"], &accepted["copies_max"]), (&json!(1), &json!(1)));
    let mut seen = (false, false);
    while seen != (true, true) {
        let frame = contact
            .wait_for("alert and emergency", |f| f["type"] == "alert" || f["type"] == "emergency")
            .await;
        match frame.unwrap() {
            f if f["type"] == "alert" => {
                seen.0 |= f["kind"] == "emergency" && f["emergency"] == *id && f["cursor"] == 2
            }
            f => seen.1 |= f["emergency"]["state"] == "active" && f["emergency"].get("deliveries").is_none(),
        }
    }
    contact.send(&watch).await.unwrap();
    let newest = contact.wait("position").await.unwrap();
    assert_eq!((&newest["fix"]["lat"], &newest["basis"]), (&json!(48.21), &json!("emergency")));
    send_acked(&mut phone, &[fix(3, 48.22, 16.42, node.now())]).await;
    let live = contact
        .wait_for("the live position", |f| f["type"] == "position" && f["fix"]["seq"] == 3)
        .await
        .unwrap();
    assert_eq!(live["user"], *ada.id());
    assert_eq!(bo.get(&location).await.body["basis"], "emergency");
    let track = bo.get(&format!("/v1/people/{}/track", ada.id())).await.ok().unwrap();
    assert_eq!(track["features"].as_array().unwrap().len(), 3);

    contact.send(&json!({"type": "claim", "emergency": id})).await.unwrap();
    // The frame of the claim and the alert of it come from two events: either may be first.
    let mut told = (false, false);
    while told != (true, true) {
        let frame =
            phone.wait_for("the claim", |f| f["type"] == "emergency" || f["type"] == "alert").await.unwrap();
        told.0 |= frame["emergency"]["claims"][0]["contact"] == *bo.id();
        told.1 |= frame["template"] == "emergency.claimed";
    }

    let ended = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await;
    assert_eq!(ended.body["state"], "resolved");
    let after = tokio::time::timeout(Duration::from_secs(2), contact.wait("unavailable")).await;
    assert_eq!(after.expect("within two seconds").unwrap()["user"], *ada.id());
    // The phone goes on; nothing of it is shown. A resume at the end says that nothing is on its way.
    send_acked(&mut phone, &[fix(4, 48.23, 16.43, node.now())]).await;
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    loop {
        match contact.hear().await {
            Heard::Frame(f) if f["type"] == "resumed" => break,
            Heard::Frame(f) => assert_ne!(f["type"], "position", "after the end"),
            ended => panic!("{ended:?}"),
        }
    }
    assert_eq!(bo.get(&location).await, before, "byte for byte as before");
    let disclosures = ada.get("/v1/me/disclosures").await.ok().unwrap();
    let row = &disclosures["items"][0];
    assert_eq!(
        (&row["viewer"], &row["basis"], &row["emergency"]),
        (&json!(bo.id()), &json!("emergency"), &json!(id))
    );
    assert_eq!(row["fixes"], 6, "two frames, one location, a track of three");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_raises_at_once_none_is_refused() {
    let node = TestNode::start().await;
    let (ada, _bo, _) = node.pair(&["alerts"]).await;
    let many = if proving() { 120 } else { 60 };
    let raises = (0..many).map(|_| ada.post("/v1/emergencies", json!({"kind": "sos"})));
    let answers = futures_util::future::join_all(raises).await;
    let opened = answers.iter().filter(|answer| answer.status == 201).count();
    let joined = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((opened, joined), (1, many - 1));
    let one = &answers[0].body["emergency"]["id"];
    assert!(answers.iter().all(|answer| &answer.body["emergency"]["id"] == one));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_the_same_and_another_id_joins() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let (first, second) = (
        cima::id::fresh(&cima::clock::Clock::system()).to_string(),
        cima::id::fresh(&cima::clock::Clock::system()).to_string(),
    );
    let raise = |id: &str| json!({"id": id, "kind": "sos"});
    let opened = ada.post("/v1/emergencies", raise(&first)).await;
    assert_eq!(opened.status, 201);
    let repeated = ada.post("/v1/emergencies", raise(&first)).await;
    assert_eq!((repeated.status, &repeated.body["emergency"]["id"]), (200, &json!(first)));
    let joined = ada.post("/v1/emergencies", raise(&second)).await;
    assert_eq!((joined.status, &joined.body["emergency"]["id"]), (200, &json!(first)));
    assert_eq!(joined.body["joined"], json!([second]));
    for id in [&first, &second] {
        let resolved = ada.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
        assert_eq!(resolved["id"], json!(first), "every accepted id resolves");
    }
    let alerts = bo.get("/v1/alerts").await.ok().unwrap();
    let told: Vec<&Value> =
        alerts["items"].as_array().unwrap().iter().filter(|a| a["kind"] == "emergency").collect();
    assert_eq!(told.len(), 2, "raised, and raised again: {told:?}");
    ada.post(&format!("/v1/emergencies/{second}/cancel"), json!({})).await.ok().unwrap();
    assert_eq!(ada.get(&format!("/v1/emergencies/{first}")).await.body["state"], "cancelled");
    assert_eq!(ada.post("/v1/emergencies", raise(&first)).await.body["emergency"]["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_id_is_no_reason_to_refuse() {
    let node = TestNode::start().await;
    let (ada, eve) = (node.person("Ada").await, node.person("Eve").await);
    let id = cima::id::fresh(&cima::clock::Clock::system()).to_string();
    ada.post("/v1/emergencies", json!({"id": id})).await.ok().unwrap();
    let raised = eve.post("/v1/emergencies", json!({"id": id})).await;
    assert_eq!(raised.status, 201);
    assert_ne!(raised.body["emergency"]["id"], json!(id));
    let again = eve.post("/v1/emergencies", json!({"id": id})).await;
    assert_eq!((again.status, &again.body["emergency"]["id"]), (200, &raised.body["emergency"]["id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_see_nothing_of_a_countdown_until_it_is_over() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let mut contact = bo.stream().await;
    let counting = ada.post("/v1/emergencies", json!({"kind": "fall", "countdown_s": 30})).await;
    assert_eq!(counting.body["state"], "countdown");
    let id = counting.body["emergency"]["id"].as_str().unwrap();
    assert_eq!(bo.get(&format!("/v1/emergencies/{id}")).await.status, 404);
    assert_eq!(bo.get("/v1/emergencies?role=contact").await.body["items"], json!([]));
    node.clock.advance(Duration::from_secs(31));
    contact.wait_for("the emergency", is_emergency("active")).await.unwrap();
    assert_eq!(bo.get(&format!("/v1/emergencies/{id}")).await.body["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_countdown_goes_on_over_a_restart_and_fires_once() {
    let mut node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    ada.post("/v1/emergencies", json!({"countdown_s": 60})).await.ok().unwrap();
    assert!(node.stop().await);
    node.clock.advance(Duration::from_secs(120));
    node.start_again().await;
    let bo = crate::harness::Person { api: node.api.clone(), ..bo };
    let mut contact = bo.stream().await;
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    contact.wait_for("the alert", |f| f["type"] == "alert" && f["kind"] == "emergency").await.unwrap();
    let alerts = bo.get("/v1/alerts").await.ok().unwrap();
    let told = alerts["items"].as_array().unwrap().iter().filter(|a| a["kind"] == "emergency").count();
    assert_eq!(told, 1);
    drop(ada);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_expires_a_day_after_the_last_sign_and_says_so_before() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut contact = bo.stream().await;
    let id = ada.raise().await;
    contact.wait_for("the emergency", is_emergency("active")).await.unwrap();
    node.clock.advance(Duration::from_secs(23 * 3600 + 31 * 60));
    contact.wait_for("the warning", |f| f["template"] == "emergency.expires_soon").await.unwrap();
    node.clock.advance(Duration::from_secs(30 * 60));
    contact.wait_for("the end", is_emergency("expired")).await.unwrap();
    drop(id);
}

#[tokio::test(flavor = "multi_thread")]
async fn raised_again_it_lives_another_day_over_a_restart_and_says_so_before_it_expires() {
    let hour = Duration::from_secs(3600);
    let mut node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut contact = bo.stream().await;
    let id = ada.raise().await;
    node.clock.advance(10 * hour);
    let ada = ada.now().await;
    let again = ada.post("/v1/emergencies", json!({"kind": "sos"})).await.ok().unwrap();
    assert_eq!(again["joined"].as_array().map(Vec::len), Some(1), "{again}");
    contact.wait_for("that again", |f| f["template"] == "emergency.raised_again").await.unwrap();
    drop(contact);
    assert!(node.stop().await);
    node.start_again().await;
    let bo = Person { api: node.api.clone(), ..bo }.now().await;
    let mut contact = bo.stream().await;
    node.clock.advance(23 * hour + hour / 2);
    contact.wait_for("the warning", |f| f["template"] == "emergency.expires_soon").await.unwrap();
    drop(contact);
    assert!(node.stop().await);
    node.start_again().await;
    let bo = Person { api: node.api.clone(), ..bo }.now().await;
    node.clock.advance(hour / 2 - Duration::from_secs(1));
    let path = format!("/v1/emergencies/{id}");
    assert_eq!(bo.now().await.get(&path).await.ok().unwrap()["state"], "active");
    let mut contact = bo.now().await.stream().await;
    node.clock.advance(Duration::from_secs(1));
    contact.wait_for("the end", is_emergency("expired")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_can_be_taken_back_and_voided() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let eve = node.person("Eve").await;
    let id = ada.raise().await;
    let claim = format!("/v1/emergencies/{id}/claim");
    assert_eq!(eve.post(&claim, json!({})).await.status, 404);
    let claims = |answer: cima::client::Answer| answer.ok().unwrap()["claims"].as_array().unwrap().len();
    assert_eq!(claims(bo.post(&claim, json!({})).await), 1);
    assert_eq!(claims(bo.post(&format!("/v1/emergencies/{id}/unclaim"), json!({})).await), 0);
    assert_eq!(claims(bo.post(&claim, json!({})).await), 1);
    let void = json!({"contact": bo.id()});
    assert_eq!(claims(ada.post(&format!("/v1/emergencies/{id}/unclaim"), void).await), 0);
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await.ok().unwrap();
    assert_eq!(bo.post(&claim, json!({})).await.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_in_mid_emergency_ends_everything_at_once() {
    let node = TestNode::start().await;
    let (ada, bo, link) = node.pair(&["alerts", "emergency_location"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    let id = ada.raise().await;
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    contact.wait("position").await.unwrap();
    assert_eq!(ada.delete(&format!("/v1/links/{link}")).await.status, 204);
    contact.wait("unavailable").await.unwrap();
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
    assert_eq!(bo.get(&format!("/v1/emergencies/{id}")).await.status, 404);
    assert_eq!(bo.get("/v1/emergencies?role=contact").await.body["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_five_openings_an_hour_are_all_taken() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    for n in 0..7 {
        let id = ada.raise().await;
        let resolved = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await;
        assert_eq!(resolved.status, 200, "opening {n}");
    }
    let alerts = bo.get("/v1/alerts").await.ok().unwrap();
    let raised: Vec<&Value> =
        alerts["items"].as_array().unwrap().iter().filter(|a| a["kind"] == "emergency").collect();
    let coalesced: Vec<bool> = raised.iter().map(|a| a["params"]["coalesced"] == "true").collect();
    assert_eq!(coalesced, [false, false, false, false, false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_is_replayed_without_a_gap() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    for _ in 0..60 {
        let id = ada.raise().await;
        ada.post(&format!("/v1/emergencies/{id}/cancel"), json!({})).await.ok().unwrap();
    }
    let mut contact = bo.stream().await;
    contact.send(&json!({"type": "resume", "cursor": 3})).await.unwrap();
    let mut next = 4;
    loop {
        match contact.hear().await {
            Heard::Frame(f) if f["type"] == "alert" => {
                assert_eq!(f["cursor"], next);
                next += 1;
            }
            Heard::Frame(f) if f["type"] == "resumed" => {
                assert_eq!(f["complete"], true);
                break;
            }
            Heard::Frame(_) => {}
            ended => panic!("{ended:?}"),
        }
    }
    assert_eq!(next - 1, 121, "a link and 120 emergency alerts");
    contact.send(&json!({"type": "resume", "cursor": 100_000})).await.unwrap();
    assert_eq!(contact.wait("resumed").await.unwrap()["complete"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_tell_the_subject_how_far_the_alert_has_come() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut contact = bo.stream().await;
    let id = ada.raise().await;
    let alert = contact.wait_for("the alert", |f| f["type"] == "alert").await.unwrap();
    contact.send(&json!({"type": "ack", "alert": alert["id"], "state": "seen"})).await.unwrap();
    // A claim after the ack says that the ack was taken.
    contact.send(&json!({"type": "claim", "emergency": id})).await.unwrap();
    contact.wait_for("the claim", |f| f["emergency"]["claims"][0]["contact"] == *bo.id()).await.unwrap();
    let view = ada.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
    assert_eq!(
        (&view["deliveries"][0]["contact"], &view["deliveries"][0]["state"]),
        (&json!(bo.id()), &json!("seen"))
    );
    let contacts = bo.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
    assert!(contacts.get("deliveries").is_none());
}
