//! Somebody takes more than their share, while others raise.

use super::stage::judge;
use super::{On, Scale, Stage};
use crate::background::{self, Background};
use crate::node::Launch;
use crate::quiet::Quiet;
use crate::sos::Circle;
use crate::table::{Figure, Row};
use anyhow::Context;
use cima::client::Api;
use cima::clock::Clock;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Between two SOS.
const PAUSE: Duration = Duration::from_millis(500);
/// Phones that flood, fixes of a frame of theirs, and by how much they exceed what nodes take.
const FLOOD: (usize, usize, f64) = (20, 100, 3.0);
/// Until each SOS is told at the latest, in milliseconds: one in a hundred.
const P99: f64 = 500.0;
/// Logins a second.
const LOGINS: u64 = 200;
/// Calls of a claim loop at a time.
const CLAIMING: usize = 4;

fn time(scale: &Scale) -> Duration {
    scale.lasting(Duration::from_secs(60), Duration::from_secs(6))
}

fn sos(scale: &Scale) -> usize {
    time(scale).div_duration_f64(PAUSE).ceil() as usize
}

/// What is said of every flood.
async fn add(row: &mut Row, scale: &Scale, stage: &Stage, circle: &Circle) {
    let told = circle.read(|books, heard| books.told_after(heard));
    row.add_told(&told, None, Some(scale.limit(P99)));
    let (refused, never) = circle.read(|books, _| books.refused());
    row.add(Figure::count("SOS shed or refused", (refused + never) as f64).at_most(0.0));
    row.add(Figure::count("fixes pushed back", stage.metric("cima_shed_total{what=\"fix\"}").await));
}

/// Phones send three times as many fixes as the nodes take.
pub(super) async fn fixes(scale: &Scale, on: On) -> anyhow::Result<Row> {
    let stage = Stage::set(on).await;
    let circle = stage.circle(sos(scale)).await?;
    let (count, batch, more) = FLOOD;
    let mut phones = background::phones(&stage.api(), count).await?;
    phones.iter_mut().for_each(|phone| phone.roams = false);
    let tried = scale.lasting(Duration::from_secs(10), Duration::from_secs(2));
    let streams = stage.streams();
    let quiet = Quiet::start()?;
    let (phones, capacity) = background::capacity(quiet.handle(), phones, &streams[0], tried).await?;
    let capacity = capacity * streams.len() as f64;
    let at = streams.iter().map(|node| node.base().to_owned()).collect();
    let per_second = (capacity * more) as usize;
    let flood = Background::start_on(quiet.handle(), phones, at, per_second, batch, scale.seed);
    circle.raise_every(PAUSE, Instant::now() + time(scale), 0).await;
    let mut row = Row::new("fixes at three times what the nodes take", on.word());
    row.add(Figure::count("fixes/s that they take", capacity.round()));
    let flooded = flood.end(&stage.api()).await?;
    add(&mut row, scale, &stage, &circle).await;
    row.add(Figure::count("phones told of it", flooded.pushed_back as f64).at_least(1.0));
    row.add(Figure::count("asked to slow down", flooded.slowed as f64).at_least(1.0));
    judge(&mut row, &circle, &flooded);
    drop(circle);
    stage.stop().await;
    Ok(row)
}

/// Strangers try passwords, and passwords cost what they cost in use. Who raises ends it with their PIN.
pub(super) async fn logins(scale: &Scale, on: On) -> anyhow::Result<Row> {
    let stage = Stage::set_with(on, Launch::default().with("CIMA_PASSWORD_MEMORY_KIB", "19456")).await;
    let circle = Circle::gather_with_pins(&stage.ways(), sos(scale)).await?;
    let background = stage.background(scale).await?;
    let (sent, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let strangers = {
        let (api, sent, answered) = (stage.api(), Arc::clone(&sent), Arc::clone(&answered));
        JoinSet::from_iter([strangers(api, sent, answered)])
    };
    circle.raise_every(PAUSE, Instant::now() + time(scale), 0).await;
    drop(strangers);
    let mut row = Row::new("200 logins a second", on.word());
    add(&mut row, scale, &stage, &circle).await;
    let ends = circle.read(|books, _| books.ended_after());
    row.add(Figure::ms("ended by PIN p99", ends.at(0.99)).at_most(scale.limit(P99 * 2.0)));
    row.add(Figure::count("logins sent", sent.load(Ordering::Relaxed) as f64));
    row.add(Figure::count("answered", answered.load(Ordering::Relaxed) as f64));
    let streamed = background.end(&stage.api()).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    stage.stop().await;
    Ok(row)
}

async fn strangers(api: Api, sent: Arc<AtomicUsize>, answered: Arc<AtomicUsize>) {
    let (mut tick, mut calls) =
        (interval(Duration::from_secs(1) / u32::try_from(LOGINS).unwrap()), JoinSet::new());
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        let n = sent.fetch_add(1, Ordering::Relaxed);
        let (api, answered) = (api.clone(), Arc::clone(&answered));
        calls.spawn(async move {
            if api.sign_in(&format!("stranger_{n}"), "phone").await.is_err() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        while calls.try_join_next().is_some() {}
    }
}

/// The phone that raises has just sent more fixes than the server holds of it.
pub(super) async fn own_window(scale: &Scale, on: On) -> anyhow::Result<Row> {
    let stage = Stage::set(on).await;
    let mut circle = stage.circle(sos(scale)).await?;
    circle.flood_before = true;
    let background = stage.background(scale).await?;
    circle.raise_every(PAUSE, Instant::now() + time(scale), 0).await;
    let mut row = Row::new("the raiser's own phone keeps its window full", on.word());
    add(&mut row, scale, &stage, &circle).await;
    let streamed = background.end(&stage.api()).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    stage.stop().await;
    Ok(row)
}

/// A contact claims an emergency and gives it back, as fast as it is answered.
pub(super) async fn claims(scale: &Scale, on: On) -> anyhow::Result<Row> {
    let stage = Stage::set(on).await;
    let circle = stage.circle(sos(scale)).await?;
    let background = stage.background(scale).await?;
    let api = stage.api();
    let (ada, bo) = (api.sign_up("looped", "Ada").await?, api.sign_up("looper", "Bo").await?);
    api.link(&ada, &bo, "looper", &["alerts", "emergency_location"]).await?;
    let id = cima::id::fresh(&Clock::system());
    let raised = api.post("/v1/emergencies", &ada.access, json!({"id": id, "kind": "sos"})).await?;
    raised.ok().context("the emergency of the loop")?;
    let claims = Arc::<AtomicUsize>::default();
    let mut loops = JoinSet::new();
    for _ in 0..CLAIMING {
        let (api, bo, claims) = (api.clone(), bo.clone(), Arc::clone(&claims));
        loops.spawn(async move {
            loop {
                for call in ["claim", "unclaim"] {
                    // Many at once may be refused as a conflict.
                    let _ = api.post(&format!("/v1/emergencies/{id}/{call}"), &bo.access, json!({})).await;
                    claims.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    circle.raise_every(PAUSE, Instant::now() + time(scale), 0).await;
    drop(loops);
    let mut row = Row::new("a contact who claims in a loop", on.word());
    add(&mut row, scale, &stage, &circle).await;
    row.add(Figure::count("claims", claims.load(Ordering::Relaxed) as f64));
    sleep(Duration::from_millis(200)).await;
    let streamed = background.end(&stage.api()).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    stage.stop().await;
    Ok(row)
}
