//! Dwell and cross: what is told of staying, though the stream stops, and of passing through.

use crate::harness::{Person, TestNode, send_acked};
use cima::client::{Socket, fix};
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const HOME: (f64, f64) = (48.2, 16.4);
const HUNDRED_M: f64 = 0.0009;

fn north(seq: i64, hundreds: f64, at: Timestamp) -> Value {
    fix(seq, HOME.0 + hundreds * HUNDRED_M, HOME.1, at)
}

async fn fence(ada: &Person, triggers: &[&str]) {
    let shape = json!({"type": "Circle", "center": [HOME.1, HOME.0], "radius_m": 100});
    let fence = json!({"name": "home", "shape": shape, "triggers": triggers, "dwell_s": 300});
    ada.post("/v1/geofences", fence).await.ok().unwrap();
}

async fn next_alert(contact: &mut Socket) -> Value {
    contact.wait_for("the alert", |f| f["type"] == "alert" && f["kind"] == "geofence").await.unwrap()
}

async fn told(person: &Person) -> Vec<String> {
    let alerts = person.get("/v1/alerts").await.ok().unwrap();
    let of_fences = alerts["items"].as_array().unwrap().iter().filter(|a| a["kind"] == "geofence");
    of_fences.map(|a| a["transition"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dwell_fires_though_the_stream_has_stopped() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    fence(&ada, &["dwell"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now();
    send_acked(&mut phone, &[north(1, 5.0, start), north(2, 0.0, start)]).await;
    node.node.as_ref().unwrap().services.tracking.settled().await;
    phone.close().await;
    node.clock.advance(Duration::from_secs(299));
    node.clock.advance(Duration::from_secs(1));
    let alert = next_alert(&mut contact).await;
    assert_eq!(
        (&alert["transition"], &alert["at"]),
        (&json!("dwell"), &json!(start + Duration::from_secs(300)))
    );
    assert_eq!(told(&bo).await, ["dwell"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dwell_fires_once_over_a_restart() {
    let mut node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    fence(&ada, &["enter", "dwell"]).await;
    let mut phone = ada.stream().await;
    let mut contact = bo.stream().await;
    send_acked(&mut phone, &[north(1, 5.0, node.now()), north(2, 0.0, node.now())]).await;
    assert_eq!(next_alert(&mut contact).await["transition"], "enter");
    drop((phone, contact));
    assert!(node.stop().await);
    node.clock.advance(Duration::from_secs(400));
    node.start_again().await;
    let bo = Person { api: node.api.clone(), ..bo };
    let mut contact = bo.stream().await;
    contact.send(&json!({"type": "resume", "cursor": 2})).await.unwrap();
    assert_eq!(next_alert(&mut contact).await["transition"], "dwell");
    assert_eq!(told(&bo).await, ["enter", "dwell"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dwell_is_found_in_event_time_and_not_after_a_short_stay() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    fence(&ada, &["exit", "dwell"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now() - Duration::from_secs(110);
    let at = |s: u64| start + Duration::from_secs(s);
    // A short stay; nothing but the exit is told.
    send_acked(&mut phone, &[north(1, 5.0, at(0)), north(2, 0.0, at(10)), north(3, 5.0, at(60))]).await;
    assert_eq!(next_alert(&mut contact).await["transition"], "exit");
    // A long one that came late and was over before: history only, but the stay of now is told.
    let ago = |s: u64| node.now() - Duration::from_secs(s);
    let late = [north(10, 5.0, ago(3000)), north(11, 0.0, ago(2900)), north(12, 5.0, ago(2000))];
    ada.post("/v1/locations", json!({"fixes": late})).await.ok().unwrap();
    let still = [north(20, 0.0, ago(50)), north(21, 5.0, node.now())];
    send_acked(&mut phone, &still).await;
    assert_eq!(next_alert(&mut contact).await["transition"], "exit");
    assert_eq!(told(&bo).await, ["exit", "exit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_through_between_two_fixes_is_a_cross() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    fence(&ada, &["enter", "cross"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let start = node.now() - Duration::from_secs(90);
    let at = |s: u64| start + Duration::from_secs(s);
    send_acked(&mut phone, &[north(1, 5.0, at(0)), north(2, 3.0, at(20)), north(3, -4.0, at(40))]).await;
    let alert = next_alert(&mut contact).await;
    assert_eq!((&alert["transition"], &alert["title"]), (&json!("cross"), &json!("Ada passed through home")));
    send_acked(&mut phone, &[north(4, -8.0, at(60))]).await;
    assert_eq!(told(&bo).await, ["cross"]);
}
