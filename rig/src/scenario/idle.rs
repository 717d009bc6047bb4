//! Nothing is to be done.

use super::{On, Scale};
use crate::crowd::Crowd;
use crate::database;
use crate::layout::{Deployment, SIX};
use crate::node::Launch;
use crate::table::{Figure, Row};
use sqlx::{PgConnection, query, query_scalar};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A backend that has gone idle reports the last of what it did after ten seconds.
const REPORTED: Duration = Duration::from_secs(11);

/// What sockets cost the database that have nothing to say, and what it logs of it.
pub(super) async fn nothing_to_do(scale: &Scale) -> anyhow::Result<Row> {
    let sockets = scale.count(20_000);
    let all = Deployment::start(SIX, Launch::default()).await;
    let mut db = database::connect(&all.postgres.url()).await;
    let time = scale.lasting(Duration::from_secs(30), Duration::from_secs(5));
    sleep(Duration::from_secs(5)).await;
    let without = per_second(&mut db, time).await?;
    let crowd = Crowd::gather(&all.api(), &all.with_role("tracking"), sockets).await?;
    let warned = warnings(&all);
    let with = per_second(&mut db, time).await?;
    let mut row = Row::new(&format!("idle, {sockets} sockets"), On::Scaled.word());
    row.add(Figure::count("transactions/s without a socket", without));
    row.add(Figure::count("with all", with));
    let each = (with - without).max(0.0) * 1000.0 / sockets as f64;
    row.add(Figure::count("more for each 1,000", each).at_most(scale.limit(1.0)));
    row.add(Figure::count("warnings in PostgreSQL's log", (warnings(&all) - warned) as f64).at_most(0.0));
    row.add(Figure::count("sockets closed", crowd.closes() as f64).at_most(0.0));
    drop(crowd);
    all.stop().await;
    Ok(row)
}

fn warnings(all: &Deployment) -> usize {
    all.postgres.logged().lines().filter(|line| line.contains("WARNING")).count()
}

async fn per_second(db: &mut PgConnection, time: Duration) -> anyhow::Result<f64> {
    let (before, began) = (transactions(db).await?, Instant::now());
    sleep(time).await;
    let after = transactions(db).await?;
    Ok((after - before) as f64 / began.elapsed().as_secs_f64())
}

async fn transactions(db: &mut PgConnection) -> anyhow::Result<i64> {
    sleep(REPORTED).await;
    query("SELECT pg_stat_clear_snapshot()").execute(&mut *db).await?;
    let all = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    Ok(query_scalar(all).fetch_one(db).await?)
}
