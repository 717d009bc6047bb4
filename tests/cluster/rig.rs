//! A cluster of one's own, and people who speak to its front.

use cima::app::Node;
use cima::bus::Event;
use cima::client::{Answer, Api, Session, Socket, fix};
use cima::clock::Clock;
use cima::config::Config;
use cima::identity::SigningKey;
use cima::runtime::detach;
use cima_rig::database;
use cima_rig::front::Front;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// An address where no Redis is.
pub(crate) const NOWHERE: &str = "redis://127.0.0.1:1";

/// What the nodes of a cluster have in common.
pub(crate) struct Shared {
    pub(crate) folder: TempDir,
    pub(crate) database: String,
    pub(crate) redis: String,
}

impl Shared {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("key.pem"), SigningKey::generate_pem().unwrap()).unwrap();
        let redis = "there is no Redis: run `tests/backends.sh cargo nextest run --test cluster`";
        let redis = std::env::var("CIMA_TEST_REDIS_URL").expect(redis);
        Self { folder, database: database::fresh().await, redis }
    }

    /// The settings of a node with these roles; each has a folder of its own.
    pub(crate) fn settings(&self, name: &str, roles: &str) -> Config {
        let mut config = Config::with_defaults(self.folder.path().join(name));
        config.role = roles.parse().unwrap();
        (config.password_memory_kib, config.drain_s) = (64, 1);
        config.database_url = Some(self.database.clone());
        config.redis_url = Some(self.redis.clone());
        config.signing_key_file = Some(self.folder.path().join("key.pem"));
        config.push.webhooks = true;
        config.push.push_allow_hosts = vec!["127.0.0.1".into()];
        config
    }
}

/// Running nodes behind a front.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) front: Front,
    /// By way of the front.
    pub(crate) api: Api,
    _shared: Shared,
}

impl Cluster {
    /// A node for each of these lists of roles.
    pub(crate) async fn start(roles: &[&str]) -> Self {
        let cluster = Self::start_with(roles, |_| ()).await;
        cluster.hears().await;
        cluster
    }
    /// The same without a Redis.
    pub(crate) async fn start_deaf(roles: &[&str]) -> Self {
        Self::start_with(roles, |config| config.redis_url = Some(NOWHERE.into())).await
    }
    async fn start_with(roles: &[&str], change: impl Fn(&mut Config)) -> Self {
        let shared = Shared::new().await;
        let mut nodes = Vec::new();
        for (n, roles) in roles.iter().enumerate() {
            let mut config = shared.settings(&n.to_string(), roles);
            change(&mut config);
            nodes.push((services(roles), Node::start(&config, Clock::system()).await.unwrap()));
        }
        let behind: Vec<_> = nodes.iter().map(|(names, node)| (names.clone(), node.addr)).collect();
        let front = Front::start(&behind).await;
        let nodes: Vec<Node> = nodes.into_iter().map(|(_, node)| node).collect();
        let api = Api::new(format!("http://{}", front.addr)).unwrap();
        Self { nodes, front, api, _shared: shared }
    }

    /// Until every node hears the others.
    async fn hears(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.nodes.iter().any(|node| node.services.bus.is_suspect()) {
            assert!(Instant::now() < until, "a node does not hear the others");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Past the front: one node alone.
    pub(crate) fn node(&self, n: usize) -> Api {
        Api::new(format!("http://{}", self.nodes[n].addr)).unwrap()
    }

    /// What a node hears from now on.
    pub(crate) fn events(&self, n: usize) -> Receiver<Event> {
        self.nodes[n].services.bus.subscribe()
    }

    /// Somebody new, signed in by way of the front.
    pub(crate) async fn person(&self, name: &str) -> Person {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let handle = format!("{}_{}", name.to_lowercase(), COUNT.fetch_add(1, Ordering::Relaxed));
        let session = self.api.sign_up(&handle, name).await.unwrap();
        Person { handle, session, api: self.api.clone() }
    }

    /// Ada, and Bo whom she trusts.
    pub(crate) async fn pair(&self) -> (Person, Person) {
        let (ada, bo) = (self.person("Ada").await, self.person("Bo").await);
        let scopes = ["alerts", "emergency_location"];
        self.api.link(&ada.session, &bo.session, &bo.handle, &scopes).await.unwrap();
        (ada, bo)
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            assert!(node.stop().await, "a node did not stop in order");
        }
    }
}

/// The services that lead to a node with these roles.
pub(crate) fn services(roles: &str) -> Vec<String> {
    roles.split(',').map(|role| format!("cima-{role}")).collect()
}

/// A signed-in person.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) handle: String,
    pub(crate) session: Session,
    pub(crate) api: Api,
}

