//! From the frame of a raise to the frame of its alert nothing waits for a routine call, on the socket or in the store.

use cima::client::{Session, Socket, fix, fixes};
use cima::clock::Clock;
use cima::runtime::detach;
use cima_rig::database;
use cima_rig::node::{Server, Site};
use serde_json::{Value, json};
use sqlx::{Connection, query};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Before a routine call gives up: whatever came by then has not waited for one.
const PAST_ROUTINE: Duration = Duration::from_secs(1);
/// More than a node has connections for routine calls.
const CALLERS: usize = 16;

async fn comes(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> bool {
    timeout(PAST_ROUTINE, socket.wait_for("a frame", wanted)).await.is_ok_and(|waited| waited.is_ok())
}

async fn stream(node: &Server, who: &Session) -> Socket {
    let mut socket = node.api().stream(&who.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    socket
}

/// Whether the raise is answered, and whether the contact hears of it, while every routine connection of the node hangs and
/// the phone's first fixes wait for one.
async fn raised_while_routine_calls_hang(without: &str) -> (bool, bool) {
    let site = Site::fresh().await;
    let node = site.node_without("node", without);
    let api = node.api();
    let (ada, bo) = (api.sign_up("ada_l", "Ada").await.unwrap(), api.sign_up("bo_l", "Bo").await.unwrap());
    api.link(&ada, &bo, "bo_l", &["alerts", "emergency_location"]).await.unwrap();
    let (mut phone, mut contact) = (stream(&node, &ada).await, stream(&node, &bo).await);

    let mut stranger = database::connect(site.database()).await;
    let mut lock = stranger.begin().await.unwrap();
    query("LOCK TABLE check_ins IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    for _ in 0..CALLERS {
        let (api, token) = (node.api(), bo.access.clone());
        detach("caller", async move { while api.get("/v1/check-ins", &token).await.is_ok() {} });
    }
    let mut db = database::connect(site.database()).await;
    let hanging = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(hanging).fetch_one(&mut db).await.unwrap() < 8 {
        sleep(Duration::from_millis(20)).await;
    }

    phone.send(&fixes(&[fix(1, 48.2, 16.37, Clock::system().now())])).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    phone.send(&json!({"type": "emergency", "id": cima::id::fresh(&Clock::system())})).await.unwrap();
    let sos = |frame: &Value| frame["type"] == "alert" && frame["kind"] == "emergency";
    tokio::join!(comes(&mut phone, |frame| frame["type"] == "accepted"), comes(&mut contact, sos))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sos_goes_past_routine_calls_that_hang_from_frame_to_frame() {
    assert_eq!(raised_while_routine_calls_hang("").await, (true, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_lane_of_a_socket_an_sos_waits_behind_its_fixes() {
    assert_eq!(raised_while_routine_calls_hang("socket-lane").await, (false, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_connections_of_its_own_an_alert_waits_behind_routine_calls() {
    assert_eq!(raised_while_routine_calls_hang("told-pool").await, (true, false));
}
