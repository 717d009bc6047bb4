//! What a person reads has names beside its ids; and which of a person's phones is shown.

use crate::harness::{Person, TestNode, next_frame, send_acked};
use cima::client::fix;
use serde_json::{Value, json};
use std::time::Duration;

const SCOPES: [&str; 3] = ["alerts", "emergency_location", "live_location"];

#[tokio::test(flavor = "multi_thread")]
async fn emergencies_claims_and_positions_have_names() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let raised =
        ada.post("/v1/emergencies", json!({"fix": fix(1, 48.2, 16.4, node.now())})).await.ok().unwrap();
    assert_eq!(raised["tells"], 1);
    let path = format!("/v1/emergencies/{}", raised["id"].as_str().unwrap());
    let claimed = bo.post(&format!("{path}/claim"), json!({})).await.ok().unwrap();
    assert_eq!(claimed["claims"][0]["name"], "Bo");
    for seen in [ada.get(&path).await.body, bo.get(&path).await.body, claimed] {
        assert_eq!((&seen["subject_name"], &seen["device_name"]), (&json!("Ada"), &json!("phone")), "{seen}");
        assert_eq!(seen["claims"][0]["name"], "Bo");
    }
    let listed = bo.get("/v1/emergencies?role=contact").await.body;
    assert_eq!(listed["items"][0]["subject_name"], "Ada");
    let seen = bo.get(&format!("/v1/people/{}/location", ada.id())).await.body;
    assert_eq!((&seen["name"], &seen["device_name"]), (&json!("Ada"), &json!("phone")));

    let mut watching = bo.stream().await;
    let told = watching.wait("emergency").await.unwrap();
    assert_eq!(told["emergency"]["subject_name"], "Ada");
    watching.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    let position = watching.wait("position").await.unwrap();
    assert_eq!((&position["name"], &position["device_name"]), (&json!("Ada"), &json!("phone")));
    // A device that came later is named as soon as its name is read.
    let tablet = ada.another_device("tablet").await;
    let mut sends = tablet.stream().await;
    let moved = |seq: i64| fix(seq, 48.0 + seq as f64, 16.0, node.now());
    send_acked(&mut sends, &[moved(1)]).await;
    assert_eq!(watching.wait("position").await.unwrap()["device"], tablet.session.device);
    send_acked(&mut sends, &[moved(2)]).await;
    assert_eq!(watching.wait("position").await.unwrap()["device_name"], "tablet");

    let ended = ada.post(&format!("{path}/resolve"), json!({})).await.ok().unwrap();
    assert_eq!(ended["claims"][0]["name"], "Bo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_says_how_many_it_tells() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let alone = ada.post("/v1/emergencies", json!({})).await.ok().unwrap();
    assert_eq!(alone["tells"], 0, "nobody is there to be told");
    let (ada, _bo, _) = node.pair(&SCOPES).await;
    let mut socket = ada.stream().await;
    let id = cima::id::fresh(&node.clock);
    let raise = json!({"type": "emergency", "id": id, "countdown_s": 60});
    socket.send(&raise).await.unwrap();
    assert_eq!(socket.wait("accepted").await.unwrap()["tells"], 1, "after the countdown");
    socket.send(&raise).await.unwrap();
    assert_eq!(socket.wait("accepted").await.unwrap()["tells"], 1, "a repeat too");
    let joined = ada.post("/v1/emergencies", json!({})).await.ok().unwrap();
    assert_eq!(joined["tells"], 1);

    // Whatever PIN ends it, a repeat afterwards is answered the same.
    let mut answers = Vec::new();
    for pin in ["2468", "1357"] {
        let (ada, _bo, _) = node.pair(&SCOPES).await;
        let pins = json!({"pin": "2468", "duress_pin": "1357"});
        ada.call("PATCH", "/v1/me", pins).await.ok().unwrap();
        let id = cima::id::fresh(&node.clock);
        ada.post("/v1/emergencies", json!({"id": id})).await.ok().unwrap();
        let path = format!("/v1/emergencies/{id}/resolve");
        ada.post(&path, json!({"pin": pin})).await.ok().unwrap();
        let again = ada.post("/v1/emergencies", json!({"id": id})).await.ok().unwrap();
        answers.push((again.get("tells").cloned(), again["state"].clone()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_answered_before_there_is_a_fix() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let mut watching = bo.stream().await;
    watching.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    let answer = next_frame(&mut watching).await;
    let wanted = json!({"type": "watching", "user": ada.id(), "name": "Ada", "basis": "live_location"});
    assert_eq!(answer, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_phone_did_not_trust_is_shown_as_doubtful() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let mut doubtful = fix(1, 48.2, 16.4, node.now());
    doubtful["accuracy_m"] = json!(-1);
    let raised = ada.post("/v1/emergencies", json!({"fix": doubtful})).await.ok().unwrap();
    assert_eq!(raised["notes"], json!([{"field": "accuracy_m", "code": "place_not_valid"}]));
    let path = format!("/v1/people/{}/location", ada.id());
    let seen = bo.get(&path).await.body;
    assert_eq!((&seen["doubtful"], &seen["fix"]["lat"]), (&json!(true), &json!(48.2)));
    let mut watching = bo.stream().await;
    watching.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    assert_eq!(watching.wait("position").await.unwrap()["doubtful"], true);
    send_acked(&mut ada.stream().await, &[fix(2, 48.3, 16.4, node.now())]).await;
    assert_eq!(bo.get(&path).await.body.get("doubtful"), None);
}

/// Sends a fix each minute for a quarter of an hour and a bit, `metres` apart; the sender with tokens of then.
async fn minutes(node: &TestNode, mut from: Person, first_seq: i64, metres: f64) -> Person {
    for n in 0..18_i64 {
        node.clock.advance(Duration::from_secs(60));
        from = from.now().await;
        let moved = fix(first_seq + n, 48.0 + n as f64 * metres / 111_000.0, 16.0, node.now());
        from.post("/v1/locations", json!({"fixes": [moved]})).await.ok().unwrap();
    }
    from
}

async fn told(person: &Person, template: &str) -> Vec<Value> {
    let alerts = person.get("/v1/alerts").await.body;
    let of_it = |alert: &&Value| alert["template"] == template;
    alerts["items"].as_array().unwrap().iter().filter(of_it).cloned().collect()
}

async fn tracked(person: &Person) -> String {
    let devices = person.get("/v1/devices").await.body;
    let tracked = devices["items"].as_array().unwrap().iter().find(|d| d["tracked"] == true).unwrap();
    tracked["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_that_moves_is_the_persons_or_they_are_asked() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    let ada = minutes(&node, ada, 1, 0.0).await;
    let new = ada.another_device("new phone").await;
    // Shortly after the old one was heard it may only be in a cellar.
    let new = minutes(&node, new, 1, 100.0).await;
    let ada = ada.now().await;
    assert_eq!(tracked(&ada).await, "phone");
    let asked = told(&ada, "device.which").await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["title"], "Which phone is with you?");
    assert!(asked[0]["body"].as_str().unwrap().starts_with("new phone is on its way"));
    assert_eq!(asked[0]["params"]["device"], new.session.device);
    assert_eq!(told(&ada, "device.followed").await.len(), 0);

    node.clock.advance(Duration::from_secs(2 * 3_600));
    minutes(&node, new, 100, 100.0).await;
    let ada = ada.now().await;
    assert_eq!(tracked(&ada).await, "new phone");
    assert_eq!(told(&ada, "device.followed").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_looked_at_on_one_phone_is_known_on_the_other() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let tablet = bo.another_device("tablet").await;
    let (mut phone, mut other) = (bo.stream().await, tablet.stream().await);
    ada.raise().await;
    let raised = |frame: &Value| frame["type"] == "alert" && frame["template"] == "emergency.raised";
    let alert = phone.wait_for("alert", raised).await.unwrap();
    phone.send(&json!({"type": "ack", "alert": alert["id"], "state": "seen"})).await.unwrap();
    assert_eq!(other.wait("seen").await.unwrap()["alert"], alert["id"]);
    let inbox = tablet.get("/v1/alerts").await.body;
    let read = inbox["items"].as_array().unwrap().iter().find(|item| item["id"] == alert["id"]).unwrap();
    assert!(read["seen_at"].is_string(), "{read}");
    let call = format!("/v1/alerts/{}/ack", alert["id"].as_str().unwrap());
    tablet.post(&call, json!({"state": "seen"})).await.ok().unwrap();
    assert_eq!(phone.wait("seen").await.unwrap()["alert"], alert["id"]);
}
