//! What the api changes of somebody who streams to another node.

use crate::rig::{Cluster, Person, comes, is_transition, north, send_acked};
use cima::clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;

/// By a hint.
const SOON: Duration = Duration::from_secs(8);
/// For what must not come.
const QUIET: Duration = Duration::from_secs(2);
/// While hints may be lost everybody is looked at every 20 s.
const LOOKED_AT: Duration = Duration::from_secs(30);

const ROLES: &[&str] = &["api", "tracking", "tracking", "alerts", "push"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_the_api_made_is_evaluated_without_a_reconnect() {
    let cluster = Cluster::start(ROLES).await;
    let (ada, bo) = cluster.pair().await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[north(1, 0.0), north(2, 10.0)]).await;
    let old = ada.fence().await;
    ada.is_in(&old, SOON).await;
    ada.call("DELETE", &format!("/v1/geofences/{old}"), json!({})).await.ok().unwrap();
    let new = ada.fence().await;
    ada.is_in(&new, SOON).await;
    send_acked(&mut phone, &[north(3, 500.0)]).await;
    let left = contact.wait_for("the alert", is_transition("exit")).await.unwrap();
    assert_eq!(left["geofence"], new.as_str());
    assert!(!comes(&mut contact, QUIET, is_transition("exit")).await, "the old fence is still known");
    drop((phone, contact));
    cluster.stop().await;
}

/// The twin: without hints it is not known at once, and is found by polling.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_redis_the_fence_is_found_by_looking() {
    let cluster = Cluster::start_deaf(ROLES).await;
    let (ada, bo) = cluster.pair().await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let before = ada.fence().await;
    send_acked(&mut phone, &[north(1, 10.0)]).await;
    // The first build is over: no later one reads the new fence by itself.
    ada.is_in(&before, SOON).await;
    send_acked(&mut phone, &[north(2, 300.0)]).await;
    contact.wait_for("the first alert", is_transition("exit")).await.unwrap();
    let fence = ada.fence().await;
    send_acked(&mut phone, &[north(3, 10.0)]).await;
    let entered = |f: &Value| is_transition("enter")(f) && f["geofence"] == fence.as_str();
    assert!(!comes(&mut contact, QUIET, entered).await, "something else than the hint told of it");
    ada.is_in(&fence, LOOKED_AT).await;
    send_acked(&mut phone, &[north(4, 500.0)]).await;
    let left = |f: &Value| is_transition("exit")(f) && f["geofence"] == fence.as_str();
    assert!(comes(&mut contact, SOON, left).await, "nobody looked");
    drop((phone, contact));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_follow_the_device_that_the_api_says_is_tracked() {
    let cluster = Cluster::start(ROLES).await;
    let (ada, bo) = cluster.pair().await;
    let watch = Person { session: ada.api.sign_in(&ada.handle, "watch").await.unwrap(), ..ada.clone() };
    // On one node, so that what is seen of the one is true of the other.
    let on_node = |person: &Person| Person { api: cluster.node(1), ..person.clone() };
    let (mut phone, mut wrist) = (on_node(&ada).stream().await, on_node(&watch).stream().await);
    let mut contact = bo.stream().await;
    let fence = ada.fence().await;
    send_acked(&mut phone, &[north(1, 400.0)]).await;
    send_acked(&mut wrist, &[north(1, 10.0)]).await;
    let path = format!("/v1/devices/{}", watch.session.device);
    ada.call("PATCH", &path, json!({"tracked": true})).await.ok().unwrap();
    ada.is_in(&fence, SOON).await;
    send_acked(&mut phone, &[north(2, 10.0), north(3, 400.0)]).await;
    assert!(!comes(&mut contact, QUIET, is_transition("exit")).await, "the phone still drives the fences");
    send_acked(&mut wrist, &[north(2, 500.0)]).await;
    assert!(comes(&mut contact, SOON, is_transition("exit")).await, "the watch does not drive the fences");
    drop((phone, wrist, contact));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fix_of_a_raise_that_the_api_took_is_evaluated() {
    let cluster = Cluster::start(ROLES).await;
    let (ada, bo) = cluster.pair().await;
    ada.fence().await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[north(1, 400.0), north(2, 300.0)]).await;
    let raise = json!({"id": cima::id::fresh(&Clock::system()), "kind": "sos", "fix": north(3, 10.0)});
    ada.post("/v1/emergencies", raise).await;
    assert!(comes(&mut contact, SOON, is_transition("enter")).await, "the fix is not evaluated");
    drop((phone, contact));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_ends_ends_on_the_streams() {
    let cluster = Cluster::start(ROLES).await;
    let (ada, bo) = cluster.pair().await;
    let watch = Person { session: ada.api.sign_in(&ada.handle, "watch").await.unwrap(), ..ada.clone() };
    let (mut phone, mut wrist, mut contact) = (ada.stream().await, watch.stream().await, bo.stream().await);
    send_acked(&mut phone, &[north(1, 10.0)]).await;
    ada.post("/v1/emergencies", json!({"kind": "sos"})).await;
    contact.send(&json!({"type": "watch", "user": ada.session.user})).await.unwrap();
    contact.wait("position").await.unwrap();
    let links = ada.call("GET", "/v1/links?role=subject", json!({})).await.ok().unwrap();
    let link = links["items"][0]["id"].as_str().unwrap().to_owned();
    ada.call("DELETE", &format!("/v1/links/{link}"), json!({})).await.ok().unwrap();
    assert!(comes(&mut contact, SOON, |f| f["type"] == "unavailable").await, "the link is ended");
    ada.call("DELETE", &format!("/v1/devices/{}", watch.session.device), json!({})).await.ok().unwrap();
    assert_eq!(wrist.wait_closed().await.unwrap(), 4403);
    ada.call("DELETE", "/v1/sessions/current", json!({})).await.ok().unwrap();
    assert_eq!(phone.wait_closed().await.unwrap(), 4401);
    drop((phone, wrist, contact));
    cluster.stop().await;
}
