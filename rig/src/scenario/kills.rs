//! Nodes are killed, and everything is shaken.

use super::stage::{background, judge};
use super::{On, Scale};
use crate::dice::Dice;
use crate::layout::{Deployment, SIX, TWO};
use crate::node::{Launch, Site};
use crate::proxy::Fault;
use crate::sos::{Circle, Ways};
use crate::table::{Figure, Row};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two SOS.
const PAUSE: Duration = Duration::from_millis(500);
/// A killed node is started again after so long.
const AWAY: Duration = Duration::from_secs(2);

/// A tracking node is killed with everything it has in hand, and started again.
pub(super) async fn tracking(scale: &Scale) -> anyhow::Result<Row> {
    let mut all = Deployment::start(SIX, Launch::default()).await;
    let circle = Circle::gather(&all.ways(), 60).await?;
    let (rest, streams) = (all.api(), all.with_role("tracking"));
    let background = background(&rest, &streams, scale).await?;
    sleep(Duration::from_secs(2)).await;
    let time = scale.lasting(Duration::from_secs(25), Duration::from_secs(10));
    let began = Instant::now();
    let raised = circle.raise_every(PAUSE, began + time, 0);
    let killed = async {
        let mut dice = Dice::new(scale.seed);
        sleep(Duration::from_millis(1500 + dice.roll(1000))).await;
        // The nodes 2 and 3 stream.
        let victim = 2 + dice.below(2);
        all.kill(victim).await;
        sleep(AWAY).await;
        all.launch(victim);
    };
    let ((), ()) = tokio::join!(raised, killed);
    let mut row = Row::new("a tracking node killed, two SOS a second", On::Scaled.word());
    let (refused, never) = circle.read(|books, _| books.refused());
    row.add(Figure::count("refused or never taken", (refused + never) as f64).at_most(0.0));
    let longest = circle.read(|books, _| books.longest_without(began, Instant::now()));
    row.add(Figure::s("longest time without an accepted raise", longest));
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, None);
    let streamed = background.end(&rest).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    all.stop().await;
    Ok(row)
}

/// The only node is killed and started again on its files.
pub(super) async fn embedded(scale: &Scale) -> anyhow::Result<Row> {
    let site = Site::embedded();
    let node = site.node("node");
    let (api, how) = (node.api(), Launch::default().on(node.address()));
    let ways = Ways { phones: vec![api.clone()], contacts: vec![api.clone()], rest: api.clone() };
    let circle = Circle::gather(&ways, 40).await?;
    let background = background(&api, std::slice::from_ref(&api), scale).await?;
    let began = Instant::now();
    let raised = circle.raise_every(PAUSE, began + Duration::from_secs(10), 0);
    let killed = async {
        sleep(Duration::from_millis(1500 + Dice::new(scale.seed).roll(1000))).await;
        node.kill().await;
        site.launch("node", &how).serves()
    };
    let ((), node) = tokio::join!(raised, killed);
    let mut row = Row::new("the node killed and started again, two SOS a second", On::Embedded.word());
    let longest = circle.read(|books, _| books.longest_without(began, Instant::now()));
    row.add(Figure::s("longest time without an accepted raise", longest));
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, None);
    let streamed = background.end(&api).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    node.stop().await;
    Ok(row)
}

/// One fault after the other, as the dice say; what was acked is there in the end.
pub(super) async fn shaken(scale: &Scale) -> anyhow::Result<Row> {
    let mut all = Deployment::start(TWO, Launch::default()).await;
    let faults = if scale.full { 30 } else { 3 };
    let time = (FAULTY + CALM) * faults;
    let circle = Circle::gather(&all.ways(), 40 + time.as_secs() as usize * 2).await?;
    let (rest, streams) = (all.api(), all.with_role("tracking"));
    let background = background(&rest, &streams, scale).await?;
    let began = Instant::now();
    let raised = circle.raise_every(PAUSE, began + time, 0);
    let struck = async {
        let mut dice = Dice::new(scale.seed);
        for _ in 0..faults {
            strike(&mut all, &mut dice).await;
            sleep(CALM).await;
        }
    };
    let ((), ()) = tokio::join!(raised, struck);
    let name = format!("{faults} faults in a row: killed, frozen, silent, reset, cut and half-closed");
    let mut row = Row::new(&name, On::Scaled.word());
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, None);
    let (refused, never) = circle.read(|books, _| books.refused());
    row.add(Figure::count("refusals", refused as f64));
    row.add(Figure::count("never taken", never as f64).at_most(0.0));
    let streamed = background.end(&rest).await?;
    judge(&mut row, &circle, &streamed);
    drop(circle);
    all.stop().await;
    Ok(row)
}

/// How long a fault lasts, and how long all is well after it.
const FAULTY: Duration = Duration::from_secs(2);
const CALM: Duration = Duration::from_secs(2);

async fn strike(all: &mut Deployment, dice: &mut Dice) {
    let (kind, victim) = (dice.roll(8), dice.below(all.size()));
    let (silent, late) = (
        Fault { silent: true, ..Fault::default() },
        Fault { delay: Duration::from_millis(100), ..Fault::default() },
    );
    match kind {
        0 => {
            all.kill(victim).await;
            sleep(FAULTY).await;
            all.launch(victim);
        }
        1 => {
            all.node(victim).signal("STOP");
            sleep(FAULTY).await;
            all.node(victim).signal("CONT");
        }
        2 => {
            all.redis.kill();
            sleep(FAULTY).await;
            all.redis.start_empty().await;
        }
        3 => on_the_road(&all.redis_road, silent).await,
        4 => on_the_road(&all.database_road, silent).await,
        5 => on_the_road(&all.database_road, late).await,
        6 => {
            let cut = Fault { cut_after: Some(1000 + dice.roll(20_000)), ..Fault::default() };
            on_the_road(&all.database_road, cut).await;
        }
        _ => {
            on_the_road(&all.database_road, Fault { half_closed: true, ..Fault::default() }).await;
            all.database_road.reset();
        }
    }
}

async fn on_the_road(road: &crate::proxy::Proxy, fault: Fault) {
    road.set(fault);
    sleep(FAULTY).await;
    road.set(Fault::default());
}