impl Person {
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.api.call(method, path, Some(&self.session.access), Some(&body)).await.unwrap()
    }
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", path, body).await.ok().unwrap()
    }
    /// A stream that has said welcome.
    pub(crate) async fn stream(&self) -> Socket {
        let mut socket = self.api.stream(&self.session.access).await.unwrap();
        socket.wait("welcome").await.unwrap();
        socket
    }
    /// Waits until the person is known to be in a fence.
    pub(crate) async fn is_in(&self, fence: &str, within: Duration) {
        let path = format!("/v1/people/{}/zones", self.session.user);
        let until = Instant::now() + within;
        loop {
            let zones = self.call("GET", &path, json!({})).await.ok().unwrap();
            if zones["items"].as_array().unwrap().iter().any(|zone| zone["id"] == fence) {
                return;
            }
            assert!(Instant::now() < until, "not known to be in {fence}: {zones}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    /// A circle of 150 m around home; its id.
    pub(crate) async fn fence(&self) -> String {
        let shape = json!({"type": "Circle", "center": [HOME.1, HOME.0], "radius_m": 150});
        let fence = json!({"name": "home", "shape": shape, "triggers": ["enter", "exit"]});
        self.post("/v1/geofences", fence).await["id"].as_str().unwrap().to_owned()
    }
}

/// Where fences are.
pub(crate) const HOME: (f64, f64) = (59.3293, 18.0686);

/// A fix of now, so far north of home.
pub(crate) fn north(seq: i64, metres: f64) -> Value {
    fix(seq, HOME.0 + metres / 111_200.0, HOME.1, Clock::system().now())
}

/// Sends fixes and waits until the last of them is acked.
pub(crate) async fn send_acked(socket: &mut Socket, fixes: &[Value]) {
    let last = fixes.last().unwrap()["seq"].as_i64();
    socket.send(&cima::client::fixes(fixes)).await.unwrap();
    socket.wait_for("ack", |f| f["type"] == "acked" && f["seq"].as_i64() >= last).await.unwrap();
}

/// Waits for a frame for at most so long.
pub(crate) async fn comes(socket: &mut Socket, time: Duration, wanted: impl Fn(&Value) -> bool) -> bool {
    timeout(time, socket.wait_for("a frame", wanted)).await.is_ok_and(|waited| waited.is_ok())
}

/// Whether a frame is the alert of a transition.
pub(crate) fn is_transition(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |frame| frame["type"] == "alert" && frame["transition"] == kind
}

/// Whether a frame is the alert of an emergency.
pub(crate) fn is_sos(frame: &Value) -> bool {
    frame["type"] == "alert" && frame["kind"] == "emergency"
}

/// Where webhooks go.
pub(crate) struct Hook {
    url: String,
    got: watch::Receiver<Vec<Value>>,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (keep, got) = watch::channel(Vec::new());
        let take = move |axum::Json(said): axum::Json<Value>| {
            keep.send_modify(|all| all.push(said));
            async {}
        };
        let router = axum::Router::new().route("/", axum::routing::post(take));
        detach("hook", async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got }
    }

    /// Reaches the person on a device that has no socket.
    pub(crate) async fn reaches(&self, person: &Person) {
        let session = person.api.sign_in(&person.handle, "asleep").await.unwrap();
        let path = format!("/v1/devices/{}/push/webhook", session.device);
        let asleep = Person { session, ..person.clone() };
        asleep.call("PUT", &path, json!({"url": self.url})).await.ok().unwrap();
    }

    /// The emergencies that came; waits until there is one.
    pub(crate) async fn emergencies(&mut self) -> usize {
        let of_sos = |all: &[Value]| all.iter().filter(|said| said["type"] == "alert.emergency").count();
        let first = self.got.wait_for(|all| of_sos(all) > 0);
        let got = timeout(Duration::from_secs(10), first).await.expect("a push in time").unwrap();
        of_sos(&got)
    }
    /// Those that have come by now.
    pub(crate) fn count(&self) -> usize {
        self.got.borrow().len()
    }
}
