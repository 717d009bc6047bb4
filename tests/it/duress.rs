//! An end with the duress PIN: everything the subject's tokens can see equals a true end; contacts see the truth.
//!
//! The same story is played twice, ended once with each PIN; all that the subject ever receives is recorded, made
//! comparable (ids and times of different runs are renamed) and compared.

use crate::harness::{Person, TestNode, send_acked};
use cima::client::{Heard, Socket, fix};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

const PIN: &str = "1234";
const DURESS: &str = "9876";

/// Names ids and times by the order in which they were first seen, so that two runs can be compared.
#[derive(Default)]
pub(crate) struct Transcript {
    names: HashMap<String, String>,
    lines: Vec<String>,
}

impl Transcript {
    fn add(&mut self, what: &str, value: &Value) {
        let renamed = self.rename(value);
        self.lines.push(format!("{what}: {renamed}"));
    }
    pub(crate) fn rename(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => {
                let next = format!("id {}", self.names.len());
                Value::String(self.names.entry(text.clone()).or_insert(next).clone())
            }
            Value::String(text)
                if text.contains('_') && text.chars().last().is_some_and(|c| c.is_ascii_digit()) =>
            {
                Value::String("a handle".into())
            }
            Value::Array(items) => items.iter().map(|v| self.rename(v)).collect(),
            Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), self.rename(v))).collect(),
            other => other.clone(),
        }
    }
}

/// What has come on the socket so far: a resume from the head is answered after everything that was on its way.
async fn drain(transcript: &mut Transcript, phone: &mut Socket, subject: &Person) {
    drain_after(Vec::new(), transcript, phone, subject).await;
}

/// The same after these frames. An answer and the news of what it answers come in either order.
async fn drain_after(
    mut frames: Vec<Value>,
    transcript: &mut Transcript,
    phone: &mut Socket,
    subject: &Person,
) {
    // Everything the other side did is stored, and its events are heard, when the event of this raise is.
    let head = subject.get("/v1/alerts?limit=1000").await.body["items"].as_array().unwrap().len();
    phone.send(&json!({"type": "resume", "cursor": head})).await.unwrap();
    loop {
        match phone.hear().await {
            Heard::Frame(f) if f["type"] == "resumed" => break,
            Heard::Frame(f) => frames.push(f),
            ended => panic!("{ended:?}"),
        }
    }
    frames.sort_by_key(|frame| frame["type"].to_string());
    frames.iter().for_each(|frame| transcript.add("frame", frame));
}

async fn everything_readable(transcript: &mut Transcript, ada: &Person) {
    for path in [
        "/v1/me",
        "/v1/me/disclosures",
        "/v1/emergencies?role=subject",
        "/v1/emergencies?role=subject&state=active",
        "/v1/emergencies?role=subject&state=resolved",
        "/v1/emergencies?role=subject&state=cancelled",
        "/v1/alerts",
        "/v1/links?role=subject",
        "/v1/devices",
    ] {
        let answer = ada.get(path).await;
        transcript.add(path, &json!([answer.status, answer.body]));
    }
}

