//! A backend is away for a moment while very many sockets are open.

use super::stage::{background, judge};
use super::{On, Scale};
use crate::crowd::Crowd;
use crate::layout::{Deployment, SIX};
use crate::node::Launch;
use crate::proxy::Fault;
use crate::sos::Circle;
use crate::table::{Figure, Row};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two SOS.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the SOS are looked at from the fault on.
const LOOKED: Duration = Duration::from_secs(15);
/// Sockets must be as before after so long.
const BACK: f64 = 10.0;
/// What a question to the database takes longer.
const FAR: Fault = Fault {
    delay: Duration::from_millis(1),
    silent: false,
    refused: false,
    cut_after: None,
    half_closed: false,
};

/// Redis is killed and comes back empty a second later.
pub(super) async fn redis_away(scale: &Scale) -> anyhow::Result<Row> {
    let name = format!("Redis away for 1 s, {} idle sockets", scale.count(20_000));
    storm(scale, &name, async |all: &mut Deployment| {
        all.redis.kill();
        sleep(Duration::from_secs(1)).await;
        all.redis.start_empty().await;
    })
    .await
}

/// PostgreSQL is restarted.
pub(super) async fn postgres_restarted(scale: &Scale) -> anyhow::Result<Row> {
    let name = format!("PostgreSQL restarted, {} idle sockets", scale.count(20_000));
    storm(scale, &name, async |all: &mut Deployment| {
        all.postgres.restart();
    })
    .await
}

async fn storm(scale: &Scale, name: &str, fault: impl AsyncFnOnce(&mut Deployment)) -> anyhow::Result<Row> {
    let mut all = Deployment::start(SIX, Launch::default()).await;
    let circle = Circle::gather(&all.ways_apart(), 40).await?;
    let streams = all.with_role("tracking");
    let crowd = Crowd::gather(&all.api(), &streams, scale.count(20_000)).await?;
    all.database_road.set(FAR);
    let background = background(&all.api(), &streams, scale).await?;
    sleep(Duration::from_secs(3)).await;
    let logged = all.lines_logged();
    let began = Instant::now();
    let raised = circle.raise_every(PAUSE, began + LOOKED, 0);
    let struck = async {
        // Some SOS are on their way.
        sleep(Duration::from_secs(2)).await;
        let away = Instant::now();
        fault(&mut all).await;
        let away = away.elapsed();
        (away, crowd.as_before(Duration::from_secs(60)).await)
    };
    let ((), (away, as_before)) = tokio::join!(raised, struck);
    let logged = all.lines_logged() - logged;
    let streamed = background.end(&all.api()).await?;
    let mut row = Row::new(name, On::Scaled.word());
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, Some(scale.limit(1000.0)));
    let as_before = as_before.unwrap_or(Duration::from_secs(3600));
    row.add(
        Figure::s("all sockets served again after", as_before)
            .at_most(BACK * if scale.full { 1.0 } else { 3.0 }),
    );
    row.add(Figure::count("sockets closed", crowd.closes() as f64).at_most(0.0));
    row.add(Figure::count("log lines", logged as f64).at_most(if scale.full { 100.0 } else { 300.0 }));
    row.add(Figure::s("the backend was away for", away));
    judge(&mut row, &circle, &streamed);
    drop((circle, crowd));
    all.stop().await;
    Ok(row)
}
