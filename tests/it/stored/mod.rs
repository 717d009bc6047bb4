//! What an earlier version stored is opened by this one: what could be read reads the same, and the story goes on.
//!
//! `tests/stored/NAME` has a data folder that a kill left, one that a stop left, and a database, each with what its node
//! answered at the end of the same story (`story`). The clock stands where the story stopped, so nothing of it ages.

mod answers;
mod cast;
mod make;
mod story;

use crate::harness::{TestNode, database, send_acked};
use cast::{Cast, Notes};
use cima::app::Node;
use cima::client::{Api, Socket, fix};
use cima::clock::Clock;
use cima::config::Config;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use story::PIN;
use tempfile::TempDir;

/// The sets that are kept, oldest first.
fn sets() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored");
    let mut sets: Vec<PathBuf> = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.retain(|path| path.is_dir());
    sets.sort();
    assert!(!sets.is_empty());
    sets
}

/// Unpacks one of a set and starts this version's node on it, at the time when the other stopped.
async fn open(packed: &Path) -> (TestNode, Notes) {
    let folder = TempDir::new().unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(folder.path()).status();
    assert!(unpacked.unwrap().success(), "{}", packed.display());
    let notes = Notes::read(&std::fs::read_to_string(folder.path().join("notes.json")).unwrap());
    let mut config = Config::with_defaults(folder.path().join("data"));
    let dump = folder.path().join("database.sql");
    if dump.exists() {
        let url = restored(&std::fs::read_to_string(dump).unwrap()).await;
        cima::store::postgres::migrate(&url).await.unwrap();
        config.database_url = Some(url);
        config.signing_key_file = Some(folder.path().join("signing-key.pem"));
    }
    (config.password_memory_kib, config.drain_s, config.push.push_dev) = (64, 2, true);
    let clock = Clock::manual(notes.now);
    let node = Node::start(&config, clock.clone()).await.unwrap();
    let api = Api::new(format!("http://{}", node.addr)).unwrap();
    (TestNode { node: Some(node), api, clock, folder }, notes)
}

/// A new database with what `pg_dump` wrote.
async fn restored(dump: &str) -> String {
    let mut server = database::admin().await;
    let name = format!("cima_{}", cima::id::fresh(&Clock::system()).simple());
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut server).await.unwrap();
    server.close().await.unwrap();
    let url = database::address(&name);
    let mut empty = database::connect(&url).await;
    sqlx::raw_sql(AssertSqlSafe(dump)).execute(&mut empty).await.unwrap();
    empty.close().await.unwrap();
    url
}

async fn hear(socket: &mut Socket, what: &str, of: &str, template: &str) -> Value {
    let heard =
        socket.wait_for(what, |frame| frame["template"] == template && frame["emergency"] == *of).await;
    heard.unwrap()
}

/// One stays as it was, in all that can be read of it, and what was open then goes on as it would have.
async fn goes_on(packed: &Path) {
    let (mut node, notes) = open(packed).await;
    let mut cast = Cast::read(&notes.cast, &node.api);
    let mut read = answers::of_everybody(&cast).await;
    read.extend(answers::of_places(&cast).await);
    answers::assert_same(&notes.answers, &read);

    acked_fixes_are_there(&node, &notes).await;
    ended_tokens_stay_ended(&node, &notes).await;
    duress_stays_duress(&cast, &notes).await;
    let before = inbox(&cast).await.len();
    let mut bo = cast.get("Bo").another_device("a new phone").await.stream().await;
    what_is_open_goes_on(&node, &mut cast, &notes, &mut bo).await;
    what_is_new_follows(&node, &cast, &mut bo).await;

    let cursors: Vec<i64> = inbox(&cast).await.iter().map(|a| a["cursor"].as_i64().unwrap()).collect();
    assert_eq!(cursors, (1..=cursors.len() as i64).collect::<Vec<_>>(), "cursors have no gaps");
    assert!(cursors.len() > before);
    bo.close().await;
    assert!(node.stop().await, "and it stops in order");
}

async fn inbox(cast: &Cast) -> Vec<Value> {
    let page = cast.get("Bo").get("/v1/alerts?limit=1000").await.ok().unwrap();
    page["items"].as_array().unwrap().clone()
}

/// Those that were on their way to the store, too; and the phone goes on after them.
async fn acked_fixes_are_there(node: &TestNode, notes: &Notes) {
    let late = Cast::read(&notes.known["late"], &node.api);
    let (lea, tail) = (late.get("Lea"), notes.known["tail"].as_i64().unwrap());
    let mut phone = lea.api.stream(&lea.session.access).await.unwrap();
    assert_eq!(phone.wait("welcome").await.unwrap()["last_seq"], tail);
    send_acked(&mut phone, &[fix(tail + 1, 48.31, 16.3, node.now())]).await;
    let track = lea.get(&format!("/v1/people/{}/track?limit=1000", lea.id())).await.ok().unwrap();
    let seqs = track["features"].as_array().unwrap().iter().map(|f| f["properties"]["seq"].as_i64().unwrap());
    assert_eq!(seqs.collect::<Vec<_>>(), (1..=tail + 1).collect::<Vec<_>>());
    phone.close().await;
}

