//! Phones that keep what is not acked, come back when they are sent away, and now and then just change the network.

use crate::dice::Dice;
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
/// Fixes of one frame when what was not acked is sent again.
const AGAIN: usize = 50;
/// Fixes that a phone which floods keeps of what is not acked when it is over.
const KEPT: i64 = 2_000;
/// Without an ack for so long, what was sent is sent again; at most for so long, where that brought none: phones that all send
/// again what a slow server has not come to yet would keep it from ever doing so.
const STALLED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// One in so many fixes is followed by a change of the network.
const CHANGES: u64 = 25;

/// Somebody with a phone and a fence, and how their day went.
pub struct Phone {
    /// Who, on what.
    pub session: Session,
    /// Every fix sent, by number.
    pub sent: BTreeMap<i64, Timestamp>,
    /// The highest number up to which all were acked.
    pub acked: i64,
    /// Changes the network now and then.
    pub restless: bool,
    /// Fixes in one frame.
    pub batch: usize,
    /// Goes in and out of the fence.
    pub roams: bool,
    /// How often the server said that it takes no more fixes now.
    pub pushed_back: usize,
    /// How often it asked to slow down.
    pub slowed: usize,
    /// How often the server could not take what it sent for now, and said so.
    pub unavailable: usize,
    /// How often it connected.
    pub connections: usize,
    /// Close codes it was given, with their counts.
    pub closes: BTreeMap<u16, usize>,
}

/// Where a fix of this number is taken.
pub fn place(seq: i64) -> (f64, f64) {
    if seq / SIDE % 2 == 0 { (AWAY, HOME.1) } else { HOME }
}

/// The fix at which somebody was last seen to come or go, of so many.
pub fn last_passage(last: i64) -> i64 {
    (last / SIDE * SIDE).max(1)
}

/// Somebody with a fence around their home, whose contact is told of both ways.
pub async fn person(api: &Api, n: usize, contact: &(Session, String)) -> Phone {
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
        batch: 1,
        roams: true,
        pushed_back: 0,
        slowed: 0,
        unavailable: 0,
        connections: 0,
        closes: BTreeMap::new(),
    }
}

impl Phone {
    /// Streams a frame each `pause` to any of the nodes, until it is over; then until all is acked.
    pub async fn stream(
        &mut self,
        mut nodes: watch::Receiver<Vec<String>>,
        seed: u64,
        pause: Duration,
        over: impl Fn() -> bool,
    ) {
        let mut dice = Dice::new(seed);
        let (restless, mut left) = (self.restless, JoinSet::new());
        while !over() || self.acked < self.last() {
            let node = {
                let nodes = nodes.borrow_and_update();
                dice.pick(&nodes).clone()
            };
            let Ok(mut socket) = Api::new(node).unwrap().stream(&self.session.access).await else {
                tokio::time::sleep(Duration::from_millis(50 + dice.roll(100))).await;
                continue;
            };
            self.connections += 1;
            let stays = self.on(&mut socket, pause, &over, || restless && dice.roll(CHANGES) == 0).await;
            // A change of the network may leave the old connection open at the other end.
            if stays && dice.roll(2) == 0 {
                left.spawn(closed(socket));
            }
        }
        for code in left.join_all().await.into_iter().flatten() {
            *self.closes.entry(code).or_default() += 1;
        }
    }

    /// The number of its newest fix.
    pub fn last(&self) -> i64 {
        self.sent.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// The fix that is taken next, now, and not before the one before it.
    pub fn next_fix(&mut self, now: Timestamp) -> Value {
        let seq = self.last() + 1;
        let at = self.sent.last_key_value().map_or(now, |(_, before)| now.max(*before));
        self.sent.insert(seq, at);
        self.written(seq, at)
    }

    fn written(&self, seq: i64, at: Timestamp) -> Value {
        let (lat, lon) = if self.roams { place(seq) } else { HOME };
        fix(seq, lat, lon, at)
    }

    /// Keeps of what is not acked the first fixes only: a phone that floods is pushed back many times what can be sent again.
    fn forget_beyond(&mut self, kept: i64) {
        self.sent.split_off(&(self.acked + kept + 1));
    }

    /// Sends the first of what is not acked again, as much of it as the server holds, up to the number that this returns;
    /// nothing if the connection is gone.
    async fn again(&self, socket: &mut Socket, window: usize) -> Option<i64> {
        let open: Vec<(i64, Timestamp)> =
            self.sent.range(self.acked + 1..).take(window).map(|(seq, at)| (*seq, *at)).collect();
        for frame in open.chunks(AGAIN) {
            let frame: Vec<Value> = frame.iter().map(|(seq, at)| self.written(*seq, *at)).collect();
            socket.send(&fixes(&frame)).await.ok()?;
        }
        Some(open.last().map_or(self.acked, |(seq, _)| *seq))
    }

    /// On one connection, until it ends (`false`), the phone changes the network or has nothing left (`true`).
    async fn on(
        &mut self,
        socket: &mut Socket,
        pause: Duration,
        over: &impl Fn() -> bool,
        mut changes: impl FnMut() -> bool,
    ) -> bool {
        let Ok(welcome) = socket.wait("welcome").await else { return false };
        self.acked = self.acked.max(welcome["last_seq"].as_i64().unwrap());
        let window = welcome["window"].as_u64().map_or(AGAIN, |window| usize::try_from(window).unwrap());
        let Some(mut asked) = self.again(socket, window).await else { return false };
        let (mut next, mut progress, mut patience) = (Instant::now() + pause, Instant::now(), STALLED.0);
        loop {
            if self.batch > 1 && over() {
                self.forget_beyond(KEPT);
            }
            // What was pushed back is sent again when nothing else comes any more, or it is over.
            let stalled = progress.elapsed() > patience;
            if self.acked < self.last() && (stalled || (over() && self.acked >= asked)) {
                progress = Instant::now();
                patience = if stalled { (patience * 2).min(STALLED.1) } else { patience };
                let Some(again) = self.again(socket, window).await else { return false };
                asked = again;
            }
            tokio::select! {
                heard = socket.hear() => match heard {
                    Heard::Frame(frame) if frame["type"] == "acked" => {
                        self.acked = self.acked.max(frame["seq"].as_i64().unwrap());
                        (progress, patience) = (Instant::now(), STALLED.0);
                        if over() && self.acked >= self.last() {
                            return true;
                        }
                    }
                    Heard::Frame(frame) if frame["code"] == "rate_limited" => self.pushed_back += 1,
                    // The node cannot look its device up now; what is not acked is sent again.
                    Heard::Frame(frame) if frame["code"] == "unavailable" => self.unavailable += 1,
                    Heard::Frame(frame) if frame["type"] == "slow_down" => self.slowed += 1,
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
                    if over() {
                        if self.acked >= self.last() {
                            return true;
                        }
                        continue;
                    }
                    let now = Clock::system().now();
                    let frame: Vec<Value> = (0..self.batch).map(|_| self.next_fix(now)).collect();
                    if socket.send(&fixes(&frame)).await.is_err() {
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

/// A fix of this number as a phone that roams writes it.
pub fn written(seq: i64, at: Timestamp) -> Value {
    let (lat, lon) = place(seq);
    fix(seq, lat, lon, at)
}