async fn play(pin: &str, countdown: bool, by_socket: bool) -> (Vec<String>, Vec<Value>) {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let pins = json!({"pin": PIN, "duress_pin": DURESS});
    ada.call("PATCH", "/v1/me", pins).await.ok().unwrap();
    let mut transcript = Transcript::default();
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    let countdown_s = if countdown { 60 } else { 0 };
    let raised = ada.post("/v1/emergencies", json!({"kind": "sos", "countdown_s": countdown_s})).await;
    let id = raised.body["emergency"]["id"].as_str().unwrap().to_owned();
    transcript.add("raise", &raised.body);
    let mut told = Vec::new();
    if !countdown {
        contact.wait_for("the emergency", |f| f["type"] == "emergency").await.unwrap();
        contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
        contact.wait("position").await.unwrap();
    }
    node.clock.advance(Duration::from_secs(10));
    drain(&mut transcript, &mut phone, &ada).await;

    let wrong = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": "0000"})).await;
    transcript.add("wrong PIN", &json!([wrong.status, wrong.body]));
    let missing = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await;
    transcript.add("no PIN", &json!([missing.status, missing.body]));
    let mut frames = Vec::new();
    if by_socket {
        phone.send(&json!({"type": "resolve", "emergency": id, "pin": pin})).await.unwrap();
        // Other frames of the socket do not wait for an end.
        while frames.last().is_none_or(|frame: &Value| frame["type"] != "accepted") {
            match phone.hear().await {
                Heard::Frame(frame) => frames.push(frame),
                ended => panic!("{ended:?}"),
            }
        }
    } else {
        let ended = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": pin})).await;
        transcript.add("end", &json!([ended.status, ended.body]));
    }
    drain_after(frames, &mut transcript, &mut phone, &ada).await;
    everything_readable(&mut transcript, &ada).await;

    // Life goes on: the contact looks, claims and acks if they can; the phone streams, the countdown's time passes.
    node.clock.advance(Duration::from_secs(5));
    send_acked(&mut phone, &[fix(2, 48.21, 16.41, node.now())]).await;
    let seen = bo.get(&format!("/v1/people/{}/location", ada.id())).await;
    told.push(json!({"location": seen.status}));
    let claim = bo.post(&format!("/v1/emergencies/{id}/claim"), json!({})).await;
    told.push(json!({"claim": claim.status}));
    for alert in bo.get("/v1/alerts").await.body["items"].as_array().unwrap() {
        bo.post(&format!("/v1/alerts/{}/ack", alert["id"].as_str().unwrap()), json!({"state": "seen"})).await;
        told.push(json!({"alert": alert["template"]}));
    }
    let view = bo.get(&format!("/v1/emergencies/{id}")).await;
    told.push(json!({"state": view.body["state"], "duress": view.body["duress"]}));
    node.clock.advance(Duration::from_secs(120));
    drain(&mut transcript, &mut phone, &ada).await;
    everything_readable(&mut transcript, &ada).await;

    // The end again with the same PIN, the emergency by its id, a new socket, and a new raise.
    let again = ada.post(&format!("/v1/emergencies/{id}/cancel"), json!({"pin": pin})).await;
    transcript.add("end again", &json!([again.status, again.body]));
    let one = ada.get(&format!("/v1/emergencies/{id}")).await;
    transcript.add("the emergency", &json!([one.status, one.body]));
    let mut newer = ada.stream().await;
    drain(&mut transcript, &mut newer, &ada).await;
    let anew = ada.post("/v1/emergencies", json!({"kind": "other"})).await;
    transcript.add("a new raise", &json!([anew.status, anew.body]));
    drain(&mut transcript, &mut newer, &ada).await;
    // A day and an hour on, when what goes on under duress expires.
    let second = anew.body["emergency"]["id"].as_str().unwrap();
    let ended = ada.post(&format!("/v1/emergencies/{second}/resolve"), json!({"pin": PIN})).await;
    transcript.add("its end", &json!([ended.status, ended.body]));
    let fresh = ada.api.refresh(&ada.session).await.unwrap();
    node.clock.advance(Duration::from_secs(600));
    let ada = Person { session: fresh, ..ada };
    everything_readable(&mut transcript, &ada).await;
    (transcript.lines, told)
}

