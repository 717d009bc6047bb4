//! A backend that dies, hangs or forgets, under load.

use crate::proving;
use crate::scaling::contact;
use cima::client::Session;
use cima::clock::Clock;
use cima_rig::database;
use cima_rig::ledger;
use cima_rig::listener::Listener;
use cima_rig::node::{Server, Site};
use cima_rig::phone::{self, Phone, last_passage};
use cima_rig::postgres::Postgres;
use cima_rig::redis::Redis;
use serde_json::json;
use sqlx::{Connection, query_scalar};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const PHONES: usize = 20;
/// Every call of the store has a deadline; what a client waits for is that and a little more.
const ANSWERS: Duration = Duration::from_secs(5);

/// Phones that stream to one node until they are told to end.
struct Load {
    streams: JoinSet<Phone>,
}

impl Load {
    async fn start(node: &Server, contact: &(Session, String), seconds: u64) -> (Self, Vec<Session>) {
        let (mut streams, mut sessions) = (JoinSet::new(), Vec::new());
        let nodes = watch::channel(vec![node.base.clone()]).1;
        let end = Instant::now() + Duration::from_secs(seconds);
        for n in 0..PHONES {
            let mut phone = phone::person(&node.api(), n, contact).await;
            sessions.push(phone.session.clone());
            phone.restless = false;
            let nodes = nodes.clone();
            streams.spawn(async move {
                phone.stream(nodes, n as u64 + 1, Duration::from_millis(300), || Instant::now() >= end).await;
                phone
            });
        }
        (Self { streams }, sessions)
    }

    /// Every phone when all it has sent is acked.
    async fn end(self) -> Vec<Phone> {
        self.streams.join_all().await
    }
}

/// Each fix is there once, each passage was found, and each was told once: also to the contact's app.
async fn is_whole(site: &Site, phones: &[Phone], listener: &Listener) {
    let mut db = database::connect(site.database()).await;
    let mut all = 0;
    for phone in phones {
        let once: BTreeMap<i64, i64> = phone.sent.keys().map(|seq| (*seq, 1)).collect();
        assert_eq!(ledger::fixes(&mut db, phone).await, once);
        let last = last_passage(phone.last());
        ledger::until(&Some(last), async || {
            ledger::transitions(&mut db, phone).await.last().map(|(_, seq, _)| *seq)
        })
        .await;
        let found = ledger::transitions(&mut db, phone).await;
        let passages: Vec<i64> = [1].into_iter().chain((7..=phone.last()).step_by(7)).collect();
        assert_eq!(found.iter().map(|(_, seq, _)| *seq).collect::<Vec<_>>(), passages);
        let news = found.iter().filter(|(_, _, initial)| !initial).count() as i64;
        ledger::until(&news, async || ledger::told(&mut db, phone).await).await;
        all += news;
    }
    let inbox = "SELECT count(*) FROM inbox i JOIN alerts a ON a.id = i.alert_id WHERE a.kind = 'geofence'";
    assert_eq!(query_scalar::<_, i64>(inbox).fetch_one(&mut db).await.unwrap(), all);
    let newest = query_scalar::<_, i64>("SELECT max(cursor) FROM inbox").fetch_one(&mut db).await.unwrap();
    let whole: Vec<i64> = (1..=newest).collect();
    ledger::until(&whole, async || {
        let mut cursors: Vec<i64> = listener.heard().alerts.values().copied().collect();
        cursors.sort_unstable();
        cursors
    })
    .await;
    db.close().await.unwrap();
}

