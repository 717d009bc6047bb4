//! The trace of an SOS: how long it took until each place on its way, and what has not got to its end.

use cima::client::{Api, Session, Socket};
use cima_rig::node::{Launch, Server, Site};
use cima_rig::provider::{Provider, Script};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PLACES: [&str; 4] = ["durable", "written", "asked", "accepted"];
/// For what the node does soon.
const SOON: Duration = Duration::from_secs(20);

/// The value of the series of a metric for a place.
async fn of(node: &Server, metric: &str, place: &str) -> f64 {
    let label = format!("until=\"{place}\"");
    let series = node.metrics(metric).await;
    series.iter().find(|(labels, _)| labels.contains(&label)).map_or(-1.0, |(_, value)| *value)
}

async fn counts(node: &Server) -> Vec<f64> {
    let mut all = Vec::new();
    for place in PLACES {
        all.push(of(node, "cima_sos_seconds_count", place).await);
    }
    all
}

async fn becomes<T: PartialEq + std::fmt::Debug>(wanted: T, mut ask: impl AsyncFnMut() -> T) {
    let until = Instant::now() + SOON;
    loop {
        let found = ask().await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < until, "wanted {wanted:?}, found {found:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn listen(api: &Api, who: &Session) -> Socket {
    let mut socket = api.stream(&who.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    socket
}

fn is_sos(frame: &Value) -> bool {
    frame["type"] == "alert" && frame["kind"] == "emergency"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sos_is_traced_to_its_contacts_and_what_is_stuck_is_seen() {
    let site = Site::embedded();
    let how = Launch::default().with("CIMA_WEBHOOKS", "true").with("CIMA_PUSH_ALLOW_HOSTS", "127.0.0.1");
    let node = site.launch("node", &how).serves();
    let (api, provider) = (node.api(), Provider::start().await);
    let ada = api.sign_up("ada_trace", "Ada").await.unwrap();
    let bo = api.sign_up("bo_trace", "Bo").await.unwrap();
    api.link(&ada, &bo, "bo_trace", &["alerts", "emergency_location"]).await.unwrap();
    provider.reaches(&api, "bo_trace").await.unwrap();
    becomes(vec![0.0; 4], async || counts(&node).await).await;

    let (mut phone, mut contact) = (listen(&api, &ada).await, listen(&api, &bo).await);
    phone.send(&json!({"type": "emergency"})).await.unwrap();
    contact.wait_for("the SOS", is_sos).await.unwrap();
    becomes(vec![1.0; 4], async || counts(&node).await).await;
    let mut sums = Vec::new();
    for place in PLACES {
        sums.push(of(&node, "cima_sos_seconds_sum", place).await);
    }
    println!("until {PLACES:?}: {sums:?} s");
    assert!(sums[0] > 0.0 && sums[2] <= sums[3], "each place is reached after the one before: {sums:?}");

    // What is told again says nothing of how fast it was told.
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    contact.wait("resumed").await.unwrap();
    let mut again = listen(&api, &bo).await;
    again.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    again.wait_for("the SOS", is_sos).await.unwrap();
    assert_eq!(counts(&node).await, vec![1.0; 4]);

    let oldest = async || node.metric("cima_oldest_emergency_delivery_seconds").await;
    becomes(true, async || oldest().await == 0.0).await;
    provider.set(Script::Hangs);
    phone.send(&json!({"type": "emergency"})).await.unwrap();
    becomes(true, async || oldest().await > 3.0).await;
    node.kill().await;
}
