//! An emergency depends on no role: whoever accepts it, whoever is there, and whether nodes hear each other or not.

use crate::rig::{Cluster, Hook, comes, is_sos};
use cima::bus::Event;
use cima::clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// By a hint.
const AT_ONCE: Duration = Duration::from_secs(3);
/// By polling; while hints may be lost nodes poll twice a second.
const FOUND: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_is_taken_where_the_phone_is_and_by_the_api() {
    let cluster = Cluster::start(&["api", "tracking", "alerts", "push"]).await;
    let (ada, bo) = cluster.pair().await;
    let mut contact = bo.stream().await;
    for node in [0, 1] {
        let raise = json!({"id": cima::id::fresh(&Clock::system()), "kind": "sos"});
        let api = cluster.node(node);
        let made = api.post("/v1/emergencies", &ada.session.distress, raise).await.unwrap();
        assert_eq!(made.status, 201, "{made:?}");
        assert!(comes(&mut contact, AT_ONCE, is_sos).await, "node {node} told nobody");
        let id = made.body["id"].as_str().unwrap();
        let end = format!("/v1/emergencies/{id}/resolve");
        api.post(&end, &ada.session.access, json!({})).await.unwrap().ok().unwrap();
    }
    drop(contact);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_redis_timers_and_pushes_are_found_by_looking() {
    let cluster = Cluster::start_deaf(&["api", "tracking", "alerts", "push"]).await;
    let (ada, bo) = cluster.pair().await;
    let mut hook = Hook::start().await;
    hook.reaches(&bo).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let raise = json!({"type": "emergency", "id": cima::id::fresh(&Clock::system()), "countdown_s": 1});
    phone.send(&raise).await.unwrap();
    assert_eq!(phone.wait("accepted").await.unwrap()["state"], "countdown");
    assert!(comes(&mut contact, Duration::from_secs(1) + FOUND, is_sos).await, "the countdown did not fire");
    hook.emergencies().await;
    drop((phone, contact));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_in_that_the_api_took_is_missed_in_time() {
    let cluster = Cluster::start(&["api", "tracking", "alerts", "push"]).await;
    let (ada, bo) = cluster.pair().await;
    let mut contact = bo.stream().await;
    let mut events = cluster.events(2);
    ada.post("/v1/check-ins", json!({"due_in_s": 1, "grace_s": 1})).await;
    let woken = async { while events.recv().await.unwrap() != Event::Rescheduled {} };
    timeout(AT_ONCE, woken).await.expect("the timers were not woken");
    let missed = |f: &Value| f["type"] == "alert" && f["emergency"].is_string();
    assert!(comes(&mut contact, Duration::from_secs(2) + AT_ONCE, missed).await, "nobody heard of it");
    drop(contact);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_a_role_do_it_once() {
    let cluster = Cluster::start(&["api", "tracking", "alerts", "alerts", "push", "push"]).await;
    let (ada, bo) = cluster.pair().await;
    let mut hook = Hook::start().await;
    hook.reaches(&bo).await;
    let mut contact = bo.stream().await;
    let raised = ada.post("/v1/emergencies", json!({"kind": "fall", "countdown_s": 1})).await;
    let first = contact.wait_for("the SOS", is_sos).await.unwrap();
    let pushed = hook.emergencies().await;
    assert!(!comes(&mut contact, AT_ONCE, is_sos).await, "it fired twice");
    assert_eq!((pushed, hook.count()), (1, 1), "one push for one alert");
    assert_eq!(first["emergency"], raised["id"]);
    // Both sweep and give back claims at their start; neither takes the other's.
    drop(contact);
    cluster.stop().await;
}
