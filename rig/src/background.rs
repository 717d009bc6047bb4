//! The fixes that everybody's phones send meanwhile.

use crate::books::Verdict;
use crate::phone::{self, Phone};
use cima::client::{Api, Session, fixes};
use cima::clock::{Clock, Timestamp};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Sign-ups, and tracks that are read, at a time.
const AT_ONCE: usize = 8;
/// Fixes of a page of a track.
const PAGE: usize = 1000;
/// Fixes of a frame while it is tried how many a node takes.
const FULL_FRAME: usize = 100;

/// Phones that stream until they are told to end.
pub struct Background {
    streams: JoinSet<Phone>,
    end: watch::Sender<bool>,
}

/// What came of their fixes.
#[derive(Default, Debug)]
pub struct Streamed {
    /// Every fix that was acked, against every fix that is stored.
    pub fixes: Verdict,
    /// How often phones were told that fixes are not taken now.
    pub pushed_back: usize,
    /// How often they were asked to slow down.
    pub slowed: usize,
    /// How often they were told to try again.
    pub unavailable: usize,
}

/// So many people with phones, who do not stream yet.
///
/// # Errors
/// When somebody cannot be signed up.
pub async fn phones(rest: &Api, count: usize) -> anyhow::Result<Vec<Phone>> {
    let contact = (rest.sign_up("background_contact", "Contact").await?, "background_contact".to_owned());
    let people = (0..count).map(|n| {
        let contact = &contact;
        async move { anyhow::Ok(phone::person(rest, n, contact).await) }
    });
    stream::iter(people).buffered(AT_ONCE).try_collect().await
}

impl Background {
    /// These phones send together so many fixes a second, each `batch` in a frame, in turns to these addresses.
    pub fn start(phones: Vec<Phone>, at: Vec<String>, per_second: usize, batch: usize, seed: u64) -> Self {
        Self::start_on(&Handle::current(), phones, at, per_second, batch, seed)
    }

    /// The same, on the threads of a runtime.
    pub fn start_on(
        threads: &Handle,
        phones: Vec<Phone>,
        at: Vec<String>,
        per_second: usize,
        batch: usize,
        seed: u64,
    ) -> Self {
        let (end, nodes) = (watch::channel(false).0, watch::channel(at).1);
        let pause = Duration::from_secs_f64((phones.len() * batch) as f64 / per_second as f64);
        let mut streams = JoinSet::new();
        for (n, mut phone) in phones.into_iter().enumerate() {
            (phone.restless, phone.roams, phone.batch) = (false, false, batch);
            let (nodes, end) = (nodes.clone(), end.subscribe());
            let stream = async move {
                // Not all in the same moment.
                tokio::time::sleep(pause.mul_f64(n as f64 / 100.0 % 1.0)).await;
                phone.stream(nodes, seed ^ n as u64, pause, || *end.borrow()).await;
                phone
            };
            streams.spawn_on(stream, threads);
        }
        Self { streams, end }
    }

    /// Ends them when all that they sent is acked, and looks for each acked fix in its person's own track.
    ///
    /// # Errors
    /// When a track cannot be read.
    pub async fn end(self, rest: &Api) -> anyhow::Result<Streamed> {
        self.end.send_replace(true);
        let phones = self.streams.join_all().await;
        let mut streamed = Streamed::default();
        let first = |phone: &Phone| phone.sent.first_key_value().map(|(_, at)| *at);
        let whose: Vec<_> = phones.iter().map(|phone| (phone.session.clone(), first(phone))).collect();
        let tracks = whose.into_iter().map(|(who, first)| stored(rest.clone(), who, first));
        let tracks: Vec<_> = stream::iter(tracks).buffered(AT_ONCE).try_collect().await?;
        for (phone, found) in phones.iter().zip(tracks) {
            streamed.fixes = streamed.fixes.and(Verdict::of_counts(phone.sent.keys(), &found));
            streamed.pushed_back += phone.pushed_back;
            streamed.slowed += phone.slowed;
            streamed.unavailable += phone.unavailable;
        }
        Ok(streamed)
    }
}

/// The numbers of somebody's stored fixes since their first one, each with how often it is there.
async fn stored(rest: Api, who: Session, first: Option<Timestamp>) -> anyhow::Result<BTreeMap<i64, i64>> {
    let mut found = BTreeMap::new();
    let Some(first) = first else { return Ok(found) };
    let mut after = String::new();
    loop {
        let path = format!("/v1/people/{}/track?from={first}&limit={PAGE}{after}", who.user);
        let page = rest.get(&path, &who.access).await?.ok()?;
        for feature in page["features"].as_array().into_iter().flatten() {
            if let Some(seq) = feature["properties"]["seq"].as_i64() {
                *found.entry(seq).or_default() += 1;
            }
        }
        let Some(next) = page["next"].as_str() else { return Ok(found) };
        after = format!("&after={next}");
    }
}

/// How many fixes a second are acked when these phones send as fast as they are, on the threads of a runtime: each a full
/// frame, then the next.
///
/// # Errors
/// When a phone cannot stream.
pub async fn capacity(
    threads: &Handle,
    phones: Vec<Phone>,
    at: &Api,
    time: Duration,
) -> anyhow::Result<(Vec<Phone>, f64)> {
    let (began, end, mut runs) = (Instant::now(), Instant::now() + time, JoinSet::new());
    for mut phone in phones {
        let at = at.clone();
        let run = async move {
            let (mut socket, mut count) = (at.stream(&phone.session.access).await?, 0_usize);
            socket.wait("welcome").await?;
            while Instant::now() < end {
                let frame: Vec<Value> =
                    (0..FULL_FRAME).map(|_| phone.next_fix(Clock::system().now())).collect();
                socket.send(&fixes(&frame)).await?;
                let last = phone.last();
                socket
                    .wait_for("the ack", |f| f["type"] == "acked" && f["seq"].as_i64() >= Some(last))
                    .await?;
                phone.acked = last;
                count += FULL_FRAME;
            }
            anyhow::Ok((phone, count))
        };
        runs.spawn_on(run, threads);
    }
    let (mut phones, mut acked) = (Vec::new(), 0);
    for run in runs.join_all().await {
        let (phone, count) = run?;
        phones.push(phone);
        acked += count;
    }
    Ok((phones, acked as f64 / began.elapsed().as_secs_f64()))
}
