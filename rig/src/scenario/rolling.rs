//! Every node is replaced, one after the other.

use super::stage::{background, judge};
use super::{On, Scale};
use crate::layout::{Deployment, FOUR, SIX};
use crate::node::Launch;
use crate::sos::Circle;
use crate::table::{Figure, Row};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two SOS.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two nodes.
const APART: Duration = Duration::from_secs(1);

/// The longest time in which no SOS was accepted.
pub(super) async fn restarted(scale: &Scale) -> anyhow::Result<Row> {
    let mut all = Deployment::start(if scale.full { SIX } else { FOUR }, Launch::default()).await;
    let circle = Circle::gather(&all.ways(), 120).await?;
    let (rest, streams) = (all.api(), all.with_role("tracking"));
    let background = background(&rest, &streams, scale).await?;
    let (began, over) = (Instant::now(), AtomicBool::new(false));
    let raised = async {
        while !over.load(Ordering::Relaxed) {
            circle.raise_every(PAUSE, Instant::now() + PAUSE, 0).await;
        }
    };
    let restarted = async {
        sleep(PAUSE).await;
        for n in 0..all.size() {
            all.restart(n).await;
            sleep(APART).await;
        }
        sleep(PAUSE).await;
        over.store(true, Ordering::Relaxed);
    };
    let ((), ()) = tokio::join!(raised, restarted);
    let longest = circle.read(|books, _| books.longest_without(began, Instant::now()));
    let streamed = background.end(&rest).await?;
    let mut row = Row::new("rolling restart of all nodes, an SOS every second", On::Scaled.word());
    row.add(Figure::s("longest time without an accepted raise", longest).at_most(scale.limit(2.0)));
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, None);
    judge(&mut row, &circle, &streamed);
    drop(circle);
    all.stop().await;
    Ok(row)
}
