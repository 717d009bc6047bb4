//! The bus between nodes over a real Redis: what it carries, and what becomes of it when Redis dies, hangs, is started
//! empty, or when a connection to it falls silent.

#![expect(clippy::unwrap_used, reason = "a Redis that does not answer has failed the test")]

#[path = "bus/nodes.rs"]
mod nodes;
#[path = "bus/rig.rs"]
mod rig;

use cima::bus::{Bus, Event, Sealed, SharedSettings};
use cima::clock::Clock;
use cima::id::{DeviceId, EmergencyId, SessionId, UserId};
use cima::runtime::Tasks;
use redis::AsyncCommands;
use rig::{DEADLINE, Redis, Road, conn};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// Hints arrive again this soon after Redis is back, or after a silent connection was given up.
const HEALED: Duration = Duration::from_secs(6);

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn inbox(n: u128) -> Event {
    Event::Inbox([user(n)].into())
}

/// One end of the bus, as a node has it.
struct End {
    bus: Bus,
    events: Receiver<Event>,
    tasks: Tasks,
}

impl End {
    fn over(url: String, probe: bool) -> Self {
        let tasks = Tasks::default();
        let bus = Bus::shared(&SharedSettings { url, probe }, Clock::system(), &tasks).unwrap();
        let events = bus.subscribe();
        Self { bus, events, tasks }
    }

    /// One that hears itself, and so the others.
    async fn connected(url: String) -> Self {
        let mut end = Self::over(url, true);
        end.trusts().await;
        // What connecting told is not part of the test.
        end.events = end.bus.subscribe();
        end
    }

    async fn trusts(&self) {
        until("the bus is trusted", || !self.bus.is_suspect()).await;
    }

    /// Waits for an event, past all others.
    async fn hears(&mut self, wanted: &Event) {
        assert!(self.hears_within(wanted, DEADLINE).await, "{wanted:?} did not come");
    }

    async fn hears_within(&mut self, wanted: &Event, time: Duration) -> bool {
        timeout(time, async { while self.events.recv().await.unwrap() != *wanted {} }).await.is_ok()
    }

    async fn stop(self) {
        assert!(self.tasks.shut_down(Duration::from_secs(3)).await, "a task of the bus did not end");
    }
}

/// Waits for something that no event tells of.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        look.tick().await;
    }
}

/// Publishes at one end until the other hears, or the time is over.
async fn reaches(from: &End, to: &mut End, time: Duration) -> bool {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let n = u128::from(COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        from.bus.publish(inbox(n));
        if to.hears_within(&inbox(n), Duration::from_millis(100)).await {
            return true;
        }
    }
    false
}

