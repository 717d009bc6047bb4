//! A step of the schema beside a dump, while people raise.

use super::stage::{background, judge};
use super::{On, Scale};
use crate::database;
use crate::layout::{Deployment, SIX};
use crate::node::{Launch, program};
use crate::proxy::{Fault, Proxy};
use crate::sos::Circle;
use crate::table::{Figure, Row};
use anyhow::ensure;
use sqlx::{query, query_scalar, raw_sql};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// Between two SOS.
const PAUSE: Duration = Duration::from_secs(1);
/// What each question of the dump takes longer, so that its locks are seen before it is over.
const SLOW: Duration = Duration::from_millis(20);
/// Until the step must be done after the dump.
const DONE: Duration = Duration::from_secs(60);

/// Undoes the second step of the schema, so that there is one to do again.
const UNDO: &str = "
    DROP TABLE zone_visits, zone_changes;
    ALTER TABLE alerts DROP CONSTRAINT alerts_kind_check;
    ALTER TABLE alerts ADD CONSTRAINT alerts_kind_check
        CHECK (kind IN ('geofence', 'emergency', 'emergency_update', 'link', 'check_in')) NOT VALID;
    DELETE FROM _sqlx_migrations WHERE version = 2;";

/// The longest time in which no SOS was accepted.
pub(super) async fn beside_a_dump(scale: &Scale) -> anyhow::Result<Row> {
    let held = scale.lasting(Duration::from_secs(20), Duration::from_secs(6));
    let all = Deployment::start(SIX, Launch::default()).await;
    let circle = Circle::gather(&all.ways(), 40).await?;
    let background = background(&all.api(), &all.with_role("tracking"), scale).await?;
    let mut db = database::connect(&all.postgres.url()).await;
    raw_sql(UNDO).execute(&mut db).await?;
    let road = Proxy::to(&all.postgres.address()).await;
    road.set(Fault { delay: SLOW, ..Fault::default() });

    let dump_from = road.instead_of(&all.postgres.url(), &all.postgres.address());
    let mut dump = Command::new("pg_dump").args(["--file", "/dev/null", &dump_from]).spawn()?;
    let locked = "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
                  WHERE application_name = 'pg_dump' AND relation = 'alerts'::regclass)";
    while !query_scalar::<_, bool>(locked).fetch_one(&mut db).await? {
        ensure!(dump.try_wait()?.is_none(), "the dump ended before its locks were seen");
        sleep(Duration::from_millis(5)).await;
    }
    // It has its locks, and stands still.
    road.set(Fault { silent: true, ..Fault::default() });
    let began = Instant::now();
    let raised = circle.raise_every(PAUSE, began + held + Duration::from_secs(4), 0);
    let migrated = async {
        sleep(Duration::from_secs(2)).await;
        let mut migrate = Command::new(program());
        migrate.args(["migrate", "--database-url", &all.postgres.url()]);
        let mut migrate = migrate.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        sleep(held).await;
        let waits = migrate.try_wait()?.is_none();
        road.set(Fault::default());
        let done = timeout(DONE, migrate.wait()).await??.success();
        anyhow::Ok((waits, done, Instant::now()))
    };
    let ((), migrated) = tokio::join!(raised, migrated);
    let (waits, done, ended) = migrated?;
    ensure!(dump.wait().await?.success(), "the dump failed");
    query("SELECT 1 FROM zone_visits").execute(&mut db).await?;
    let streamed = background.end(&all.api()).await?;
    let mut row = Row::new("`cima migrate` beside a dump, an SOS every second", On::Scaled.word());
    let last = ended.min(began + held + Duration::from_secs(4));
    let longest = circle.read(|books, _| books.longest_without(began, last));
    row.add(Figure::s("longest time without an accepted raise", longest).at_most(scale.limit(2.0)));
    row.add_told(&circle.read(|books, heard| books.told_after(heard)), None, None);
    row.add(
        Figure::count(
            "steps that waited for the dump and were then done",
            f64::from(u8::from(waits && done)),
        )
        .at_least(1.0),
    );
    judge(&mut row, &circle, &streamed);
    drop(circle);
    all.stop().await;
    Ok(row)
}
