//! A whole node whose Redis is gone: what another node would write into the store is found without a bell.

use crate::rig::Redis;
use cima::alerts::{AlertDraft, AlertKind, Alerts, AlertsStore, EndWith, Lane, Manner, Raise, Recipients};
use cima::app::Node;
use cima::bus::{Bus, Event};
use cima::client::{Api, Heard, Session, Socket};
use cima::clock::Clock;
use cima::config::Config;
use cima::id::{AlertId, UserId};
use cima::identity::IdentityStore;
use cima::tracking::Severity;
use cima::trust::Trust;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

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

    /// Stores an alert as another node would: no bell rings here.
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
        let told = self.node.stores().main.tell(&[alert]).await.unwrap();
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
async fn what_no_bell_rang_for_is_found_while_the_bell_is_suspect() {
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
    assert!(comes(&mut phone, FOUND, is_alert).await, "the bell does not ring");
    drop(phone);
    assert!(node.node.stop().await);
}

/// Found while the bell is trusted too, only later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_bell_rang_for_is_found_while_the_bell_is_trusted() {
    let redis = Redis::start().await;
    let node = Alone::start(Some(redis.url())).await;
    let (ada, mut phone) = node.listening("ada_trust").await;
    let bus = node.node.services.bus.clone();
    crate::until("the bell is trusted", || !bus.is_suspect()).await;
    node.told_elsewhere(id(&ada)).await;
    assert!(comes(&mut phone, FOUND * 2, is_alert).await, "the alert was not found");
    drop(phone);
    assert!(node.node.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_of_another_node_shows_without_a_bell() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_sos").await;
    // The same store behind services whose bell nobody hears.
    let (services, store) = (&node.node.services, node.node.stores().main.clone());
    let trust = Arc::new(Trust::new(store.clone(), Bus::default(), Clock::system()));
    let elsewhere =
        Alerts::new(store, trust, Arc::clone(&services.tracking), Bus::default(), Clock::system());
    let shows =
        |state: &'static str| move |f: &Value| f["type"] == "emergency" && f["emergency"]["state"] == state;
    // The first look only says how things stand: wait until it was made.
    node.told_elsewhere(id(&ada)).await;
    assert!(comes(&mut phone, FOUND, is_alert).await);
    let now = services.clock.now();
    let raise = Raise::read(&serde_json::json!({"kind": "sos"}), now, Duration::from_secs(3600));
    let accepted = elsewhere.raise(id(&ada), None, raise).await.unwrap();
    assert!(comes(&mut phone, FOUND, shows("active")).await, "the emergency was not found");
    let (emergency, resolve) = (accepted.emergency.id, EndWith::Resolve);
    elsewhere.end(id(&ada), emergency, resolve, Manner::True).await.unwrap();
    assert!(comes(&mut phone, FOUND, shows("resolved")).await, "its end was not found");
    drop(elsewhere);
    drop(phone);
    assert!(node.node.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_revoked_is_found_without_a_bell() {
    let node = Alone::start(nowhere()).await;
    let (ada, mut phone) = node.listening("ada_revoked").await;
    let me = node.node.services.identity.authenticate(&ada.access).unwrap();
    let session = me.session().unwrap();
    node.node.stores().main.end_session(session, Clock::system().now()).await.unwrap();
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
