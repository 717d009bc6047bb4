//! What README promises for when things break, and nothing else proves.

use cima::client::{Api, Heard, Session, Socket, fix, fixes};
use cima::clock::Clock;
use cima_rig::database;
use cima_rig::node::{Launch, Server, Site};
use cima_rig::phone;
use cima_rig::provider::Provider;
use serde_json::{Value, json};
use sqlx::{Connection, query, query_scalar};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// For what comes at once, on a machine that has other things to do as well.
const SOON: Duration = Duration::from_secs(10);

fn is_sos(frame: &Value) -> bool {
    frame["type"] == "alert" && frame["kind"] == "emergency"
}

async fn pair(api: &Api, name: &str) -> (Session, Session) {
    let bo = format!("bo_{name}");
    let ada = api.sign_up(&format!("ada_{name}"), "Ada").await.unwrap();
    let contact = api.sign_up(&bo, "Bo").await.unwrap();
    api.link(&ada, &contact, &bo, &["alerts", "emergency_location"]).await.unwrap();
    (ada, contact)
}

async fn stream(api: &Api, who: &Session) -> Socket {
    let mut socket = api.stream(&who.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    socket
}

async fn becomes(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_alerts_and_push_an_sos_is_told_and_the_rest_comes_when_they_are_back() {
    let site = Site::fresh().await;
    let webhooks = |roles: &str| {
        let how = Launch::default().role(roles).with("CIMA_WEBHOOKS", "true");
        how.with("CIMA_PUSH_ALLOW_HOSTS", "127.0.0.1")
    };
    let node = site.launch("people", &webhooks("api,tracking")).serves();
    let (api, provider) = (node.api(), Provider::start().await);
    let (ada, bo) = pair(&api, "alone").await;
    let (eve, _) = pair(&api, "alone_too").await;
    provider.reaches(&api, "bo_alone").await.unwrap();
    let mut contact = stream(&api, &bo).await;
    api.post("/v1/emergencies", &ada.distress, json!({})).await.unwrap().ok().unwrap();
    contact.wait_for("the SOS", is_sos).await.unwrap();
    let late =
        api.post("/v1/emergencies", &eve.distress, json!({"countdown_s": 1})).await.unwrap().ok().unwrap();
    sleep(Duration::from_secs(3)).await;
    assert!(provider.taken().is_empty(), "nobody pushes");
    let path = format!("/v1/emergencies/{}", late["id"].as_str().unwrap());
    let state = async || api.get(&path, &eve.access).await.unwrap().body["state"].clone();
    assert_eq!(state().await, "countdown", "nobody fires");
    let others = site.launch("others", &webhooks("alerts,push")).serves();
    let pushed = becomes("the push", SOON, async || !provider.taken().is_empty()).await;
    let fired = becomes("the countdown", SOON, async || state().await == "active").await;
    println!("with both back: pushed after {pushed:?}, fired after {fired:?}");
    drop(contact);
    others.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_had_not_found_is_found_by_another() {
    let site = Site::fresh().await;
    let (killed, other) = (site.node("killed"), site.node("other"));
    let api = other.api();
    let contact = api.sign_up("killed_contact", "Contact").await.unwrap();
    let mut listening = stream(&api, &contact).await;
    let person = phone::person(&api, 0, &(contact, "killed_contact".to_owned())).await;
    let mut socket = stream(&killed.api(), &person.session).await;
    let (at_home, away) = (7, 14);
    let now = || Clock::system().now();
    socket.send(&fixes(&[phone::written(at_home, now())])).await.unwrap();
    socket.wait_for("the ack", |f| f["type"] == "acked" && f["seq"] == at_home).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // Whatever of it the node has found by then: its phone never comes back.
    socket.send(&fixes(&[phone::written(away, now())])).await.unwrap();
    socket.wait_for("the ack", |f| f["type"] == "acked" && f["seq"] == away).await.unwrap();
    killed.kill().await;
    let began = Instant::now();
    timeout(Duration::from_secs(30), async {
        // One wait is shorter than what is promised.
        while listening.wait_for("the exit", |f| f["transition"] == "exit").await.is_err() {}
    })
    .await
    .expect("nobody has found that the person left");
    println!("found {:?} after the kill", began.elapsed());
    other.stop().await;
}

/// A client that has upgraded, and neither reads nor writes any more.
async fn dead(node: &Server, who: &Session) -> TcpStream {
    let mut socket = TcpStream::connect(node.address()).await.unwrap();
    let upgrade = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
        node.address(),
        who.access
    );
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_answers_no_ping_is_let_go() {
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().with("CIMA_HEARTBEAT_S", "1")).serves();
    let ada = node.api().sign_up("ada_dead", "Ada").await.unwrap();
    let socket = dead(&node, &ada).await;
    let open = async |wanted: f64| node.metric("cima_open_sockets").await == wanted;
    becomes("open", SOON, async || open(1.0).await).await;
    let gone = becomes("let go", SOON, async || open(0.0).await).await;
    println!("let go after {gone:?} with a heartbeat of 1 s");
    drop(socket);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_who_does_not_read_is_closed_and_goes_on_from_their_cursor() {
    const ALERTS: usize = 150;
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().with("CIMA_WRITE_DEADLINE_S", "1")).serves();
    let api = node.api();
    let (ada, bo) = pair(&api, "slow").await;
    // Each raise that joins tells the contact again.
    for _ in 0..ALERTS {
        api.post("/v1/emergencies", &ada.distress, json!({"message": "x".repeat(200)}))
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    let mut slow = stream(&api, &bo).await;
    // More than all buffers between take.
    for _ in 0..100 {
        slow.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    }
    let closed =
        becomes("closed", SOON * 2, async || node.metric("cima_slow_consumers_total").await == 1.0).await;
    println!("closed {closed:?} after it was last read");
    let (mut head, mut code) = (0, None);
    loop {
        match slow.hear().await {
            Heard::Frame(frame) => head = head.max(frame["cursor"].as_i64().unwrap_or(0)),
            Heard::Closed(with) => code = Some(with),
            Heard::Gone => break,
        }
        if code.is_some() {
            break;
        }
    }
    assert!(code.is_none_or(|code| code == 4408), "{code:?}");
    api.post("/v1/emergencies", &ada.distress, json!({})).await.unwrap().ok().unwrap();
    let mut again = stream(&api, &bo).await;
    again.send(&json!({"type": "resume", "cursor": head})).await.unwrap();
    let mut next = head;
    loop {
        let Heard::Frame(frame) = again.hear().await else { panic!("it ends") };
        if let Some(cursor) = frame["cursor"].as_i64().filter(|_| frame["type"] == "alert") {
            assert_eq!(cursor, next + 1, "one is missing");
            next = cursor;
        }
        if frame["type"] == "resumed" {
            break;
        }
    }
    assert!(next > head, "nothing came after {head}");
    drop((slow, again));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_certificate_authorities_a_node_serves_and_its_pushes_wait() {
    let site = Site::embedded();
    let how = Launch::default().with("CIMA_WEBHOOKS", "true").with("CIMA_PUSH_ALLOW_HOSTS", "127.0.0.1");
    let how = how.with("SSL_CERT_FILE", "/nonexistent").with("SSL_CERT_DIR", "/nonexistent");
    let node = site.launch("node", &how).serves();
    let api = node.api();
    let (ada, bo) = pair(&api, "uncertain").await;
    let path = format!("/v1/devices/{}/push/webhook", bo.device);
    let hook = json!({"url": "https://127.0.0.1:1/"});
    api.call("PUT", &path, Some(&bo.access), Some(&hook)).await.unwrap().ok().unwrap();
    let mut contact = stream(&api, &bo).await;
    assert_eq!(api.post("/v1/emergencies", &ada.distress, json!({})).await.unwrap().status, 201);
    contact.wait_for("the SOS", is_sos).await.unwrap();
    becomes("a try", SOON, async || {
        node.metrics("cima_pushes_total")
            .await
            .iter()
            .any(|(labels, n)| labels.contains("retry") && *n >= 2.0)
    })
    .await;
    assert_eq!(reqwest::get(format!("{}/readyz", node.base)).await.unwrap().status(), 200);
    drop(contact);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_zones_cannot_be_read_fences_and_emergencies_go_on_and_zones_are_told_after() {
    let site = Site::fresh().await;
    let node = site.node("node");
    let api = node.api();
    let mut db = database::connect(site.database()).await;
    let zone = site.folder().join("zone.geojson");
    let around = |lat: f64, lon: f64| {
        let d = 0.005;
        json!([[
            [lon - d, lat - d],
            [lon + d, lat - d],
            [lon + d, lat + d],
            [lon - d, lat + d],
            [lon - d, lat - d]
        ]])
    };
    let shape = json!({"type": "Polygon", "coordinates": around(48.2, 16.4)});
    let feature = json!({"type": "Feature", "id": "zone", "properties": {"id": "zone", "name": "A zone"}, "geometry": shape});
    std::fs::write(&zone, json!({"type": "FeatureCollection", "features": [feature]}).to_string()).unwrap();
    let import = Command::new(cima_rig::node::program())
        .args(["zones", "import", zone.to_str().unwrap(), "--database-url", site.database()])
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let contact = api.sign_up("zone_contact", "Contact").await.unwrap();
    let mut listening = stream(&api, &contact).await;
    query("ALTER TABLE zones RENAME TO zones_away").execute(&mut db).await.unwrap();

    let person = phone::person(&api, 0, &(contact, "zone_contact".to_owned())).await;
    let mut socket = stream(&api, &person.session).await;
    for seq in [1, 7, 14, 21] {
        socket.send(&fixes(&[phone::written(seq, Clock::system().now())])).await.unwrap();
        socket.wait_for("the ack", |f| f["type"] == "acked" && f["seq"] == seq).await.unwrap();
    }
    listening.wait_for("the fence", |f| f["transition"] == "exit").await.unwrap();
    socket.send(&json!({"type": "emergency"})).await.unwrap();
    listening.wait_for("the SOS", is_sos).await.unwrap();
    let visits = "SELECT count(*) FROM zone_visits";
    assert_eq!(query_scalar::<_, i64>(visits).fetch_one(&mut db).await.unwrap(), 0);

    query("ALTER TABLE zones_away RENAME TO zones").execute(&mut db).await.unwrap();
    let began = Instant::now();
    let mut seq = 21;
    becomes("the zone", Duration::from_secs(60), async || {
        seq += 1;
        let here = fix(seq, 48.2, 16.4, Clock::system().now());
        socket.send(&fixes(&[here])).await.unwrap();
        query_scalar::<_, i64>(visits).fetch_one(&mut db).await.unwrap() == 1
    })
    .await;
    println!("who is in the zone is found {:?} after zones could be read", began.elapsed());
    db.close().await.unwrap();
    drop((socket, listening));
    node.stop().await;
}

/// Every sync of a file takes so long.
const SLOW_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static void wait(void) { struct timespec t = {0, 300 * 1000 * 1000}; nanosleep(&t, 0); }
int fsync(int fd) { wait(); return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { wait(); return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"#;

fn slow_disk(folder: &TempDir) -> String {
    let (source, library) = (folder.path().join("slow.c"), folder.path().join("slow.so"));
    std::fs::write(&source, SLOW_SYNC).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(made.unwrap().success());
    library.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_fixes_are_pushed_back_and_an_sos_goes_past_them() {
    const FRAMES: i64 = 20;
    let folder = TempDir::new().unwrap();
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().with("LD_PRELOAD", &slow_disk(&folder))).serves();
    let api = node.api();
    let (ada, bo) = pair(&api, "slow_disk").await;
    let (mut phone, mut contact) = (stream(&api, &ada).await, stream(&api, &bo).await);
    let frame = |n: i64| -> Value {
        let now = Clock::system().now();
        fixes(&(1..=100).map(|k| fix(n * 100 + k, 48.2, 16.37, now)).collect::<Vec<_>>())
    };
    for n in 0..FRAMES {
        phone.send(&frame(n)).await.unwrap();
    }
    let began = Instant::now();
    phone.send(&json!({"type": "emergency"})).await.unwrap();
    contact.wait_for("the SOS", is_sos).await.unwrap();
    println!("told {:?} after the raise, each sync taking 300 ms", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let (mut pushed_back, mut slowed, mut acked) = (false, false, 0);
    while !(pushed_back && slowed && acked > 0) {
        let Heard::Frame(frame) = phone.hear().await else { panic!("it ends") };
        pushed_back |= frame["code"] == "rate_limited";
        slowed |= frame["type"] == "slow_down";
        acked = if frame["type"] == "acked" { frame["seq"].as_i64().unwrap() } else { acked };
    }
    // What was pushed back is sent again, and acked in the end.
    let last = FRAMES * 100;
    let end = Instant::now() + Duration::from_secs(60);
    while acked < last && Instant::now() < end {
        phone.send(&frame(acked / 100)).await.unwrap();
        let next = phone.wait_for("an ack", |f| f["type"] == "acked" && f["seq"].as_i64() > Some(acked));
        acked = timeout(SOON, next).await.unwrap().unwrap()["seq"].as_i64().unwrap();
    }
    assert_eq!(acked, last);
    drop((phone, contact));
    node.kill().await;
}