fn worst(listener: &Listener) -> (usize, Duration) {
    let late = std::mem::take(&mut listener.heard().late);
    (late.len(), late.into_iter().max().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_die_hang_and_forget() {
    let mut redis = Redis::start().await;
    let site = Site::new(database::fresh().await, redis.url());
    let (a, b) = (site.node("a"), site.node("b"));
    let contact = contact(&a.api(), 0).await;
    let (load, people) = Load::start(&a, &contact, 46).await;
    let listener = Listener::start(b.api(), contact.0.clone(), Some(people[0].user.clone()));
    sleep(Duration::from_secs(7)).await;
    let before = [(a.size(), a.metric("cima_tasks").await), (b.size(), b.metric("cima_tasks").await)];
    println!("all well: {:?}; next position after {:?}", worst(&listener), listener.next_position().await);

    redis.kill();
    sleep(Duration::from_secs(5)).await;
    println!("Redis dead for 5 s: {:?} (alerts, latest)", worst(&listener));
    redis.start_empty().await;
    println!("started empty: positions after {:?}", listener.next_position().await);
    sleep(Duration::from_secs(4)).await;
    println!("then: {:?}", worst(&listener));

    redis.signal("STOP");
    sleep(Duration::from_secs(6)).await;
    println!("Redis frozen for 6 s: {:?}", worst(&listener));
    redis.signal("CONT");
    println!("woken: positions after {:?}", listener.next_position().await);
    sleep(Duration::from_secs(4)).await;
    println!("then: {:?}", worst(&listener));

    redis.kill();
    redis.start_empty().await;
    sleep(Duration::from_secs(5)).await;
    println!(
        "killed and started empty at once: {:?}, positions after {:?}",
        worst(&listener),
        listener.next_position().await
    );

    // What an outage needed it has given back.
    sleep(Duration::from_secs(6)).await;
    for (node, ((memory, threads), tasks)) in [&a, &b].into_iter().zip(before) {
        let ((memory_now, threads_now), tasks_now) = (node.size(), node.metric("cima_tasks").await);
        println!(
            "memory {memory} -> {memory_now} KiB, tasks {tasks} -> {tasks_now}, threads {threads} -> {threads_now}"
        );
        assert!(tasks_now <= tasks + 4.0 && threads_now <= threads + 4, "it keeps what the outage made");
        assert!(memory_now <= memory + memory / 2 + 16 * 1024, "it keeps what the outage made");
    }
    let phones = load.end().await;
    assert!(phones.iter().all(|p| p.closes.is_empty() && p.connections == 1), "sockets stay up");
    is_whole(&site, &phones, &listener).await;
    assert_eq!(listener.heard().closes, 0, "sockets stay up");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_hang() {
    let frozen = Duration::from_secs(if proving() { 20 } else { 8 });
    let postgres = Postgres::start().await;
    let redis = Redis::start().await;
    let site = Site::new(postgres.url(), redis.url());
    let node = site.node("a");
    let contact = contact(&node.api(), 0).await;
    let (load, people) = Load::start(&node, &contact, 12 + frozen.as_secs()).await;
    let listener = Listener::start(node.api(), contact.0.clone(), None);
    sleep(Duration::from_secs(6)).await;
    let tasks = node.metric("cima_tasks").await;

    postgres.signal("STOP");
    let (start, mut slowest, mut asked) = (Instant::now(), Duration::ZERO, 0);
    let raise = json!({"kind": "sos", "id": cima::id::EmergencyId::fresh(&Clock::system())});
    while start.elapsed() < frozen {
        let one = Instant::now();
        let answer = node.api().get("/v1/geofences", &people[0].access).await.unwrap();
        slowest = slowest.max(one.elapsed());
        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{:?}", answer.body);
        let one = Instant::now();
        let raised = node.api().post("/v1/emergencies", &people[0].access, raise.clone()).await.unwrap();
        slowest = slowest.max(one.elapsed());
        assert_eq!(raised.status, 503, "nobody is told that it is saved: {:?}", raised.body);
        assert_eq!(reqwest::get(format!("{}/livez", node.base)).await.unwrap().status(), 200);
        assert_eq!(reqwest::get(format!("{}/readyz", node.base)).await.unwrap().status(), 503);
        asked += 1;
    }
    postgres.signal("CONT");
    println!(
        "PostgreSQL frozen for {frozen:?}: {asked} rounds of calls, the slowest answered after {slowest:?}"
    );
    assert!(slowest < ANSWERS, "{slowest:?}");

    let woken = Instant::now();
    let opened = loop {
        let raised = node.api().post("/v1/emergencies", &people[0].access, raise.clone()).await.unwrap();
        if raised.status != 503 {
            break raised.ok().unwrap();
        }
        assert!(woken.elapsed() < ANSWERS, "it does not come back");
    };
    println!("woken: the raise is taken after {:?}", woken.elapsed());
    assert_eq!(opened["emergency"]["id"], raise["id"]);
    let phones = load.end().await;
    assert!(phones.iter().all(|p| p.closes.is_empty() && p.connections == 1), "sockets stay up");
    is_whole(&site, &phones, &listener).await;
    assert_eq!(listener.heard().closes, 0, "sockets stay up");
    let mut db = database::connect(site.database()).await;
    let once = "SELECT count(*) FROM emergencies";
    assert_eq!(query_scalar::<_, i64>(once).fetch_one(&mut db).await.unwrap(), 1);
    db.close().await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let tasks_now = node.metric("cima_tasks").await;
    println!("tasks {tasks} -> {tasks_now}");
    assert!(tasks_now <= tasks + 4.0, "it keeps what the outage made");
    node.stop().await;
}