async fn two(redis: &Redis) -> (End, End) {
    (End::connected(redis.url()).await, End::connected(redis.url()).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_other_nodes_once_and_their_own_at_once() {
    let redis = Redis::start().await;
    let (mut a, mut b) = two(&redis).await;
    let people = [user(1), user(2)].into();
    let events = [
        inbox(1),
        Event::Emergency { id: EmergencyId(Uuid::from_u128(9)), people },
        Event::Visibility { subject: user(1) },
        Event::DeviceRemoved(DeviceId(Uuid::from_u128(3))),
        Event::SessionEnded(SessionId(Uuid::from_u128(4))),
    ];
    for event in &events {
        a.bus.publish(event.clone());
    }
    for event in &events {
        assert_eq!(a.events.try_recv().as_ref(), Ok(event), "without Redis");
    }
    // Emergencies take two ways, and each way keeps its order.
    let mut heard = Vec::new();
    for _ in &events {
        heard.push(timeout(DEADLINE, b.events.recv()).await.unwrap().unwrap());
    }
    assert!(events.iter().all(|e| heard.contains(e)), "{heard:?}");
    // Both ways are read to here: had anything come twice or back, it would be before these.
    for end in [&a, &b] {
        end.bus.publish(Event::Visibility { subject: user(77) });
        end.bus.publish(inbox(77));
    }
    for end in [&mut a, &mut b] {
        let mut last = Vec::new();
        while last.iter().filter(|e| **e == inbox(77)).count() < 2 || last.len() < 4 {
            last.push(timeout(DEADLINE, end.events.recv()).await.unwrap().unwrap());
        }
        assert_eq!(last.len(), 4, "{last:?}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emergencies_come_by_the_stream_alone() {
    let redis = Redis::start().await;
    let mut b = End::connected(redis.url()).await;
    let mut conn = conn(&redis).await;
    // The reader is at the end of the stream when it hears the first of these.
    let envelope = |id: u128| {
        format!(
            r#"{{"v":1,"id":"{}","node":"{}","type":"visibility","subject":"{}","event_at":"2026-11-23T00:00:00.000Z","seq":1,"cause":null,"trace":null}}"#,
            Uuid::from_u128(id),
            Uuid::from_u128(0xf0),
            Uuid::from_u128(id)
        )
    };
    let end = Instant::now() + DEADLINE;
    let mut n = 1_u128;
    loop {
        let _: String = conn.xadd("cima:emergencies", "*", &[("e", envelope(n))]).await.unwrap();
        if b.hears_within(&Event::Visibility { subject: user(n) }, Duration::from_millis(100)).await {
            break;
        }
        assert!(Instant::now() < end, "nothing comes by the stream");
        n += 1;
    }
    // The same message again, as after a repeated write: it is taken once.
    let _: String = conn.xadd("cima:emergencies", "*", &[("e", envelope(n))]).await.unwrap();
    let _: String = conn.xadd("cima:emergencies", "*", &[("e", envelope(n + 1))]).await.unwrap();
    let next = timeout(DEADLINE, b.events.recv()).await.unwrap().unwrap();
    assert_eq!(next, Event::Visibility { subject: user(n + 1) });
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_travel_while_somebody_watches() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let position = |n: u8| Event::Position { subject: user(1), sealed: Sealed::new(vec![n]) };
    assert!(!a.bus.is_watched(user(1)));
    let guard = b.bus.watch(user(1));
    until("a knows that b watches", || a.bus.is_watched(user(1))).await;
    let mut conn = conn(&redis).await;
    let channel = format!("cima:pos:{}", user(1));
    let mut n = 0;
    let end = Instant::now() + DEADLINE;
    loop {
        n += 1;
        a.bus.publish(position(n));
        if b.hears_within(&position(n), Duration::from_millis(100)).await {
            break;
        }
        assert!(Instant::now() < end, "no position came");
    }
    drop(guard);
    let end = Instant::now() + DEADLINE;
    loop {
        let listeners: Vec<(String, usize)> =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(&channel).query_async(&mut conn).await.unwrap();
        if listeners[0].1 == 0 {
            break;
        }
        assert!(Instant::now() < end, "b still listens to somebody nobody watches");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_watched_is_said_again_to_nodes_that_come_later() {
    let redis = Redis::start().await;
    let b = End::connected(redis.url()).await;
    let _guards: Vec<_> = (0..2_500).map(|n| b.bus.watch(user(n))).collect();
    let a = End::connected(redis.url()).await;
    until("a knows of all", || (0..2_500).all(|n| a.bus.is_watched(user(n)))).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_found_again_and_everybody_looks() {
    let mut redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    assert!(reaches(&a, &mut b, DEADLINE).await);
    redis.kill();
    until("both ends are suspect", || a.bus.is_suspect() && b.bus.is_suspect()).await;
    // Far more than may wait: nobody blocks, and memory is bounded by the queue.
    for n in 0..20_000 {
        a.bus.publish(inbox(n));
    }
    while b.events.try_recv().is_ok() {}
    redis.start_empty().await;
    let back = Instant::now();
    b.hears(&Event::Resync).await;
    assert!(reaches(&a, &mut b, HEALED).await, "hints do not arrive again");
    assert!(back.elapsed() < HEALED, "{:?}", back.elapsed());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_suspect_and_then_trusted_again() {
    let redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    redis.signal("STOP");
    let stopped = Instant::now();
    until("both ends are suspect", || a.bus.is_suspect() && b.bus.is_suspect()).await;
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    let emergency = Event::Emergency { id: EmergencyId(Uuid::from_u128(5)), people: [user(1)].into() };
    a.bus.publish(emergency.clone());
    redis.signal("CONT");
    let back = Instant::now();
    b.hears(&emergency).await;
    a.trusts().await;
    b.trusts().await;
    assert!(reaches(&a, &mut b, HEALED).await, "hints do not arrive again");
    assert!(back.elapsed() < HEALED, "{:?}", back.elapsed());
    a.stop().await;
    b.stop().await;
}

/// A silent road is left, and what was subscribed to is subscribed to again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_road_is_left() {
    let redis = Redis::start().await;
    let road = Road::to(&redis).await;
    let (a, mut b) = (End::connected(redis.url()).await, End::connected(road.url()).await);
    let _guard = b.bus.watch(user(1));
    assert!(reaches(&a, &mut b, DEADLINE).await);
    let ways = road.open.load(std::sync::atomic::Ordering::SeqCst);
    while b.events.try_recv().is_ok() {}
    road.cut();
    let cut = Instant::now();
    b.hears(&Event::Resync).await;
    assert!(reaches(&a, &mut b, HEALED).await, "hints do not arrive again");
    assert!(cut.elapsed() < HEALED, "{:?}", cut.elapsed());
    // Connections are left for good, not gathered.
    until("as many connections as before", || road.open.load(std::sync::atomic::Ordering::SeqCst) <= ways)
        .await;
    a.stop().await;
    b.stop().await;
    until("none when it has stopped", || road.open.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
}

/// The twin of `a_silent_road_is_left`: without its own voice a node that only listens waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_probe_a_silent_road_starves() {
    let redis = Redis::start().await;
    let road = Road::to(&redis).await;
    let (a, mut b) = (End::connected(redis.url()).await, End::over(road.url(), false));
    assert!(reaches(&a, &mut b, DEADLINE).await);
    while b.events.try_recv().is_ok() {}
    road.cut();
    assert!(!reaches(&a, &mut b, HEALED).await, "something else than the probe heals this");
    a.stop().await;
    b.stop().await;
}

/// Redis starts again with nothing in it: the reader of the stream begins anew, and misses nothing from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_stream_is_read_from_its_beginning() {
    let mut redis = Redis::start().await;
    let (a, mut b) = two(&redis).await;
    let mut conn = conn(&redis).await;
    // Ids far ahead of what the next server gives: to a reader that went on from there, all would be old.
    let _: String = conn.xadd("cima:emergencies", "9999999999999-0", &[("e", "{}")]).await.unwrap();
    a.bus.publish(Event::Visibility { subject: user(1) });
    b.hears(&Event::Visibility { subject: user(1) }).await;
    redis.kill();
    until("both ends are suspect", || a.bus.is_suspect() && b.bus.is_suspect()).await;
    redis.start_empty().await;
    b.hears(&Event::Resync).await;
    let mut conn = rig::conn(&redis).await;
    let end = Instant::now() + DEADLINE;
    let mut n = 100_u128;
    loop {
        let subject = Uuid::from_u128(n);
        let envelope = format!(
            r#"{{"v":1,"id":"{subject}","node":"{subject}","type":"visibility","subject":"{subject}","event_at":"2026-11-23T00:00:00.000Z","seq":1}}"#
        );
        let _: String = conn.xadd("cima:emergencies", "*", &[("e", envelope)]).await.unwrap();
        if b.hears_within(&Event::Visibility { subject: user(n) }, Duration::from_millis(200)).await {
            break;
        }
        assert!(Instant::now() < end, "what comes on the new stream is not read");
        n += 1;
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn an_address_without_meaning_is_refused_and_not_repeated() {
    let settings = SharedSettings { url: "http://user:secret@host".into(), probe: true };
    let Err(error) = Bus::shared(&settings, Clock::system(), &Tasks::default()) else {
        panic!("it was taken");
    };
    assert!(!error.to_string().contains("secret"));
}

/// A server that does not speak TLS is no reason to fall: the node goes on alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_handshake_leaves_the_node_alone() {
    let redis = Redis::start().await;
    let road = Road::to(&redis).await;
    let end = End::over(road.url().replacen("redis", "rediss", 1), true);
    until("it has tried", || road.tries() >= 8).await;
    assert!(end.bus.is_suspect() && !end.tasks.failed().is_cancelled());
    end.stop().await;
}
