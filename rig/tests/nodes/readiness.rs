//! Readiness says whether this node can take an SOS now, and follows what happens within five seconds.

use cima::client::{Api, Session};
use cima_rig::database;
use cima_rig::node::{Begun, Launch, Server, Site};
use cima_rig::postgres::Postgres;
use serde_json::json;
use sqlx::{AssertSqlSafe, query};
use std::fs::{File, remove_file};
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For readiness to follow.
const FOLLOWS: Duration = Duration::from_secs(5);
/// For a machine that has other things to do as well.
const SLACK: Duration = Duration::from_secs(10);

async fn status(base: &str, path: &str) -> u16 {
    let answer = reqwest::get(format!("{base}{path}")).await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

/// How long it takes until a node is ready (or is not).
async fn becomes(base: &str, ready: bool) -> Option<Duration> {
    let (began, wanted) = (Instant::now(), if ready { 200 } else { 503 });
    while began.elapsed() < FOLLOWS + SLACK {
        if status(base, "/readyz").await == wanted {
            return Some(began.elapsed());
        }
        sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn follows(what: &str, base: &str, ready: bool) {
    let after = becomes(base, ready).await.unwrap_or_else(|| panic!("{what}: readiness does not follow"));
    println!("{what}: ready {ready} after {after:?}");
}

async fn raise(api: &Api, who: &Session) -> u16 {
    api.post("/v1/emergencies", &who.distress, json!({})).await.unwrap().status
}

async fn read_only(postgres: &Postgres, on: bool) {
    let mut db = database::connect(&postgres.url()).await;
    for step in
        [format!("ALTER SYSTEM SET default_transaction_read_only = {on}"), "SELECT pg_reload_conf()".into()]
    {
        query("SET default_transaction_read_only = off").execute(&mut db).await.unwrap();
        query(AssertSqlSafe(step)).execute(&mut db).await.unwrap();
    }
}

async fn site(postgres: &Postgres) -> Site {
    Site::new(postgres.url(), std::env::var("CIMA_TEST_REDIS_URL").expect("run `tests/backends.sh`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_ready_while_its_database_takes_no_writes_or_is_not_there() {
    let postgres = Postgres::start().await;
    let node = site(&postgres).await.node("node");
    let ada = node.api().sign_up("ada_ready", "Ada").await.unwrap();
    follows("at the start", &node.base, true).await;
    read_only(&postgres, true).await;
    follows("read-only", &node.base, false).await;
    assert_eq!(raise(&node.api(), &ada).await, 503);
    read_only(&postgres, false).await;
    follows("takes writes again", &node.base, true).await;
    assert_eq!(raise(&node.api(), &ada).await, 201);
    postgres.stop();
    follows("killed", &node.base, false).await;
    assert_eq!((raise(&node.api(), &ada).await, status(&node.base, "/livez").await), (503, 200));
    postgres.start_again();
    follows("started again", &node.base, true).await;
    assert_eq!(raise(&node.api(), &ada).await, 200, "it joins the one before");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_probe_a_node_calls_itself_ready_on_a_database_that_takes_no_writes() {
    let postgres = Postgres::start().await;
    let node = site(&postgres).await.node_without("node", "readiness-probe");
    read_only(&postgres, true).await;
    assert_eq!(becomes(&node.base, false).await, None);
    read_only(&postgres, false).await;
}

/// An address that nobody listens on.
fn free_address() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

async fn waits(begun: &mut Begun, base: &str) {
    follows("before its database", base, false).await;
    assert_eq!(status(base, "/livez").await, 200);
    let raised = reqwest::Client::new().post(format!("{base}/v1/emergencies")).send().await.unwrap();
    assert_eq!(raised.status().as_u16(), 503);
    assert!(raised.headers().contains_key("retry-after"));
    assert!(begun.child.try_wait().unwrap().is_none(), "it ended");
}

async fn serves(begun: Begun, base: &str) -> Server {
    follows("with its database", base, true).await;
    begun.serves()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_a_database_that_is_away_or_lets_it_not_in() {
    let postgres = Postgres::start().await;
    let mut db = database::connect(&postgres.url()).await;
    query("CREATE ROLE app SUPERUSER NOLOGIN").execute(&mut db).await.unwrap();
    let redis = std::env::var("CIMA_TEST_REDIS_URL").expect("run `tests/backends.sh`");
    let site = Site::new(postgres.url().replace("cima@", "app@"), redis);
    let (address, other) = (free_address(), free_address());
    let base = format!("http://{address}");
    let mut begun = site.launch("refused", &Launch::default().on(&address));
    waits(&mut begun, &base).await;
    query("ALTER ROLE app LOGIN").execute(&mut db).await.unwrap();
    drop(db);
    let node = serves(begun, &base).await;
    node.stop().await;

    postgres.stop();
    let base = format!("http://{other}");
    let mut begun = site.launch("away", &Launch::default().on(&other));
    waits(&mut begun, &base).await;
    postgres.start_again();
    let node = serves(begun, &base).await;
    let ada = node.api().sign_up("ada_waits", "Ada").await.unwrap();
    assert_eq!(raise(&node.api(), &ada).await, 201);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_ready_while_its_disk_is_full() {
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().on_a_small_disk(12)).serves();
    let ada = node.api().sign_up("ada_full", "Ada").await.unwrap();
    follows("at the start", &node.base, true).await;
    let filler = node.file_on_its_disk("filler");
    let mut file = File::create(&filler).unwrap();
    for size in [1 << 16, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    follows("full", &node.base, false).await;
    assert_eq!(raise(&node.api(), &ada).await, 503);
    remove_file(&filler).unwrap();
    drop(file);
    follows("with room again", &node.base, true).await;
    assert_eq!(raise(&node.api(), &ada).await, 201);
    node.stop().await;
}
