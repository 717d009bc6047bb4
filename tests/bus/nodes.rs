//! A whole node whose Redis is gone: what another node writes into the store is found without a hint.

use crate::rig::{Redis, conn};
use base64::Engine;
use cima::alerts::{AlertDraft, AlertKind, Alerts, EndWith, Lane, Manner, Raise, Recipients};
use cima::app::Node;
use cima::bus::{Bus, Event};
use cima::client::{Api, Heard, Session, Socket};
use cima::clock::Clock;
use cima::config::Config;
use cima::geo::Fix;
use cima::id::{AlertId, UserId};
use cima::tracking::{NewFix, Severity};
use cima::trust::Trust;
use redis::AsyncCommands;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// Found by looking; a heartbeat takes 20 s.
const FOUND: Duration = Duration::from_secs(4);

struct Alone {
    node: Node,
    api: Api,
    _folder: TempDir,
}

impl Alone {
    async fn start(redis_url: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = Config::with_defaults(folder.path().to_owned());
        (config.password_memory_kib, config.drain_s, config.redis_url) = (64, 1, redis_url);
        let node = Node::start(&config, Clock::system()).await.unwrap();
        let api = Api::new(format!("http://{}", node.addr)).unwrap();
        Self { node, api, _folder: folder }
    }

    async fn listening(&self, handle: &str) -> (Session, Socket) {
        let session = self.api.sign_up(handle, handle).await.unwrap();
        let mut socket = self.api.stream(&session.access).await.unwrap();
        socket.wait("welcome").await.unwrap();
        (session, socket)
    }

    /// Stores an alert as another node would: no hint comes here.
    async fn told_elsewhere(&self, user: UserId) {
        let alert = AlertDraft {
            id: AlertId::fresh(&Clock::system()),
            kind: AlertKind::Link,
            severity: Severity::Info,
            lane: Lane::Routine,
            subject: user,
            recipients: Recipients::Person(user),
            at: Clock::system().now(),
            template: "link_requested",
            params: BTreeMap::new(),
            emergency: None,
            geofence: None,
            transition: None,
            late: false,
        };
        let told = self.node.stores().alerts.tell(&[alert]).await.unwrap();
        assert_eq!(told.told, [user]);
    }
}

/// Waits for a frame for at most so long.
async fn comes(socket: &mut Socket, time: Duration, wanted: impl Fn(&Value) -> bool) -> bool {
    let look = async {
        loop {
            match socket.hear().await {
                Heard::Frame(frame) if wanted(&frame) => return,
                Heard::Frame(_) => {}
                ended => panic!("the stream ended: {ended:?}"),
            }
        }
    };
    timeout(time, look).await.is_ok()
}

fn is_alert(frame: &Value) -> bool {
    frame["type"] == "alert"
}

/// An address where nothing listens.
fn nowhere() -> Option<String> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Some(format!("redis://{}", free.local_addr().unwrap()))
}

fn id(session: &Session) -> UserId {
    session.user.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_hint_told_of_is_found_while_the_bus_is_suspect() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_poll").await;
    node.told_elsewhere(id(&ada)).await;
    assert!(comes(&mut phone, FOUND, is_alert).await, "the alert was not found");
    drop(phone);
    assert!(node.node.stop().await);
}

/// The twin: a node that is alone need not look, and does not find it before a heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_looking_it_is_not_found() {
    let node = Alone::start(None).await;
    let (ada, mut phone) = node.listening("ada_alone").await;
    node.told_elsewhere(id(&ada)).await;
    assert!(!comes(&mut phone, FOUND, is_alert).await, "something else than the look found it");
    node.node.services.bus.publish(Event::Inbox([id(&ada)].into()));
    assert!(comes(&mut phone, FOUND, is_alert).await, "the hint is not heard");
    drop(phone);
    assert!(node.node.stop().await);
}