/// Of a device that was removed, a session that was signed out, and an account that was deleted.
async fn ended_tokens_stay_ended(node: &TestNode, notes: &Notes) {
    for token in notes.known["ended"].as_array().unwrap() {
        let given = json!({"refresh_token": token});
        let answer = node.api.call("POST", "/v1/sessions/refresh", None, Some(&given)).await.unwrap();
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let taken =
        json!({"handle": cast::handle("Flo"), "password": "somebody else's password", "display_name": "Flo"});
    let answer = node.api.call("POST", "/v1/accounts", None, Some(&taken)).await.unwrap();
    assert_eq!(answer.status, 409, "a handle is never used again: {answer:?}");
}

async fn duress_stays_duress(cast: &Cast, notes: &Notes) {
    let path = format!("/v1/emergencies/{}", notes.known["forced"].as_str().unwrap());
    let hers = cast.get("Ada").get(&path).await.ok().unwrap();
    assert_eq!((&hers["state"], hers.get("duress")), (&json!("resolved"), None));
    let theirs = cast.get("Bo").get(&path).await.ok().unwrap();
    assert_eq!((&theirs["state"], &theirs["duress"]), (&json!("active"), &json!(true)));
    assert_eq!(cast.get("Cy").get(&path).await.ok().unwrap()["state"], "resolved", "excluded by her");
}

async fn what_is_open_goes_on(node: &TestNode, cast: &mut Cast, notes: &Notes, bo: &mut Socket) {
    let known = |of: &str| notes.known[of].as_str().unwrap();
    let end = format!("/v1/emergencies/{}/resolve", known("joined"));
    let gus = cast.get("Gus");
    assert_eq!(gus.post(&end, json!({"pin": "0000"})).await.code(), "pin_wrong");
    let ended = gus.post(&end, json!({"pin": PIN})).await.ok().unwrap();
    assert_eq!((&ended["id"], &ended["state"]), (&json!(known("open")), &json!("resolved")));
    hear(bo, "the end", known("open"), "emergency.resolved").await;

    node.clock.advance(Duration::from_secs(60));
    hear(bo, "the countdown is over", known("counting"), "emergency.raised").await;
    cast.refresh().await;
    node.clock.advance(Duration::from_secs(840));
    bo.wait_for("the dwell", |frame| frame["transition"] == "dwell").await.unwrap();
    let complete = format!("/v1/check-ins/{}/complete", known("waits"));
    let again = cast.get("Ada").post(&complete, json!({})).await.ok().unwrap();
    assert_eq!(again["state"], "waiting", "it repeats");
    cast.refresh().await;
}

async fn what_is_new_follows(node: &TestNode, cast: &Cast, bo: &mut Socket) {
    let (ada, gus) = (cast.get("Ada"), cast.get("Gus"));
    let mut phone = ada.api.stream(&ada.session.access).await.unwrap();
    let seq = phone.wait("welcome").await.unwrap()["last_seq"].as_i64().unwrap();
    // The alert may come before the ack.
    phone.send(&cima::client::fixes(&[fix(seq + 1, 47.0, 15.0, node.now())])).await.unwrap();
    phone.wait_for("a zone", |frame| frame["params"]["zone"] == "the quarry").await.unwrap();
    bo.wait_for("the exit", |frame| frame["transition"] == "exit").await.unwrap();
    phone.close().await;

    let raised = gus.api.post("/v1/emergencies", &gus.session.distress, json!({"kind": "sos"})).await;
    let raised = raised.unwrap().ok().unwrap();
    let id = raised["emergency"]["id"].as_str().unwrap();
    hear(bo, "the new one", id, "emergency.raised").await;
    let path = format!("/v1/emergencies/{id}");
    let sent = async {
        while gus.get(&path).await.ok().unwrap()["deliveries"][0]["state"] != "sent" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sent = tokio::time::timeout(cima::client::DEADLINE, sent).await;
    assert!(sent.is_ok(), "endpoints of before are pushed to: {:?}", gus.get(&path).await);
    gus.post(&format!("{path}/resolve"), json!({"pin": PIN})).await.ok().unwrap();
    hear(bo, "its end", id, "emergency.resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_killed_node_goes_on_in_files() {
    for set in sets() {
        goes_on(&set.join("killed.tar.gz")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_stopped_node_goes_on_in_files() {
    for set in sets() {
        goes_on(&set.join("stopped.tar.gz")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_a_killed_node_goes_on() {
    for set in sets() {
        goes_on(&set.join("database.tar.gz")).await;
    }
}