fn assert_same(truly: &[String], forced: &[String]) {
    for (n, (a, b)) in truly.iter().zip(forced).enumerate() {
        assert_eq!(a, b, "line {n} of the transcripts differs");
    }
    assert_eq!(truly.len(), forced.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subjects_transcript_is_the_same_over_rest() {
    let (truly, forced) = tokio::join!(play(PIN, false, false), play(DURESS, false, false));
    assert_same(&truly.0, &forced.0);
    assert!(truly.1.contains(&json!({"location": 404})) && truly.1.contains(&json!({"claim": 409})));
    assert!(forced.1.contains(&json!({"location": 200})) && forced.1.contains(&json!({"claim": 200})));
    assert!(forced.1.contains(&json!({"alert": "emergency.duress"})), "{:?}", forced.1);
    assert!(forced.1.contains(&json!({"state": "active", "duress": true})));
    assert!(!forced.1.contains(&json!({"alert": "emergency.resolved"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subjects_transcript_is_the_same_over_the_socket() {
    let (truly, forced) = tokio::join!(play(PIN, false, true), play(DURESS, false, true));
    assert_same(&truly.0, &forced.0);
    assert!(forced.1.contains(&json!({"location": 200})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subjects_transcript_is_the_same_in_a_countdown() {
    let (truly, forced) = tokio::join!(play(PIN, true, false), play(DURESS, true, false));
    assert_same(&truly.0, &forced.0);
    assert!(truly.1.contains(&json!({"location": 404})));
    assert!(forced.1.contains(&json!({"location": 200})), "a forced cancel raises it: {:?}", forced.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_excluded_from_duress_sees_an_end() {
    let node = TestNode::start().await;
    let (ada, bo, link) = node.pair(&["alerts", "emergency_location"]).await;
    ada.call("PATCH", &format!("/v1/links/{link}"), json!({"duress": false})).await.ok().unwrap();
    ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
    let mut contact = bo.stream().await;
    let id = ada.raise().await;
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": DURESS})).await.ok().unwrap();
    contact.wait_for("the end", |f| f["emergency"]["state"] == "resolved").await.unwrap();
    let told = bo.get("/v1/alerts").await.ok().unwrap();
    let told: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|a| &a["template"]).collect();
    assert_eq!(told, ["link.asked", "emergency.raised", "emergency.resolved"]);
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
    let list = bo.get("/v1/links?role=contact").await.ok().unwrap();
    assert!(list["items"][0].get("duress").is_none(), "the contact is not told that they are excluded");
}

/// All that a contact can find of somebody's emergencies, and what has come on their socket.
async fn all_a_contact_finds(contact: &Person, ada: &Person, id: &str, stream: &mut Socket) -> Vec<String> {
    let mut found = Transcript::default();
    for (what, path) in [
        ("the emergency", format!("/v1/emergencies/{id}")),
        ("all", "/v1/emergencies?role=contact".to_owned()),
        ("the active", "/v1/emergencies?role=contact&state=active".to_owned()),
        ("where she is", format!("/v1/people/{}/location", ada.id())),
        ("where she was", format!("/v1/people/{}/track", ada.id())),
        ("alerts", "/v1/alerts".to_owned()),
        ("links", "/v1/links?role=contact".to_owned()),
    ] {
        let answer = contact.get(&path).await;
        found.add(what, &json!([answer.status, answer.body]));
    }
    drain(&mut found, stream, contact).await;
    found.lines
}

/// Ada cancels in the countdown with this PIN; Bo does not hear of duress.
async fn cancelled_in_a_countdown(pin: &str) -> Vec<String> {
    let node = TestNode::start_manual().await;
    let (ada, bo, link) = node.pair(&["alerts", "emergency_location"]).await;
    ada.call("PATCH", &format!("/v1/links/{link}"), json!({"duress": false})).await.ok().unwrap();
    ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
    let mut contact = bo.stream().await;
    let raised = ada.post("/v1/emergencies", json!({"kind": "sos", "countdown_s": 60})).await;
    let id = raised.body["emergency"]["id"].as_str().unwrap().to_owned();
    node.clock.advance(Duration::from_secs(5));
    let ended = ada.post(&format!("/v1/emergencies/{id}/cancel"), json!({"pin": pin})).await.ok().unwrap();
    assert_eq!((&ended["state"], &ended["keep_streaming_s"]), (&json!("cancelled"), &json!(3600)));
    node.clock.advance(Duration::from_secs(120));
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    all_a_contact_finds(&bo, &ada, &id, &mut contact).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_cancel_in_the_countdown_tells_those_who_do_not_hear_of_duress_nothing() {
    let (truly, forced) = tokio::join!(cancelled_in_a_countdown(PIN), cancelled_in_a_countdown(DURESS));
    assert!(truly[0].starts_with("the emergency: [404"), "{truly:?}");
    assert_same(&truly, &forced);
}

/// Cy becomes a contact after Ada ended an emergency with this PIN, and looks. What Bo, who was one before, is told of it.
async fn linked_after_the_end(pin: &str) -> (Vec<String>, Value) {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
    let id = ada.raise().await;
    node.clock.advance(Duration::from_secs(5));
    let ended = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": pin})).await;
    assert_eq!((ended.status, &ended.body["keep_streaming_s"]), (200, &json!(3600)));
    node.clock.advance(Duration::from_secs(5));
    let cy = node.person("Cy").await;
    node.api.link(&ada.session, &cy.session, &cy.handle, &["alerts", "emergency_location"]).await.unwrap();
    let mut contact = cy.stream().await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    // It goes on: somebody is on it, and in the end it expires or is truly ended.
    bo.post(&format!("/v1/emergencies/{id}/claim"), json!({})).await;
    ada.post(&format!("/v1/emergencies/{id}/cancel"), json!({"pin": PIN})).await.ok().unwrap();
    let found = all_a_contact_finds(&cy, &ada, &id, &mut contact).await;
    (found, bo.get("/v1/alerts").await.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_linked_after_a_forced_end_finds_what_they_find_after_a_true_one() {
    let (truly, forced) = tokio::join!(linked_after_the_end(PIN), linked_after_the_end(DURESS));
    assert!(truly.0[0].starts_with("the emergency: [404"), "{:?}", truly.0);
    assert_same(&truly.0, &forced.0);
    let told = forced.1["items"].as_array().unwrap().iter();
    assert_eq!(told.filter(|alert| alert["template"] == "emergency.duress").count(), 1, "{}", forced.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_says_who_hears_of_duress() {
    let node = TestNode::start().await;
    let (ada, bo, link) = node.pair(&["alerts"]).await;
    let cy = node.person("Cy").await;
    let body = json!({"contact": cy.handle, "scopes": ["alerts"], "duress": false});
    let asked = ada.post("/v1/links", body).await.ok().unwrap();
    let changed =
        ada.call("PATCH", &format!("/v1/links/{link}"), json!({"duress": false})).await.ok().unwrap();
    let accepted = bo.post(&format!("/v1/links/{link}/accept"), json!({})).await.ok().unwrap();
    let listed = ada.get("/v1/links?role=subject").await.ok().unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    for answer in [asked, changed, accepted, listed] {
        assert!(!answer.to_string().contains("duress"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_pins_wait_and_never_stand_before_a_raise() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
    let id = ada.raise().await;
    let path = format!("/v1/emergencies/{id}/resolve");
    for _ in 0..5 {
        assert_eq!(ada.post(&path, json!({"pin": "0000"})).await.code(), "pin_wrong");
    }
    for pin in [PIN, DURESS] {
        assert_eq!(ada.post(&path, json!({"pin": pin})).await.code(), "rate_limited");
    }
    assert_eq!(ada.post("/v1/emergencies", json!({})).await.status, 200);
    node.clock.advance(Duration::from_secs(15 * 60 + 1));
    let session = ada.api.refresh(&ada.session).await.unwrap();
    let ada = Person { session, ..ada };
    assert_eq!(ada.post(&path, json!({"pin": PIN})).await.status, 200);
}
