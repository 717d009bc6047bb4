//! Tokens come and go: what is gone is removed, what came back is not, and those who count on somebody are told.

use super::fake::Play;
use super::{Providers, providers};
use crate::harness::{Dice, Person, TestNode, count, seed};
use cima::alerts::{AlertDraft, AlertKind, Lane, Recipients};
use cima::bus::Event;
use cima::clock::Clock;
use cima::id::{AlertId, UserId};
use cima::push::{Channel, Queue, Urgency};
use cima::tracking::Severity;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Stores an alert for somebody and publishes that, as every domain does.
async fn tell(node: &TestNode, to: &Person) -> AlertId {
    let user = UserId(to.id().parse().unwrap());
    let draft = AlertDraft {
        id: AlertId::fresh(&node.clock),
        kind: AlertKind::Emergency,
        severity: Severity::Critical,
        subject: user,
        at: node.clock.now(),
        template: "emergency.raised",
        params: BTreeMap::new(),
        emergency: None,
        geofence: None,
        transition: None,
        late: false,
        lane: Lane::Emergency,
        recipients: Recipients::Person(user),
    };
    let node = node.node.as_ref().unwrap();
    let told = node.stores().alerts.tell(std::slice::from_ref(&draft)).await.unwrap().told;
    node.services.bus.publish(Event::Inbox(told.into()));
    draft.id
}

async fn channels(person: &Person) -> Vec<String> {
    let path = format!("/v1/devices/{}/push", person.session.device);
    let items = person.get(&path).await.ok().unwrap()["items"].clone();
    items.as_array().unwrap().iter().map(|e| e["channel"].as_str().unwrap().to_owned()).collect()
}

/// Until every delivery has come to its end.
async fn nothing_waits(node: &TestNode) {
    let store = &node.node.as_ref().unwrap().stores().push;
    let waits = async || {
        for urgency in Urgency::ALL {
            if store.next_push(Queue { channel: Channel::Fcm, urgency }).await.unwrap().is_some() {
                return true;
            }
        }
        false
    };
    let ended = async { while waits().await {} };
    tokio::time::timeout(cima::client::DEADLINE, ended).await.expect("every delivery ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_never_removes_a_new_token() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let node = p.node(clock).await;
    let bo = node.person("Bo").await;
    let path = format!("/v1/devices/{}/push/fcm", bo.session.device);
    let Play::Say(status, _, gone) = providers::fcm_unregistered() else { unreachable!() };
    let mut dice = Dice(seed());
    let rounds = count(1_000);
    for round in 0..rounds {
        p.fcm.fake.forget();
        bo.reached_by("fcm", json!({"token": format!("old-{round}")})).await;
        let go = Arc::new(Notify::new());
        p.fcm.fake.script([Play::Held(Arc::clone(&go), status, gone.clone())]);
        let alert = tell(&node, &bo).await;
        p.fcm.fake.until_count(1).await;
        // The provider has made up its mind about the old token; now the app comes with another, or the same again.
        let new = match dice.roll(2) {
            0 => json!({"token": format!("new-{round}")}),
            _ => json!({"token": format!("old-{round}")}),
        };
        let forgotten = dice.roll(4) == 0;
        if forgotten {
            assert_eq!(bo.delete(&path).await.status, 204);
        }
        match dice.roll(3) {
            0 => {
                bo.reached_by("fcm", new).await;
                go.notify_one();
            }
            _ => {
                let answered = async { go.notify_one() };
                tokio::join!(bo.reached_by("fcm", new), answered);
            }
        }
        if !forgotten {
            // The delivery goes on with what is there now; if the old answer won, the endpoint and it were made anew.
            let again = tell(&node, &bo).await;
            let came = |all: &[super::fake::Got]| {
                all.iter().any(|g| g.json()["message"]["data"]["alert"] == again.to_string())
            };
            p.fcm.fake.until("the next alert", came).await;
        }
        assert_eq!(channels(&bo).await, ["fcm"], "round {round}, alert {alert}: a new token was removed");
        // What is left of this round must not meet the next one's script.
        nothing_waits(&node).await;
    }
    println!("{rounds} races, 0 wrong removals");
}

/// What a contact's phone is sent when an emergency is ended with this PIN, but for ids and times.
async fn pushed_at_an_end_with(pin: &str) -> Value {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let node = p.node(clock).await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    ada.call("PATCH", "/v1/me", json!({"pin": "1234", "duress_pin": "9876"})).await.ok().unwrap();
    bo.reached_by("fcm", json!({"token": "t"})).await;
    let id = ada.raise().await;
    p.fcm.fake.until_count(1).await;
    p.fcm.fake.forget();
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": pin})).await.ok().unwrap();
    let mut message = p.fcm.fake.until_count(1).await[0].json()["message"].clone();
    let id = message["data"]["alert"].as_str().unwrap().to_owned();
    let text = message.to_string().replace(&id, "an id");
    message = serde_json::from_str(&text).unwrap();
    // Both count from the moment at which it was stored.
    assert!(message["android"]["ttl"].take().as_str().unwrap().ends_with('s'));
    assert!(message["apns"]["headers"]["apns-expiration"].take().is_string());
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_of_a_forced_end_what_it_shows_of_a_true_one() {
    let (truly, forced) = tokio::join!(pushed_at_an_end_with("1234"), pushed_at_an_end_with("9876"));
    assert_eq!(truly["notification"]["title"], "News of an emergency", "{truly}");
    assert_eq!(truly, forced);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_counts_on_somebody_is_told_when_they_cannot_be_reached() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let node = p.node(clock).await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    bo.reached_by("fcm", json!({"token": "t"})).await;
    bo.reached_by("apns", json!({"token": "00fc"})).await;
    let mut phone = ada.stream().await;
    // One bad token fails no other.
    p.fcm.fake.script([providers::fcm_unregistered()]);
    let first = tell(&node, &bo).await.to_string();
    p.apns.fake.until("APNs has it", |all| all.iter().any(|g| g.header("apns-collapse-id") == first)).await;
    while channels(&bo).await != ["apns"] {}
    // The last one: and Ada hears of it.
    p.apns.fake.script([providers::apns_unregistered(i64::MAX)]);
    tell(&node, &bo).await;
    let alert = phone.wait_for("the warning", |f| f["template"] == "link.unreachable").await.unwrap();
    assert_eq!((&alert["kind"], &alert["severity"]), (&json!("link"), &json!("warning")));
    assert_eq!(alert["title"], "Bo cannot be reached");
    assert!(channels(&bo).await.is_empty());
    let warnings = ada.get("/v1/alerts").await.ok().unwrap();
    let warnings: Vec<&Value> = warnings["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["template"] == "link.unreachable")
        .collect();
    assert_eq!(warnings.len(), 1, "not for the first, which was not the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_with_its_phone_and_goes_with_its_device() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let node = p.node(clock).await;
    let (bo, cy) = (node.person("Bo").await, node.person("Cy").await);
    bo.reached_by("fcm", json!({"token": "the-phone"})).await;
    cy.reached_by("fcm", json!({"token": "the-phone"})).await;
    assert!(channels(&bo).await.is_empty(), "whoever signs in on the phone has its token");
    assert_eq!(channels(&cy).await, ["fcm"]);
    let other = cy.another_device("tablet").await;
    other.reached_by("apns", json!({"token": "00fc"})).await;
    assert_eq!(cy.delete(&format!("/v1/devices/{}", other.session.device)).await.status, 204);
    tell(&node, &cy).await;
    p.fcm.fake.until_count(1).await;
    assert!(p.apns.fake.got().is_empty(), "a removed device is not told");
}