/// Found while the bus is trusted too, only later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_hint_told_of_is_found_while_the_bus_is_trusted() {
    let redis = Redis::start().await;
    let node = Alone::start(Some(redis.url())).await;
    let (ada, mut phone) = node.listening("ada_trust").await;
    let bus = node.node.services.bus.clone();
    crate::until("the bus is trusted", || !bus.is_suspect()).await;
    node.told_elsewhere(id(&ada)).await;
    assert!(comes(&mut phone, FOUND * 2, is_alert).await, "the alert was not found");
    drop(phone);
    assert!(node.node.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_of_another_node_shows_without_a_hint() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_sos").await;
    // The same store behind services whose bus nobody subscribes to.
    let (services, store) = (&node.node.services, node.node.stores());
    let trust = Arc::new(Trust::new(store.trust.clone(), Bus::default(), Clock::system()));
    let elsewhere = Alerts::new(
        store.alerts.clone(),
        trust,
        Arc::clone(&services.tracking),
        Bus::default(),
        Clock::system(),
    );
    let shows =
        |state: &'static str| move |f: &Value| f["type"] == "emergency" && f["emergency"]["state"] == state;
    // The first look only says how things stand: wait until it was made.
    node.told_elsewhere(id(&ada)).await;
    assert!(comes(&mut phone, FOUND, is_alert).await);
    let now = services.clock.now();
    let raise = Raise::read(&serde_json::json!({"kind": "sos"}), now, Duration::from_secs(3600));
    let accepted = elsewhere.raise(id(&ada), None, raise, tokio::time::Instant::now()).await.unwrap();
    assert!(comes(&mut phone, FOUND, shows("active")).await, "the emergency was not found");
    let (emergency, resolve) = (accepted.emergency.id, EndWith::Resolve);
    elsewhere.end(id(&ada), emergency, resolve, Manner::True).await.unwrap();
    assert!(comes(&mut phone, FOUND, shows("resolved")).await, "its end was not found");
    drop(elsewhere);
    drop(phone);
    assert!(node.node.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_revoked_is_found_without_a_hint() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_revoked").await;
    let me = node.node.services.identity.authenticate(&ada.access).unwrap();
    let session = me.session().unwrap();
    node.node.stores().identity.end_session(session, Clock::system().now()).await.unwrap();
    let closed = async {
        loop {
            match phone.hear().await {
                Heard::Frame(_) => {}
                Heard::Closed(code) => return code,
                ended => panic!("{ended:?}"),
            }
        }
    };
    let code = timeout(FOUND, closed).await.expect("the socket of an ended session stays open");
    assert_eq!(code, 4401);
    assert!(node.node.services.identity.authenticate(&ada.access).is_err());
    drop(phone);
    assert!(node.node.stop().await);
}

/// A sealed position as another node says it.
fn said_elsewhere(ada: &Session, seq: i64, lat: f64) -> String {
    let now = Clock::system().now();
    let fix = serde_json::json!({"seq": seq, "lat": lat, "lon": 16.4, "fixed_at": now});
    let inside = serde_json::json!({
        "v": 1, "user": ada.user, "tracked": true, "device": ada.device, "fix": fix, "received_at": now,
    });
    let sealed = base64::engine::general_purpose::STANDARD_NO_PAD.encode(inside.to_string());
    let (id, node) = (AlertId::fresh(&Clock::system()), AlertId::fresh(&Clock::system()));
    serde_json::json!({
        "v": 1, "id": id, "node": node, "type": "position", "subject": ada.user, "event_at": now, "seq": 1,
        "cause": null, "trace": null, "sealed": sealed,
    })
    .to_string()
}

fn shows_lat(lat: f64) -> impl Fn(&Value) -> bool {
    move |f: &Value| f["type"] == "position" && f["fix"]["lat"] == lat
}

/// A position of another node is shown to whom a grant shows it, and to nobody when that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_another_node_needs_a_grant_here() {
    let redis = Redis::start().await;
    let node = Alone::start(Some(redis.url())).await;
    let (ada, phone) = node.listening("ada_far").await;
    let (bo, mut contact) = node.listening("bo_near").await;
    let link = node.api.link(&ada, &bo, "bo_near", &["live_location"]).await.unwrap();
    contact.send(&serde_json::json!({"type": "watch", "user": ada.user})).await.unwrap();
    let mut conn = conn(&redis).await;
    let channel = format!("cima:pos:{}", ada.user);
    let listened = async |conn: &mut redis::aio::MultiplexedConnection, message: String| -> usize {
        conn.publish(&channel, message).await.unwrap()
    };
    // What comes before the watch has begun is covered by its first look into the store.
    let until = Instant::now() + crate::rig::DEADLINE;
    let mut seq = 1;
    listened(&mut conn, said_elsewhere(&ada, seq, 48.0)).await;
    while !comes(&mut contact, Duration::from_millis(200), shows_lat(48.0)).await {
        assert!(Instant::now() < until, "the position is not shown");
        seq += 1;
        listened(&mut conn, said_elsewhere(&ada, seq, 48.0)).await;
    }
    node.api.delete(&format!("/v1/links/{link}"), &ada.access).await.unwrap();
    assert!(comes(&mut contact, FOUND, |f| f["type"] == "unavailable").await);
    listened(&mut conn, said_elsewhere(&ada, seq + 1, 49.0)).await;
    assert!(!comes(&mut contact, Duration::from_secs(1), shows_lat(49.0)).await, "shown without a grant");
    drop((phone, contact));
    assert!(node.node.stop().await);
}

/// A fix that another node stored, and of which nothing comes over the bus, is read from the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_reads_the_store() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_quiet").await;
    let (bo, mut contact) = node.listening("bo_waits").await;
    node.api.link(&ada, &bo, "bo_waits", &["live_location"]).await.unwrap();
    // Her first fix makes this device the tracked one.
    let now = Clock::system().now();
    phone.send(&cima::client::fixes(&[cima::client::fix(1, 48.2, 16.4, now)])).await.unwrap();
    phone.wait("acked").await.unwrap();
    contact.send(&serde_json::json!({"type": "watch", "user": ada.user})).await.unwrap();
    assert!(comes(&mut contact, FOUND, shows_lat(48.2)).await);
    let (device, received_at) = (ada.device.parse().unwrap(), Clock::system().now());
    let raw = serde_json::json!({"seq": 2, "lat": 48.3, "lon": 16.4, "fixed_at": received_at});
    let fix: Fix = serde_json::from_value(raw).unwrap();
    let new = NewFix { device, fix, received_at, streamed: false };
    node.node.stores().fixes.record(&[new]).await.unwrap();
    assert!(comes(&mut contact, FOUND, shows_lat(48.3)).await, "the newest position was not read");
    drop((phone, contact));
    assert!(node.node.stop().await);
}
