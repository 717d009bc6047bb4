//! A node of one's own, people on it, and counts that `CIMA_PROVE=1` makes whole.

pub(crate) use cima_rig::database;

use cima::app::Node;
use cima::client::{Answer, Api, Session, Socket};
use cima::clock::{Clock, Timestamp};
use cima::config::Config;
use cima::identity::SigningKey;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, query_scalar};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// A node in a folder of its own.
pub(crate) struct TestNode {
    pub(crate) node: Option<Node>,
    pub(crate) api: Api,
    pub(crate) clock: Clock,
    pub(crate) folder: TempDir,
}

/// Settings that make tests quick: passwords cost little, stops do not wait. With `CIMA_TEST_BACKEND=postgres` everything
/// is kept in a database of the folder's own, and rung through Redis.
pub(crate) async fn settings(folder: &TempDir) -> Config {
    let mut config = Config::with_defaults(folder.path().to_owned());
    config.password_memory_kib = 64;
    config.drain_s = 2;
    if std::env::var("CIMA_TEST_BACKEND").is_ok_and(|backend| backend == "postgres") {
        let (database, key) = (folder.path().join("database"), folder.path().join("signing-key.pem"));
        if !database.exists() {
            std::fs::write(&database, database::fresh().await).unwrap();
            std::fs::write(&key, SigningKey::generate_pem().unwrap()).unwrap();
        }
        config.database_url = Some(std::fs::read_to_string(&database).unwrap());
        config.signing_key_file = Some(key);
        let redis = "there is no Redis: run `tests/backends.sh cargo nextest run`";
        config.redis_url = Some(std::env::var("CIMA_TEST_REDIS_URL").expect(redis));
    }
    config
}

/// The same settings for a process of its own.
pub(crate) async fn arguments(folder: &TempDir) -> Vec<OsString> {
    let config = settings(folder).await;
    let mut arguments: Vec<OsString> =
        ["--listen", "127.0.0.1:0", "--password-memory-kib", "64", "--data-dir"].map(OsString::from).into();
    arguments.push(config.data_dir.into());
    let more = [
        ("--database-url", config.database_url.map(OsString::from)),
        ("--redis-url", config.redis_url.map(OsString::from)),
        ("--signing-key-file", config.signing_key_file.map(OsString::from)),
    ];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        arguments.extend([OsString::from(name), value]);
    }
    arguments
}

impl TestNode {
    /// On the system's clock.
    pub(crate) async fn start() -> Self {
        Self::start_with(Clock::system(), |_| ()).await
    }
    /// On a clock that the test moves.
    pub(crate) async fn start_manual() -> Self {
        Self::start_with(Clock::manual(Timestamp::parse("2026-11-22T12:00:00Z").unwrap()), |_| ()).await
    }
    pub(crate) async fn start_with(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = settings(&folder).await;
        change(&mut config);
        let node = Node::start(&config, clock.clone()).await.unwrap();
        let api = Api::new(format!("http://{}", node.addr)).unwrap();
        Self { node: Some(node), api, clock, folder }
    }
    /// Stops it in order; the folder stays.
    pub(crate) async fn stop(&mut self) -> bool {
        self.node.take().expect("stopped twice").stop().await
    }
    /// Starts it again on the same folder.
    pub(crate) async fn start_again(&mut self) {
        let node = Node::start(&settings(&self.folder).await, self.clock.clone()).await.unwrap();
        self.api = Api::new(format!("http://{}", node.addr)).unwrap();
        self.node = Some(node);
    }
    /// Somebody new, signed in on a phone.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let handle = handle(name);
        let session = self.api.sign_up(&handle, name).await.unwrap();
        Person { handle, session, api: self.api.clone() }
    }
    /// Ada, and Bo whom she trusts with these scopes.
    pub(crate) async fn pair(&self, scopes: &[&str]) -> (Person, Person, String) {
        let (ada, bo) = (self.person("Ada").await, self.person("Bo").await);
        let link = self.api.link(&ada.session, &bo.session, &bo.handle, scopes).await.unwrap();
        (ada, bo, link)
    }
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
    /// All that is kept: each file, or what the database has, with its name.
    pub(crate) async fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let config = settings(&self.folder).await;
        let entries =
            |folder| std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let files = entries(config.data_dir.clone()).chain(entries(config.data_dir.join("journal")));
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut kept: Vec<_> = files
            .filter(|path| path.is_file())
            .map(|path| (name(&path), std::fs::read(&path).unwrap()))
            .collect();
        if let Some(url) = config.database_url {
            kept.push(("the database".to_owned(), dump(&url).await));
        }
        kept
    }
}

/// Every row of every table, as JSON.
async fn dump(url: &str) -> Vec<u8> {
    let mut server = database::connect(url).await;
    let tables = query_scalar::<_, String>(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'spatial_ref_sys'",
    );
    let mut dump = Vec::new();
    for table in tables.fetch_all(&mut server).await.unwrap() {
        let rows =
            format!("SELECT coalesce(string_agg(row_to_json(t)::text, E'\\n'), '') FROM ONLY {table} t");
        let rows = query_scalar::<_, String>(AssertSqlSafe(rows)).fetch_one(&mut server).await.unwrap();
        dump.extend(rows.into_bytes());
        dump.push(b'\n');
    }
    server.close().await.unwrap();
    dump
}

/// A handle nobody else has.
pub(crate) fn handle(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}_{}", name.to_lowercase(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A signed-in person.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) handle: String,
    pub(crate) session: Session,
    pub(crate) api: Api,
}

