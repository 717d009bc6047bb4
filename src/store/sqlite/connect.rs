//! Opening one file: who may read it, how it is written, which pools it has.

use super::writer::Writer;
use crate::error::{Fault, StoreError, Stored};
use crate::store::failure::{READ, by, failure, read};
use crate::store::pool::Pool;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqlitePool};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Connections for everybody's reads.
const READERS: u32 = 4;
/// Connections that only the reads of an emergency use.
const EMERGENCY_READERS: u32 = 2;
const TOLD_READERS: u32 = 2;
/// How long SQLite waits for a lock that another process holds; the writer tries again until its deadline.
const BUSY: Duration = Duration::from_millis(200);
/// A health probe that takes longer has failed.
const PROBE: Duration = Duration::from_secs(1);
/// Statements a connection keeps prepared; cima has fewer.
const STATEMENTS: usize = 256;
/// KiB of pages that each reader keeps. The system's cache stands behind it, once for all of them.
const READER_CACHE: &str = "-256";
/// Bytes the log file keeps after it was moved into the database.
const LOG_KEPT: &str = "67108864";

/// How a file's writer spends memory and disk.
pub(in crate::store) struct Sizes {
    /// Pages in memory, KiB: those that every transaction touches should fit.
    cache_kib: u32,
    /// Pages in the log before a commit moves them into the file: more of them write a hot page less often, fewer keep
    /// that commit short.
    log_pages: u32,
}

/// Small transactions, and none may be long.
pub(in crate::store) const ALARMS: Sizes = Sizes { cache_kib: 16_384, log_pages: 1_000 };
/// Each phone's fixes have a page of their own that the next group touches again.
pub(in crate::store) const FLOOD: Sizes = Sizes { cache_kib: 65_536, log_pages: 8_192 };

/// One file with its writer and its readers.
pub(in crate::store) struct Database {
    pub(in crate::store) writer: Writer,
    pub(in crate::store) readers: SqlitePool,
    pub(in crate::store) emergency_readers: SqlitePool,
    pub(in crate::store) told_readers: SqlitePool,
}

/// Makes the data directory, readable by its owner alone.
pub(in crate::store) fn prepare_dir(dir: &Path) -> Stored<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| StoreError::caused(Fault::Gone, format!("{}: {e}", dir.display()), e))
}

/// Makes the file, or takes an earlier one, readable by its owner alone. SQLite gives its log the same mode.
fn prepare_file(path: &Path) -> Stored<()> {
    let unavailable =
        |e: std::io::Error| StoreError::caused(Fault::Gone, format!("{}: {e}", path.display()), e);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(unavailable)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(unavailable)
}

/// What readers and writer have in common. Statements are not logged: the driver would, one by one.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .statement_cache_capacity(STATEMENTS)
        .busy_timeout(BUSY)
        .row_buffer_size(512)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        // What a read sorts and what a write may undo stays in memory: no coordinate goes to a temporary file.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn writer_options(path: &Path, sizes: &Sizes) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // Where fsync does not reach the disk (macOS), this does.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", LOG_KEPT)
        .pragma("cache_size", format!("-{}", sizes.cache_kib))
        .pragma("wal_autocheckpoint", sizes.log_pages.to_string())
}

/// A pool whose connections are all open, so that none has to be made when it is needed.
async fn pool(path: &Path, size: u32) -> Stored<SqlitePool> {
    let options = options(path).read_only(true).pragma("cache_size", READER_CACHE);
    let pool = SqlitePoolOptions::new()
        .max_connections(size)
        .min_connections(size)
        // A file does not go away while nobody reads it.
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(READ)
        .connect_lazy_with(options);
    let mut all = Vec::new();
    for _ in 0..size {
        all.push(pool.acquire().await.map_err(failure)?);
    }
    Ok(pool)
}

impl Database {
    /// Opens the file and brings its schema up to date.
    pub(in crate::store) async fn open(
        path: &Path,
        migrations: &'static Migrator,
        sizes: &Sizes,
    ) -> Stored<Self> {
        prepare_file(path)?;
        let options = writer_options(path, sizes);
        let mut conn = options.connect().await.map_err(failure)?;
        // Not `run`: over a borrowed connection its future is not `Send` for every caller.
        let migrated = migrations.run_direct(None, &mut conn, false).await;
        migrated.map_err(|e| StoreError::caused(Fault::Corrupt, format!("{}: {e}", path.display()), e))?;
        Ok(Self {
            writer: Writer::new(conn, options),
            readers: pool(path, READERS).await?,
            emergency_readers: pool(path, EMERGENCY_READERS).await?,
            told_readers: pool(path, TOLD_READERS).await?,
        })
    }

    /// The connections for reads of a kind.
    pub(in crate::store) fn readers(&self, pool: Pool) -> &SqlitePool {
        match pool {
            Pool::Emergency => &self.emergency_readers,
            Pool::Told => &self.told_readers,
            Pool::Routine => &self.readers,
        }
    }

    /// A write lock taken and given back, and a read of the schema.
    pub(in crate::store) async fn healthy(&self) -> Stored<()> {
        self.writer.probe(PROBE).await?;
        let probe = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").execute(&self.emergency_readers);
        by(Instant::now() + PROBE, probe).await.map(|_| ())
    }

    /// Readers first, so that the writer is the last to leave and moves the log into the file.
    pub(in crate::store) async fn close(&self) {
        self.readers.close().await;
        self.emergency_readers.close().await;
        self.told_readers.close().await;
        self.writer.close().await;
    }

    /// The live writer's settings.
    pub(in crate::store) async fn settings(&self) -> Stored<Vec<(String, String)>> {
        let asked = [
            ("journal_mode", "PRAGMA journal_mode"),
            ("synchronous", "PRAGMA synchronous"),
            ("secure_delete", "PRAGMA secure_delete"),
            ("foreign_keys", "PRAGMA foreign_keys"),
        ];
        let mut locked = self.writer.alone(READ).await?;
        let mut report = Vec::new();
        for (name, pragma) in asked {
            let row = read(sqlx::query(pragma).fetch_one(locked.connection()?)).await?;
            // SQLite writes any value as text when asked to; the driver would refuse.
            report.push((name.to_owned(), row.try_get_unchecked::<String, _>(0).map_err(failure)?));
        }
        Ok(report)
    }
}
