//! How a node ends, what goes on after it, and what it shows to whom.

use cima::client::{Session, Socket};
use cima_rig::node::{Launch, Server, Site};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// For what comes at once, on a machine that has other things to do as well.
const SOON: Duration = Duration::from_secs(10);
/// A countdown that a node does not live to see.
const COUNTDOWN: Duration = Duration::from_secs(2);

async fn pair(node: &Server, name: &str) -> (Session, Session) {
    let (api, bo) = (node.api(), format!("bo_{name}"));
    let ada = api.sign_up(&format!("ada_{name}"), "Ada").await.unwrap();
    let contact = api.sign_up(&bo, "Bo").await.unwrap();
    api.link(&ada, &contact, &bo, &["alerts", "emergency_location"]).await.unwrap();
    (ada, contact)
}

fn is_sos(frame: &Value) -> bool {
    frame["type"] == "alert" && frame["kind"] == "emergency"
}

async fn stream(node: &Server, who: &Session) -> Socket {
    let mut socket = node.api().stream(&who.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_countdown_outlives_a_killed_node_and_fires_once() {
    let site = Site::fresh().await;
    let node = site.node("killed");
    let (ada, bo) = pair(&node, "countdown").await;
    let raise = json!({"countdown_s": COUNTDOWN.as_secs()});
    let made = node.api().post("/v1/emergencies", &ada.distress, raise).await.unwrap();
    assert_eq!((made.status, &made.body["emergency"]["state"]), (201, &json!("countdown")));
    let began = Instant::now();
    node.signal("KILL");
    node.ended().await;
    let node = site.node("next");
    let mut contact = stream(&node, &bo).await;
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    timeout(COUNTDOWN + SOON, contact.wait_for("the SOS", is_sos)).await.unwrap().unwrap();
    println!("told {:?} after the raise", began.elapsed());
    assert!(timeout(COUNTDOWN, contact.wait_for("another", is_sos)).await.is_err(), "it fired twice");
    drop(contact);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let site = Site::fresh().await;
    // Its drain would take a minute.
    let node = site.launch("node", &Launch::default().with("CIMA_DRAIN_S", "60")).serves();
    let (ada, _) = pair(&node, "signal").await;
    let mut socket = stream(&node, &ada).await;
    node.signal("TERM");
    socket.wait("drain").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    node.signal("TERM");
    let ended = timeout(SOON, node.ended()).await.expect("it goes on draining");
    assert_eq!(ended, Some(1), "what was not stopped in order is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_admin_address_metrics_and_details_are_only_there() {
    let site = Site::fresh().await;
    let admin = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let node = site.launch("node", &Launch::default().with("CIMA_ADMIN_LISTEN", &admin)).serves();
    let get = async |url: String| reqwest::get(url).await.unwrap();
    assert_eq!(get(format!("{}/metrics", node.base)).await.status(), 404);
    let public: Value =
        serde_json::from_str(&get(format!("{}/readyz", node.base)).await.text().await.unwrap()).unwrap();
    assert_eq!(public, json!({"ready": true}));
    assert!(get(format!("http://{admin}/metrics")).await.text().await.unwrap().contains("cima_ready 1"));
    let detail: Value =
        serde_json::from_str(&get(format!("http://{admin}/readyz")).await.text().await.unwrap()).unwrap();
    assert_eq!(detail["checks"][0], json!({"name": "store", "judged": true, "fault": null}));
    assert_eq!(get(format!("http://{admin}/v1/me")).await.status(), 404);
    node.stop().await;
}
