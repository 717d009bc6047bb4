//! Makes what the tests beside it open. `tests/stored/make.sh` runs these one by one and packs what they leave.

use super::answers;
use super::cast::{Cast, Notes};
use super::story::{self, Told};
use crate::harness::{TestNode, send_acked, settings};
use cima::app::Node;
use cima::client::{Api, fix};
use cima::clock::{Clock, Timestamp};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, query_scalar};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Fixes that only the journal has when a node is killed.
const TAIL: i64 = 20;
/// What may be empty: the work of a deletion that was done, and what SQLite keeps of a small R*-tree.
const EMPTY: &[&str] = &["unfinished", "zone_bounds_parent"];

/// The folder to leave everything in.
fn out() -> PathBuf {
    std::env::var_os("CIMA_STORED_OUT").expect("run tests/stored/make.sh").into()
}

/// Plays the story and writes down what is answered at its end.
async fn prepare() -> (TestNode, Told) {
    let folder = tempfile::Builder::new().prefix("data").tempdir_in(out()).unwrap();
    let mut config = settings(&folder).await;
    config.push.push_dev = true;
    let clock = Clock::manual(Timestamp::parse("2026-11-20T08:00:00Z").unwrap());
    let node = Node::start(&config, clock.clone()).await.unwrap();
    let api = Api::new(format!("http://{}", node.addr)).unwrap();
    let node = TestNode { node: Some(node), api, clock, folder };
    let mut told = story::play(&node).await;
    told.cast.step_up().await;

    let places = answers::of_places(&told.cast).await;
    let trust = &node.node.as_ref().unwrap().services.trust;
    trust.ledger().flush().await.unwrap();
    // Pushes and positions are still on their way.
    let mut read = answers::of_everybody(&told.cast).await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let again = answers::of_everybody(&told.cast).await;
        if again == read {
            break;
        }
        read = again;
    }
    read.extend(places);

    // The journal hands over what is five seconds old; what comes now is in it alone.
    tokio::time::sleep(Duration::from_secs(7)).await;
    every_table_has_a_row(&node).await;
    let late = Cast::sign_up(&node, &["Lea"]).await;
    let mut phone = late.get("Lea").stream().await;
    let fixes: Vec<_> = (1..=TAIL).map(|seq| fix(seq, 48.3 + seq as f64 * 1e-4, 16.3, node.now())).collect();
    send_acked(&mut phone, &fixes).await;
    told.sockets.push(phone);
    (told.known["late"], told.known["tail"]) = (late.write(), json!(TAIL));
    let notes = Notes { now: node.now(), cast: told.cast.write(), answers: read, known: told.known.clone() };
    std::fs::write(out().join("notes.json"), notes.write()).unwrap();
    (node, told)
}

/// What no row is in, no later version is tested with.
async fn every_table_has_a_row(node: &TestNode) {
    let mut empty = Vec::new();
    let config = settings(&node.folder).await;
    if let Some(url) = config.database_url {
        let mut server = crate::harness::database::connect(&url).await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
        for table in query_scalar::<_, String>(tables).fetch_all(&mut server).await.unwrap() {
            let some = format!("SELECT EXISTS (SELECT 1 FROM {table})");
            if !query_scalar::<_, bool>(AssertSqlSafe(some)).fetch_one(&mut server).await.unwrap() {
                empty.push(table);
            }
        }
    } else {
        for file in ["cima.db", "fixes.db"] {
            let file = config.data_dir.join(file);
            let open = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
            let mut store: SqliteConnection = open.connect().await.unwrap();
            let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
            for table in query_scalar::<_, String>(tables).fetch_all(&mut store).await.unwrap() {
                let some = format!("SELECT EXISTS (SELECT 1 FROM {table})");
                if !query_scalar::<_, bool>(AssertSqlSafe(some)).fetch_one(&mut store).await.unwrap() {
                    empty.push(table);
                }
            }
            store.close().await.unwrap();
        }
    }
    empty.retain(|table| !EMPTY.contains(&table.as_str()));
    assert!(empty.is_empty(), "the story leaves these tables empty: {empty:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes what other tests open; tests/stored/make.sh runs it"]
async fn left_by_a_kill() {
    let (_node, _told) = prepare().await;
    Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status().unwrap();
    unreachable!("killed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes what other tests open; tests/stored/make.sh runs it"]
async fn left_by_a_stop() {
    let (mut node, told) = prepare().await;
    drop(told.sockets);
    assert!(node.stop().await);
    // The script takes the folder.
    node.folder.disable_cleanup(true);
}
