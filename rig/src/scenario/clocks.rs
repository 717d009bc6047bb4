//! Wall clocks that are an hour wrong, or are set while a countdown runs.

use super::{On, Scale};
use crate::dice::Dice;
use crate::node::{Launch, Server, Site};
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::sos::{Circle, Ways};
use crate::table::{Figure, Row};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const HOUR_S: i64 = 3_600;
/// Of each SOS, in seconds.
const COUNTDOWN_S: u64 = 6;
/// Between two SOS.
const PAUSE: Duration = Duration::from_millis(500);
/// None is later than its countdown by more than this, in milliseconds.
const LATE_MS: f64 = 2_000.0;
/// How long people raise.
const TIME: Duration = Duration::from_secs(12);

fn add(row: &mut Row, scale: &Scale, circle: &Circle) {
    let told = circle.read(|books, heard| books.told_after(heard));
    let countdown = Duration::from_secs(COUNTDOWN_S);
    row.add(Figure::count("SOS with a countdown", told.count() as f64));
    row.add(
        Figure::ms("latest after its countdown", told.max().saturating_sub(countdown))
            .at_most(scale.limit(LATE_MS)),
    );
    row.verdict = circle.read(|books, heard| books.judge(heard));
}

/// The machine of the only node has its clock set forward and back while countdowns run.
pub(super) async fn embedded(scale: &Scale) -> anyhow::Result<Row> {
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().with_own_clock()).serves();
    let ways = Ways { phones: vec![node.api()], contacts: vec![node.api()], rest: node.api() };
    let circle = Circle::gather(&ways, 120).await?;
    let raised = circle.raise_every(PAUSE, Instant::now() + TIME, COUNTDOWN_S);
    let set = async {
        let mut dice = Dice::new(scale.seed);
        for by_s in [HOUR_S, 0, -HOUR_S, 0] {
            sleep(Duration::from_millis(2_500 + dice.roll(1_000))).await;
            node.shift_clock(by_s);
        }
    };
    let ((), ()) = tokio::join!(raised, set);
    let mut row = Row::new("the clock set by +1 h, back, -1 h, back", On::Embedded.word());
    add(&mut row, scale, &circle);
    row.add(Figure::count("steps seen", node.metric("cima_clock_steps_total").await).at_least(4.0));
    drop(circle);
    node.stop().await;
    Ok(row)
}

/// Of the two nodes that fire countdowns one is an hour ahead, and those that streams go to are an hour ahead and behind.
pub(super) async fn of_nodes(scale: &Scale) -> anyhow::Result<Row> {
    let (postgres, redis) = (Postgres::start_lasting().await, Redis::start().await);
    let site = Site::new(postgres.url(), redis.url());
    let off_by = [("api", 0), ("tracking", HOUR_S), ("tracking", -HOUR_S), ("alerts", HOUR_S), ("alerts", 0)];
    let nodes: Vec<Server> = off_by
        .into_iter()
        .enumerate()
        .map(|(n, (role, by_s))| {
            let how = Launch::default().role(role).clock_off_by(by_s);
            site.launch(&format!("node{n}"), &how).serves()
        })
        .collect();
    let ways = Ways { phones: vec![nodes[1].api()], contacts: vec![nodes[2].api()], rest: nodes[0].api() };
    let circle = Circle::gather(&ways, 120).await?;
    circle.raise_every(PAUSE, Instant::now() + TIME, COUNTDOWN_S).await;
    let mut row = Row::new("nodes an hour ahead and behind", On::Scaled.word());
    add(&mut row, scale, &circle);
    let (refused, never) = circle.read(|books, _| books.refused());
    row.add(Figure::count("refused or never taken", (refused + never) as f64).at_most(0.0));
    let mut ready = 0;
    for node in &nodes {
        let answer = reqwest::get(format!("{}/readyz", node.base)).await?;
        ready += usize::from(answer.status().is_success());
    }
    row.add(Figure::count("nodes ready", ready as f64).at_least(nodes.len() as f64));
    drop(circle);
    futures_util::future::join_all(nodes.into_iter().map(Server::stop)).await;
    Ok(row)
}
