//! One install of an app: what it sends, and what it was told of that.

use crate::harness::Dice;
use anyhow::{Context, bail};
use cima::client::{Api, DEADLINE, Heard, Session, Socket, fixes};
use cima::clock::{Clock, Timestamp};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

/// How fixes go out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Stream,
    Http,
    Mixed,
    /// Over HTTP, and without numbers.
    Unnumbered,
    /// On the stream the newest first, and what is older after it.
    NewestFirst,
}

/// What a clock shows, seconds beside the time; from its fifth fix on.
#[derive(Clone, Copy, Debug)]
struct Watch {
    at_first: i64,
    later: i64,
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// What a phone knows of a fix it sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Nothing,
    Stored,
    Rejected,
}

/// A fix that was sent at least once.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) fix: Value,
    pub(super) told: Told,
    /// It was sent for the first time after its person's raise, by the phone that raised.
    pub(super) after_raise: bool,
}

impl Sent {
    fn seq(&self) -> Option<i64> {
        self.fix["seq"].as_i64()
    }
}

/// One install.
pub(super) struct Phone {
    pub(super) session: Session,
    way: Way,
    watch: Watch,
    next: i64,
    step: u64,
    lon: f64,
    pub(super) sent: Vec<Sent>,
    pub(super) raised: bool,
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, watch, raised, .. } = self;
        write!(f, "a phone ({way:?}, {watch:?}, raised {raised})")?;
        self.sent
            .iter()
            .try_for_each(|sent| write!(f, "\n  {:?} {} {}", sent.told, sent.after_raise, sent.fix))
    }
}

impl Phone {
    pub(super) fn new(session: Session, number: usize, dice: &mut Dice) -> Self {
        let ways = [Way::Stream, Way::Stream, Way::Http, Way::Mixed, Way::Unnumbered, Way::NewestFirst];
        let way = ways[dice.roll(6) as usize];
        let always = |s| Watch { at_first: s, later: s };
        // Without a number a fix that is refused cannot be told from the others.
        let watch = match dice.roll(if way == Way::Unnumbered { 6 } else { 12 }) {
            0..=2 => always(0),
            3 => always(100),
            4 => always(-180),
            5 => always(-HOUR),
            6 => always(HOUR),
            7 => always(-4 * DAY),
            8 => always(-1_024 * 7 * DAY),
            9 => Watch { at_first: -HOUR, later: 0 },
            10 => Watch { at_first: 0, later: -HOUR },
            _ => Watch { at_first: HOUR, later: 0 },
        };
        let next = [1, 1, 1 + dice.roll(1_000) as i64, 1_700_000_000_000_000][dice.roll(4) as usize];
        let step = if dice.roll(3) == 0 { 5 } else { 1 };
        let lon = 16.0 + number as f64 * 1e-2;
        Self { session, way, watch, next, step, lon, sent: Vec::new(), raised: false }
    }

    /// Whether its clock is set in between.
    pub(super) fn is_set(&self) -> bool {
        self.watch.at_first != self.watch.later
    }

    /// A fix at a place where this phone has not been yet.
    pub(super) fn take(&mut self, dice: &mut Dice) -> Value {
        let count = self.sent.len();
        let off = if count < 4 { self.watch.at_first } else { self.watch.later };
        // A phone is not asked for its position twice in a millisecond.
        let now = Clock::system().now().unix_ms() + count as i64;
        let at = Timestamp::from_unix_ms(now + off * 1_000);
        let lat = 48.0 + count as f64 * 1e-4;
        let mut fix = json!({"lat": lat, "lon": self.lon, "fixed_at": at});
        if self.way != Way::Unnumbered {
            fix["seq"] = json!(self.next);
            self.next += 1 + dice.roll(self.step) as i64;
        }
        self.sent.push(Sent { fix: fix.clone(), told: Told::Nothing, after_raise: self.raised });
        fix
    }

    /// Sends what it was told nothing of, in small parts, with or without losing the answer on the way.
    pub(super) async fn send(&mut self, api: &Api, dice: &mut Dice, cuts: bool) -> anyhow::Result<()> {
        let is_lost = cuts && dice.roll(3) == 0;
        let streams = match self.way {
            Way::Stream | Way::NewestFirst => true,
            Way::Http | Way::Unnumbered => false,
            Way::Mixed => dice.roll(2) == 0,
        };
        let mut open: Vec<usize> =
            (0..self.sent.len()).filter(|n| self.sent[*n].told == Told::Nothing).collect();
        if open.is_empty() {
            return Ok(());
        }
        if self.way == Way::NewestFirst {
            open.reverse();
        }
        let parts: Vec<&[usize]> = open.chunks(1 + dice.roll(5) as usize).collect();
        if streams {
            return self.stream(api, &parts, is_lost).await;
        }
        for part in parts {
            let given: Vec<Value> = part.iter().map(|n| self.sent[*n].fix.clone()).collect();
            let post = api.post("/v1/locations", &self.session.access, json!({"fixes": given}));
            if is_lost {
                // It may have come or not; the answer does not.
                let _ = timeout(Duration::from_millis(dice.roll(4)), post).await;
                return Ok(());
            }
            let answer = post.await?.ok()?;
            let refused = answer["rejected"].as_array().context("no rejected")?;
            for n in part {
                let is_refused = refused.iter().any(|r| r["seq"] == self.sent[*n].fix["seq"]);
                self.sent[*n].told = if is_refused { Told::Rejected } else { Told::Stored };
            }
        }
        Ok(())
    }

    async fn stream(&mut self, api: &Api, parts: &[&[usize]], is_lost: bool) -> anyhow::Result<()> {
        let opened = timeout(DEADLINE, api.stream(&self.session.access)).await;
        let mut socket = opened.context("no welcome in time")??;
        let mut on_this = Vec::new();
        for part in parts {
            let given: Vec<Value> = part.iter().map(|n| self.sent[*n].fix.clone()).collect();
            timeout(DEADLINE, socket.send(&fixes(&given))).await.context("it does not read")??;
            on_this.extend_from_slice(part);
        }
        if is_lost {
            return Ok(());
        }
        timeout(DEADLINE, self.hear_of(&mut socket, &on_this)).await.context("no acks in time")?
    }

    /// Reads until it was told of each of these.
    async fn hear_of(&mut self, socket: &mut Socket, these: &[usize]) -> anyhow::Result<()> {
        while these.iter().any(|n| self.sent[*n].told == Told::Nothing) {
            let frame = match socket.hear().await {
                Heard::Frame(frame) => frame,
                ended => bail!("the stream ended: {ended:?}"),
            };
            let told = match frame["type"].as_str() {
                Some("rejected") => Told::Rejected,
                Some("acked") => Told::Stored,
                _ => continue,
            };
            let ranges: Vec<(i64, i64)> =
                serde_json::from_value(frame.get("ranges").cloned().unwrap_or_else(|| json!([])))?;
            for n in these {
                let sent = &mut self.sent[*n];
                let Some(seq) = sent.seq() else { continue };
                let is_meant = match told {
                    Told::Rejected => frame["seq"] == seq,
                    _ if ranges.iter().any(|(from, to)| (*from..=*to).contains(&seq)) => true,
                    // Who sends older ones after newer ones goes by the ranges alone.
                    _ => self.way != Way::NewestFirst && frame["seq"].as_i64() >= Some(seq),
                };
                if is_meant && sent.told == Told::Nothing {
                    sent.told = told;
                }
            }
        }
        Ok(())
    }
}
