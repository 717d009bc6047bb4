//! Many idle sockets cost the database little, also in the moment after Redis was away.

use crate::count;
use cima::client::{Session, Socket};
use cima_rig::database;
use cima_rig::node::{Server, Site};
use cima_rig::redis::Redis;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{PgConnection, query, query_scalar};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long raises follow each other after Redis was away.
const LOOKED: Duration = Duration::from_secs(8);
/// Sign-ups at a time.
const AT_ONCE: usize = 50;

/// Transactions of the database so far.
async fn transactions(db: &mut PgConnection) -> i64 {
    // A backend that has gone idle reports the last of what it did after ten seconds.
    sleep(Duration::from_secs(11)).await;
    query("SELECT pg_stat_clear_snapshot()").execute(&mut *db).await.unwrap();
    let all = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    query_scalar(all).fetch_one(db).await.unwrap()
}

async fn idle(node: &Server, sockets: usize) -> Vec<Socket> {
    let mut open = Vec::new();
    for from in (0..sockets).step_by(AT_ONCE) {
        let some = (from..sockets.min(from + AT_ONCE)).map(|n| async move {
            let who = node.api().sign_up(&format!("idle_{n}"), "Idle").await.unwrap();
            let mut socket = node.api().stream(&who.access).await.unwrap();
            socket.wait("welcome").await.unwrap();
            socket
        });
        open.extend(join_all(some).await);
    }
    open
}

/// From the frame of a raise to its answer and to its alert.
async fn raise(phone: &mut Socket, contact: &mut Socket) -> Duration {
    let began = Instant::now();
    phone.send(&json!({"type": "emergency"})).await.unwrap();
    phone.wait("accepted").await.unwrap();
    let sos = |frame: &Value| frame["type"] == "alert" && frame["kind"] == "emergency";
    contact.wait_for("the alert", sos).await.unwrap();
    began.elapsed()
}

/// Transactions a second while all is idle, transactions after Redis was away for a second, and how long the slowest raise
/// took meanwhile.
async fn away(without: &str, sockets: usize) -> (f64, i64, Duration) {
    let mut redis = Redis::start().await;
    let site = Site::new(database::fresh().await, redis.url());
    let node = site.node_without("node", without);
    let api = node.api();
    let (ada, bo): (Session, Session) =
        (api.sign_up("ada_storm", "Ada").await.unwrap(), api.sign_up("bo_storm", "Bo").await.unwrap());
    api.link(&ada, &bo, "bo_storm", &["alerts", "emergency_location"]).await.unwrap();
    let all = idle(&node, sockets).await;
    let (mut phone, mut contact) =
        (api.stream(&ada.access).await.unwrap(), api.stream(&bo.access).await.unwrap());
    let mut db = database::connect(site.database()).await;

    let (start, began) = (transactions(&mut db).await, Instant::now());
    let before = transactions(&mut db).await;
    let idle = (before - start) as f64 / began.elapsed().as_secs_f64();

    redis.kill();
    sleep(Duration::from_secs(1)).await;
    redis.start_empty().await;
    let (back, mut slowest) = (Instant::now(), Duration::ZERO);
    while back.elapsed() < LOOKED {
        let raised = timeout(Duration::from_secs(30), raise(&mut phone, &mut contact)).await;
        slowest = slowest.max(raised.expect("a raise is answered and told"));
        sleep(Duration::from_secs(1)).await;
    }
    let after = transactions(&mut db).await - before;
    println!(
        "{sockets} idle sockets, without {without:?}: {idle:.1} transactions/s; {after} after Redis was away, raises up to {slowest:?}"
    );
    drop(all);
    drop((phone, contact));
    node.stop().await;
    (idle, after, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sockets_ask_nothing_also_after_redis_was_away() {
    let sockets = count(4_000);
    let (idle, after, slowest) = away("", sockets).await;
    assert!(idle < 15.0, "{idle} transactions a second");
    assert!(after < 1_000, "{after} transactions");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pacing_each_socket_asks_for_itself_after_redis_was_away() {
    let sockets = count(4_000);
    let (_, after, _) = away("paced-resync", sockets).await;
    assert!(after > 2 * sockets as i64, "{after} transactions of {sockets} sockets");
}
