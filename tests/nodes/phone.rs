//! Phones that keep what is not acked, come back when they are sent away, and now and then just change the network.

use cima::client::{Api, Heard, Session, Socket, fix, fixes};
use cima::clock::{Clock, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where everybody's fence is, and how far away they go.
const HOME: (f64, f64) = (48.2, 16.4);
const AWAY: f64 = 48.21;
/// Fixes on one side of the fence.
const SIDE: i64 = 7;
/// One in so many fixes is followed by a change of the network.
const CHANGES: u64 = 25;

/// Somebody with a phone and a fence, and how their day went.
pub(crate) struct Phone {
    pub(crate) session: Session,
    /// Every fix sent, by number.
    pub(crate) sent: BTreeMap<i64, Timestamp>,
    /// The highest number up to which all were acked.
    pub(crate) acked: i64,
    /// Changes the network now and then.
    pub(crate) restless: bool,
    /// How often it connected.
    pub(crate) connections: usize,
    /// Close codes it was given, with their counts.
    pub(crate) closes: BTreeMap<u16, usize>,
}

/// Where a fix of this number is taken.
pub(crate) fn place(seq: i64) -> (f64, f64) {
    if seq / SIDE % 2 == 0 { (AWAY, HOME.1) } else { HOME }
}

/// The fix at which somebody was last seen to come or go, of so many.
pub(crate) fn last_passage(last: i64) -> i64 {
    (last / SIDE * SIDE).max(1)
}

/// Somebody with a fence around their home, whose contact is told of both ways.
pub(crate) async fn person(api: &Api, n: usize, contact: &(Session, String)) -> Phone {
    let session = api.sign_up(&format!("person{n}"), "Person").await.unwrap();
    let shape = json!({"type": "Circle", "center": [HOME.1, HOME.0], "radius_m": 200.0});
    let fence = json!({"name": "home", "shape": shape, "triggers": ["enter", "exit"], "cooldown_s": 0});
    api.post("/v1/geofences", &session.access, fence).await.unwrap().ok().unwrap();
    api.link(&session, &contact.0, &contact.1, &["alerts", "live_location"]).await.unwrap();
    Phone {
        session,
        sent: BTreeMap::new(),
        acked: 0,
        restless: true,
        connections: 0,
        closes: BTreeMap::new(),
    }
}

impl Phone {
    /// Streams a fix each `pause` to any of the nodes, until `end`; then until all is acked.
    pub(crate) async fn stream(
        &mut self,
        mut nodes: watch::Receiver<Vec<String>>,
        seed: u64,
        pause: Duration,
        end: Instant,
    ) {
        let mut dice = seed;
        let mut roll = move |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let (restless, mut left) = (self.restless, JoinSet::new());
        while Instant::now() < end || self.acked < self.last() {
            let node = {
                let nodes = nodes.borrow_and_update();
                nodes[usize::try_from(roll(nodes.len() as u64)).unwrap()].clone()
            };
            let Ok(mut socket) = Api::new(node).unwrap().stream(&self.session.access).await else {
                tokio::time::sleep(Duration::from_millis(50 + roll(100))).await;
                continue;
            };
            self.connections += 1;
            let stays = self.on(&mut socket, pause, end, || restless && roll(CHANGES) == 0).await;
            // A change of the network may leave the old connection open at the other end.
            if stays && roll(2) == 0 {
                left.spawn(closed(socket));
            }
        }
        for code in left.join_all().await.into_iter().flatten() {
            *self.closes.entry(code).or_default() += 1;
        }
    }

    pub(crate) fn last(&self) -> i64 {
        self.sent.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// On one connection, until it ends (`false`), the phone changes the network or has nothing left (`true`).
    async fn on(
        &mut self,
        socket: &mut Socket,
        pause: Duration,
        end: Instant,
        mut changes: impl FnMut() -> bool,
    ) -> bool {
        let Ok(welcome) = socket.wait("welcome").await else { return false };
        self.acked = self.acked.max(welcome["last_seq"].as_i64().unwrap());
        let again: Vec<Value> =
            self.sent.range(self.acked + 1..).map(|(seq, at)| written(*seq, *at)).collect();
        for frame in again.chunks(50) {
            if socket.send(&fixes(frame)).await.is_err() {
                return false;
            }
        }
        let mut next = Instant::now() + pause;
        loop {
            tokio::select! {
                heard = socket.hear() => match heard {
                    Heard::Frame(frame) if frame["type"] == "acked" => {
                        self.acked = self.acked.max(frame["seq"].as_i64().unwrap());
                        if Instant::now() >= end && self.acked >= self.last() {
                            return true;
                        }
                    }
                    Heard::Frame(frame) => {
                        assert!(!["rejected", "error"].contains(&frame["type"].as_str().unwrap()), "{frame}");
                    }
                    Heard::Closed(code) => {
                        *self.closes.entry(code).or_default() += 1;
                        return false;
                    }
                    Heard::Gone => return false,
                },
                () = tokio::time::sleep_until(next) => {
                    next += pause;
                    if Instant::now() >= end {
                        if self.acked >= self.last() {
                            return true;
                        }
                        continue;
                    }
                    let (seq, now) = (self.last() + 1, Clock::system().now());
                    self.sent.insert(seq, now);
                    if socket.send(&fixes(&[written(seq, now)])).await.is_err() {
                        return false;
                    }
                    if changes() {
                        return true;
                    }
                }
            }
        }
    }
}

/// With which code the server closes it, if it does.
async fn closed(mut socket: Socket) -> Option<u16> {
    let heard = async {
        loop {
            match socket.hear().await {
                Heard::Frame(_) => {}
                Heard::Closed(code) => return Some(code),
                Heard::Gone => return None,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.ok().flatten()
}

pub(crate) fn written(seq: i64, at: Timestamp) -> Value {
    let (lat, lon) = place(seq);
    fix(seq, lat, lon, at)
}
