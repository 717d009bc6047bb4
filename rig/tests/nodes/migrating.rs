//! A migration beside a dump keeps no emergency out.

use cima_rig::database;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, query, query_scalar};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// How long the dump goes on.
const DUMP: Duration = Duration::from_secs(5);
/// The longest that an emergency may be kept out.
const KEPT_OUT: Duration = Duration::from_secs(2);

/// A database at the first step of the schema.
async fn of_the_first_step() -> String {
    let name = format!("cima_old_{}", cima::id::fresh(&cima::clock::Clock::system()).simple());
    let mut admin = database::admin().await;
    query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    let url = database::address(&name);
    let (steps, first) = (TempDir::new().unwrap(), "0001_cima.sql");
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    std::fs::copy(all.join(first), steps.path().join(first)).unwrap();
    let mut db = database::connect(&url).await;
    Migrator::new(steps.path()).await.unwrap().run_direct(None, &mut db, false).await.unwrap();
    url
}

async fn version(db: &mut PgConnection) -> i32 {
    query_scalar("SELECT version FROM schema_info").fetch_one(db).await.unwrap()
}

/// The longest that one who writes alerts, as a raise does, was kept out while a step waited for a dump; and whether the
/// step was done after it.
async fn kept_out(without: &str) -> (Duration, bool) {
    let url = of_the_first_step().await;
    let (mut dump, mut writer) = (database::connect(&url).await, database::connect(&url).await);
    assert_eq!(version(&mut writer).await, 1);
    let mut reading = dump.begin().await.unwrap();
    query("LOCK TABLE alerts IN ACCESS SHARE MODE").execute(&mut *reading).await.unwrap();
    let mut migrate = Command::new(cima_rig::node::program())
        .args(["migrate", "--database-url", &url])
        .env("CIMA_WITHOUT", without)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < DUMP {
        let one = Instant::now();
        let mut raise = writer.begin().await.unwrap();
        let write = query("LOCK TABLE alerts IN ROW EXCLUSIVE MODE").execute(&mut *raise);
        // Whoever is kept out for as long as the dump goes on has seen enough.
        if timeout(DUMP.saturating_sub(began.elapsed()), write).await.is_err() {
            longest = longest.max(one.elapsed());
            break;
        }
        raise.rollback().await.unwrap();
        longest = longest.max(one.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    reading.rollback().await.unwrap();
    let ended = timeout(Duration::from_secs(60), spawn_blocking(move || migrate.wait().unwrap())).await;
    let mut db = database::connect(&url).await;
    let done = ended.unwrap().unwrap().success() && version(&mut db).await > 1;
    println!("kept out for {longest:?}, done: {done}");
    (longest, done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_beside_a_dump_keeps_nobody_out_and_is_done_after_it() {
    let (longest, done) = kept_out("").await;
    assert!(longest < KEPT_OUT && done, "kept out for {longest:?}, done: {done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_short_locks_everybody_waits_for_the_dump() {
    let (longest, _) = kept_out("short-locks").await;
    assert!(longest > KEPT_OUT, "kept out for {longest:?} only");
}