impl Person {
    pub(crate) fn id(&self) -> &str {
        &self.session.user
    }
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.api.get(path, &self.session.access).await.unwrap()
    }
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.api.post(path, &self.session.access, body).await.unwrap()
    }
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.api.call(method, path, Some(&self.session.access), Some(&body)).await.unwrap()
    }
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.api.delete(path, &self.session.access).await.unwrap()
    }
    /// A stream that has said welcome.
    pub(crate) async fn stream(&self) -> Socket {
        let mut socket = self.api.stream(&self.session.access).await.unwrap();
        socket.wait("welcome").await.unwrap();
        socket
    }
    /// A circle around a place; its id.
    pub(crate) async fn fence(&self, lat: f64, lon: f64, radius_m: f64, triggers: &[&str]) -> String {
        let shape = json!({"type": "Circle", "center": [lon, lat], "radius_m": radius_m});
        let fence = json!({"name": "home", "shape": shape, "triggers": triggers});
        let made = self.post("/v1/geofences", fence).await.ok().unwrap();
        made["id"].as_str().unwrap().to_owned()
    }
    /// The same person with tokens of now.
    pub(crate) async fn now(&self) -> Self {
        Self { session: self.api.refresh(&self.session).await.unwrap(), ..self.clone() }
    }
    /// Raises over REST; the emergency's id.
    pub(crate) async fn raise(&self) -> String {
        let answer = self.post("/v1/emergencies", json!({"kind": "sos"})).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.body["emergency"]["id"].as_str().unwrap().to_owned()
    }
}

/// Sends fixes and waits until the last of them is acked.
pub(crate) async fn send_acked(socket: &mut Socket, fixes: &[Value]) {
    let last = fixes.last().unwrap()["seq"].as_i64();
    socket.send(&cima::client::fixes(fixes)).await.unwrap();
    socket.wait_for("ack", |f| f["type"] == "acked" && f["seq"].as_i64() >= last).await.unwrap();
}

/// The whole count with `CIMA_PROVE=1`, a tenth of it otherwise.
pub(crate) fn count(whole: usize) -> usize {
    if proving() { whole } else { whole.div_ceil(10) }
}

pub(crate) fn proving() -> bool {
    std::env::var_os("CIMA_PROVE").is_some()
}

/// A seed from `CIMA_SEED`, or a fresh one; printed, so that a failure can be run again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("CIMA_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    println!("CIMA_SEED={seed}");
    seed
}

/// Small, repeatable randomness (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// An answer with its headers and its text as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Raw {
    /// The body; null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
    /// A header; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
    /// Its `code`, after a look that it is a whole problem of RFC 9457.
    pub(crate) fn code(&self) -> String {
        let (body, said) = (self.json(), self.header("content-type"));
        assert_eq!(said, "application/problem+json", "{self:?}");
        assert_eq!(body["status"], self.status, "{self:?}");
        assert!(["type", "title", "detail"].iter().all(|member| body[*member].is_string()), "{self:?}");
        body["code"].as_str().unwrap().to_owned()
    }
}

/// One request with any headers and any bytes as its body.
pub(crate) async fn raw(
    api: &Api,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Raw {
    let client = reqwest::Client::builder().timeout(cima::client::DEADLINE).build().unwrap();
    let mut request = client.request(method.parse().unwrap(), format!("{}{path}", api.base())).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Raw { status, headers, text: answer.text().await.unwrap() }
}

impl Person {
    /// One request with this person's token and any bytes as its body.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Raw {
        let token = format!("Bearer {}", self.session.access);
        raw(&self.api, method, path, &[("authorization", &token)], body).await
    }
    /// The same person on a node that was started again.
    pub(crate) fn on(&self, node: &TestNode) -> Self {
        Self { api: node.api.clone(), ..self.clone() }
    }
    /// The same person signed in once more, on another device.
    pub(crate) async fn another_device(&self, name: &str) -> Self {
        let session = self.api.sign_in(&self.handle, name).await.unwrap();
        Self { session, ..self.clone() }
    }
}

/// The status with which an upgrade is refused, its token given in the header.
pub(crate) async fn refused_upgrade(api: &Api, token: &str) -> u16 {
    use tokio_tungstenite::tungstenite::Error;
    let Err(error) = api.stream(token).await else { panic!("the upgrade was taken") };
    match error.downcast_ref::<Error>() {
        Some(Error::Http(answer)) => answer.status().as_u16(),
        _ => panic!("{error:#}"),
    }
}

/// A stream whose token is given as a subprotocol, as a browser does.
pub(crate) async fn stream_by_subprotocol(api: &Api, token: &str) -> Socket {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request =
        format!("{}/v1/stream", api.base().replacen("http", "ws", 1)).into_client_request().unwrap();
    let offered = format!("cima.v1.json, bearer.{token}");
    request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
    Socket::open(request).await.unwrap()
}

/// The next frame, which has to come in time.
pub(crate) async fn next_frame(socket: &mut Socket) -> Value {
    match tokio::time::timeout(cima::client::DEADLINE, socket.hear()).await.expect("a frame in time") {
        cima::client::Heard::Frame(frame) => frame,
        ended => panic!("the stream ended: {ended:?}"),
    }
}

/// All frames up to the one for which `last` is true, and that one.
pub(crate) async fn frames_until(socket: &mut Socket, last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut frames = vec![next_frame(socket).await];
    while !frames.last().is_some_and(&last) {
        frames.push(next_frame(socket).await);
    }
    frames
}
