//! SQLite, and what only it promises.

use crate::forgetting::no_coordinate_stays;
use crate::world::new_account;
use crate::{Backend, Stores, T0, World, by_polls, id};
use async_trait::async_trait;
use cima::alerts::{AlertKind, AlertsStore};
use cima::clock::Clock;
use cima::error::{Fault, StoreError};
use cima::id::UserId;
use cima::identity::{AccountCreated, IdentityStore};
use cima::store::sqlite;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use tempfile::TempDir;

/// A data directory of its own.
pub(crate) struct Sqlite {
    dir: TempDir,
    last: Mutex<Option<sqlite::Stores>>,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), last: Mutex::new(None) }
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self, clock: Clock) -> Stores {
        let opened = sqlite::open(&self.dir.path().join("data"), clock).await.unwrap();
        let stores = Stores {
            identity: opened.main.clone(),
            trust: opened.main.clone(),
            tracking: opened.main.clone(),
            zones: opened.main.clone(),
            time: opened.main.clone(),
            alerts: opened.main.clone(),
            push: opened.main.clone(),
            fixes: opened.fixes.clone(),
        };
        *self.last.lock().unwrap() = Some(opened);
        stores
    }

    async fn close(&self) {
        let last = self.last.lock().unwrap().take().unwrap();
        last.main.close().await;
        last.fixes.close().await;
    }

    async fn settle(&self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_overtakes_a_queue() {
    crate::writing::an_emergency_overtakes_a_queue(&World::over(Sqlite::new()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_coordinate_stays_in_the_files() {
    let backend = Sqlite::new();
    let folder = backend.dir.path().join("data");
    let files = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    no_coordinate_stays(&World::over(backend).await, files).await;
}

async fn opened() -> (TempDir, sqlite::Stores) {
    let dir = tempfile::tempdir().unwrap();
    let stores = sqlite::open(dir.path(), Clock::manual(T0)).await.unwrap();
    (dir, stores)
}

/// Another program at the same file.
async fn stranger(dir: &TempDir) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("cima.db"));
    options.connect().await.unwrap()
}

#[tokio::test]
async fn what_is_answered_is_on_the_disk() {
    let (_dir, stores) = opened().await;
    for report in [stores.main.settings().await.unwrap(), stores.fixes.settings().await.unwrap()] {
        let says = |name: &str| report.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!((says("synchronous").as_str(), says("journal_mode").as_str()), ("2", "wal"));
        assert_eq!((says("secure_delete").as_str(), says("foreign_keys").as_str()), ("1", "1"));
    }
}

#[tokio::test]
async fn its_files_are_its_owners_alone() {
    let (dir, stores) = opened().await;
    stores.main.create_account(new_account(UserId(id()), "anna")).await.unwrap();
    let files: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() >= 4, "two databases and their logs");
    for file in files {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn it_is_healthy_until_it_is_closed() {
    let (dir, stores) = opened().await;
    stores.main.healthy().await.unwrap();
    stores.fixes.healthy().await.unwrap();
    let mut stranger = stranger(&dir).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.unwrap();
    assert!(stores.main.healthy().await.is_err(), "somebody else holds the lock");
    let refused = stores.main.create_account(new_account(UserId(id()), "anna")).await;
    assert!(refused.as_ref().is_err_and(StoreError::is_passing), "{refused:?}");
    sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    stores.main.healthy().await.unwrap();
    let created = stores.main.create_account(new_account(UserId(id()), "anna")).await.unwrap();
    assert_eq!(created, AccountCreated::Created);
    stranger.close().await.unwrap();
    stores.main.close().await;
    assert!(stores.main.healthy().await.is_err());
    stores.fixes.healthy().await.unwrap();
    stores.fixes.close().await;
    assert!(!dir.path().join("cima.db-wal").exists(), "the log is in the file");
}

#[tokio::test]
async fn a_dropped_write_gives_its_lock_back() {
    let (dir, stores) = opened().await;
    let mut stranger = stranger(&dir).await;
    let mut dropped = 0;
    for polls in 1..40 {
        let new = new_account(UserId(id()), &format!("person{polls}"));
        let ended = by_polls(polls, stores.main.create_account(new)).await;
        dropped += usize::from(!ended);
        // Without another write by the store, which would have to end the dropped one first.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.unwrap();
        sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    }
    assert!(dropped > 0);
}

#[tokio::test]
async fn a_forgetting_cut_short_is_finished_at_the_next_opening() {
    let (dir, stores) = opened().await;
    stores.main.close().await;
    stores.fixes.close().await;
    let mut stranger = stranger(&dir).await;
    sqlx::query("INSERT INTO unfinished (task) VALUES ('rewrite')").execute(&mut stranger).await.unwrap();
    let stores = sqlite::open(dir.path(), Clock::manual(T0)).await.unwrap();
    let left = sqlx::query("SELECT task FROM unfinished").fetch_all(&mut stranger).await.unwrap();
    assert!(left.is_empty());
    stores.main.healthy().await.unwrap();
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cima.db"), b"a diary, not a database, and long enough to be read as one")
        .unwrap();
    let refused = sqlite::open(dir.path(), Clock::manual(T0)).await;
    assert!(refused.is_err_and(|error| error.kind() == Fault::Corrupt));
    let diary = std::fs::read(dir.path().join("cima.db")).unwrap();
    assert!(diary.starts_with(b"a diary"), "and left as it is");
}

#[tokio::test]
async fn nothing_is_scanned_that_has_an_index() {
    let (dir, _stores) = opened().await;
    let mut reader = stranger(&dir).await;
    let lookups = [
        "SELECT * FROM links WHERE subject_id = x'' AND accepted_at IS NOT NULL",
        "SELECT * FROM emergencies WHERE ended_at IS NULL AND subject_id = x''",
        "SELECT min(due_at) FROM emergencies WHERE due_at IS NOT NULL",
        "SELECT * FROM emergencies WHERE due_at <= 5",
        "SELECT min(wakes_at) FROM check_ins WHERE wakes_at IS NOT NULL",
        "SELECT rowid FROM alerts WHERE stored_at < 5",
        "SELECT id FROM disclosures WHERE last_at < 5",
        "SELECT id FROM emergencies WHERE erased < 2 AND ended_at < 5",
        "SELECT rowid FROM emergencies WHERE erased = 0 AND coalesce(apparent_at, ended_at) < 5",
        "SELECT rowid FROM transitions t WHERE t.at < 9 AND (t.at, t.rowid) > (1, 2) ORDER BY t.at, t.rowid",
        "SELECT min(set_at) FROM check_ins WHERE subject_id = x'' AND (state <> 'waiting') = 0",
        "SELECT * FROM check_ins WHERE wakes_at <= 5 ORDER BY wakes_at, id",
        "SELECT count(*) FROM check_ins WHERE subject_id = x'' AND (state <> 'waiting') = 0",
        "SELECT 1 FROM transitions WHERE alerted = 1 AND geofence_id = x'' AND kind = 'enter' AND at > 1 AND at <= 2",
        "SELECT * FROM disclosures d WHERE d.subject_id = x'' AND d.covert = 0 AND d.id < 9 ORDER BY d.id DESC",
        "SELECT * FROM alerts a JOIN deliveries d ON d.alert_id = a.id WHERE a.emergency_id = x''",
        "SELECT id FROM devices WHERE user_id = x'' AND tracked = 1",
        "SELECT * FROM transitions WHERE device_id = x'' AND at >= 5 ORDER BY at, seq",
        "SELECT * FROM revocations WHERE revoked_at >= 5 ORDER BY revoked_at",
    ];
    for lookup in lookups {
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(format!(
            "EXPLAIN QUERY PLAN {lookup}"
        )));
        for (.., step) in plan.fetch_all(&mut reader).await.unwrap() {
            assert!(!step.starts_with("SCAN") || step.contains("USING"), "{lookup}: {step}");
        }
    }
}

/// What an earlier version stored is there after its alerts were moved into a new table.
#[tokio::test]
async fn alerts_and_deliveries_outlive_the_migration_of_their_tables() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let all = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite/cima");
    for name in ["0001_identity.sql", "0002_trust.sql", "0003_tracking.sql", "0004_alerts.sql"] {
        std::fs::copy(all.join(name), old.path().join(name)).unwrap();
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(dir.path().join("cima.db"))
        .create_if_missing(true)
        .foreign_keys(true);
    let mut conn = options.connect().await.unwrap();
    let migrator = sqlx::migrate::Migrator::new(old.path()).await.unwrap();
    migrator.run_direct(None, &mut conn, false).await.unwrap();
    let story = "
        INSERT INTO accounts (id, handle, password_hash, display_name, locale, time_zone, created_at)
            VALUES (zeroblob(16), 'anna', '$', 'Anna', 'en', 'UTC', 0);
        INSERT INTO emergencies (id, subject_id, kind, state, opened_at, trail_from, active_at, version, due_at, warned)
            VALUES (zeroblob(16), zeroblob(16), 'sos', 'active', 1000000, 1000000, 1000000, 1, 5, 0);
        INSERT INTO alerts (id, kind, severity, subject_id, at, template, params, late, lane, covert, stored_at)
            VALUES (zeroblob(16), 'link', 'info', zeroblob(16), 1, 'link.asked', '{}', 0, 'routine', 0, 1);
        INSERT INTO inbox_heads VALUES (zeroblob(16), 1);
        INSERT INTO inbox VALUES (zeroblob(16), 1, zeroblob(16));
        INSERT INTO deliveries VALUES (zeroblob(16), zeroblob(16), 1, 2, NULL, NULL);";
    sqlx::raw_sql(story).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();

    let stores = sqlite::open(dir.path(), Clock::manual(T0)).await.unwrap();
    let anna = UserId(uuid::Uuid::nil());
    let inbox = stores.main.inbox_after(anna, 0, 9).await.unwrap();
    assert_eq!(inbox[0].alert.as_ref().map(|a| a.kind), Some(AlertKind::Link));
    let open = stores.main.open_of(anna).await.unwrap();
    assert_eq!(open[0].trail_from.unix_ms(), 400_000, "the look-back is in it now");
    let mut reader = stranger(&dir).await;
    let sent = sqlx::query_scalar::<_, i64>("SELECT sent_at FROM deliveries");
    assert_eq!(sent.fetch_all(&mut reader).await.unwrap(), vec![2]);
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut reader).await.unwrap();
    assert!(broken.is_empty());
    stores.main.forget(anna, T0).await.unwrap();
    let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM alerts a, deliveries d");
    assert_eq!(left.fetch_one(&mut reader).await.unwrap(), 0, "and they still go with their account");
}

#[tokio::test]
async fn an_unreadable_row_is_told_without_what_is_in_it() {
    let (dir, stores) = opened().await;
    let anna = UserId(id());
    stores.main.create_account(new_account(anna, "anna")).await.unwrap();
    let mut stranger = stranger(&dir).await;
    let story = "INSERT INTO emergencies
            (id, subject_id, kind, state, opened_at, trail_from, active_at, due_at, opening_fix, version, warned)
        VALUES (zeroblob(16), ?, 'sos', 'active', 1, 1, 1, 2, ?, 1, 0)";
    let fix = r#"{"seq":"48.2081743","lat":48.2081743,"lon":"16.3738189"}"#;
    sqlx::query(story).bind(anna.0).bind(fix).execute(&mut stranger).await.unwrap();
    stranger.close().await.unwrap();
    let error = stores.main.open_of(anna).await.unwrap_err();
    assert_eq!(error.kind(), Fault::Corrupt);
    let mut told = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        told += &format!(" {cause}");
        source = cause.source();
    }
    assert!(told.contains("opening_fix"), "the column is named: {told}");
    assert!(!told.contains("48.2") && !told.contains("16.37"), "{told}");
}
