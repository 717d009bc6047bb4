//! Readiness follows what happens to what nodes need.

use super::{On, Scale, Stage};
use crate::database;
use crate::layout::{Deployment, FOUR};
use crate::node::Launch;
use crate::table::{Figure, Row};
use sqlx::{AssertSqlSafe, Connection, PgConnection, query};
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Readiness must follow in so many seconds.
const FOLLOWS: f64 = 5.0;
/// It is looked at for so long.
const LOOKED: Duration = Duration::from_secs(60);

/// How long it takes until all these nodes are ready (or none is).
async fn becomes(bases: &[String], ready: bool) -> Duration {
    let (began, client) = (Instant::now(), reqwest::Client::new());
    while began.elapsed() < LOOKED {
        let mut as_wanted = true;
        for base in bases {
            let answer = client.get(format!("{base}/readyz")).send().await;
            as_wanted &= answer.is_ok_and(|answer| answer.status().is_success() == ready);
        }
        if as_wanted {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

fn add(row: &mut Row, what: &str, away: Duration, back: Duration) {
    row.add(Figure::s(&format!("{what}: not ready after"), away).at_most(FOLLOWS));
    row.add(Figure::s("ready after", back).at_most(FOLLOWS));
}

/// A database that takes no writes, lets nobody in, has no connection left, or was killed.
pub(super) async fn of_the_database(_scale: &Scale) -> anyhow::Result<Row> {
    let all = Deployment::start(FOUR, Launch::default()).await;
    let bases: Vec<String> = all.nodes().map(|node| node.base.clone()).collect();
    let mut row = Row::new("a database that cannot take an SOS", On::Scaled.word());
    let mut db = database::connect(&all.postgres.url()).await;
    becomes(&bases, true).await;

    set(&mut db, "default_transaction_read_only = on").await?;
    let away = becomes(&bases, false).await;
    set(&mut db, "default_transaction_read_only = off").await?;
    add(&mut row, "read-only", away, becomes(&bases, true).await);

    query("ALTER ROLE cima NOLOGIN").execute(&mut db).await?;
    end_all(&mut db).await?;
    let away = becomes(&bases, false).await;
    query("ALTER ROLE cima LOGIN").execute(&mut db).await?;
    add(&mut row, "let nobody in", away, becomes(&bases, true).await);

    let (mut taken, url) = (Vec::new(), all.postgres.url());
    let (away, ()) = tokio::join!(becomes(&bases, false), take_all(&mut db, &url, &mut taken));
    for connection in taken {
        connection.close().await?;
    }
    add(&mut row, "no connection left", away, becomes(&bases, true).await);
    drop(db);

    all.postgres.stop();
    let away = becomes(&bases, false).await;
    all.postgres.start_again();
    add(&mut row, "killed", away, becomes(&bases, true).await);
    all.stop().await;
    Ok(row)
}

async fn set(db: &mut PgConnection, setting: &str) -> anyhow::Result<()> {
    query("SET default_transaction_read_only = off").execute(&mut *db).await?;
    query(AssertSqlSafe(format!("ALTER SYSTEM SET {setting}"))).execute(&mut *db).await?;
    query("SELECT pg_reload_conf()").execute(db).await?;
    Ok(())
}

/// Ends every other connection.
async fn end_all(db: &mut PgConnection) -> anyhow::Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    query(end).execute(db).await?;
    Ok(())
}

/// Takes every connection there is, also those that nodes had.
async fn take_all(db: &mut PgConnection, url: &str, taken: &mut Vec<PgConnection>) {
    for round in 0..3 {
        while let Ok(connection) = PgConnection::connect(url).await {
            taken.push(connection);
        }
        if round < 2 {
            // Nodes lose theirs; what becomes free is taken in the next round.
            let _ = query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND application_name = 'cima'",
            )
            .execute(&mut *db)
            .await;
        }
    }
}

/// The node's own disk is full.
pub(super) async fn of_a_full_disk(_scale: &Scale) -> anyhow::Result<Row> {
    let how = Launch::default().on_a_small_disk(16);
    let Stage::Embedded { site, node } = Stage::set_with(On::Embedded, how).await else {
        anyhow::bail!("one node was asked for");
    };
    let mut row = Row::new("its disk is full", On::Embedded.word());
    let bases = [node.base.clone()];
    becomes(&bases, true).await;
    let filler = node.file_on_its_disk("filler");
    let mut file = std::fs::File::create(&filler)?;
    for size in [1 << 16, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    let away = becomes(&bases, false).await;
    std::fs::remove_file(&filler)?;
    drop(file);
    add(&mut row, "full", away, becomes(&bases, true).await);
    node.stop().await;
    drop(site);
    Ok(row)
}
