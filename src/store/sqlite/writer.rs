//! The one connection that writes a file, and the two queues for it.
//!
//! Routine callers wait in a queue of their own and come to the connection one at a time; emergencies go to the
//! connection at once. So an emergency waits for the routine transaction that runs and for none that queues.

use crate::alerts::Lane;
use crate::error::{Fault, StoreError, Stored};
use crate::store::failure::{by, failure, result_code};
use futures_util::FutureExt;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, FromRow, Row, Sqlite, SqliteConnection};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

/// A statement with its values.
pub(in crate::store) type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;
/// A statement with its values, and what its rows are read as.
pub(in crate::store) type Question<'q, T> = sqlx::query::QueryAs<'q, Sqlite, T, SqliteArguments>;

/// The writer of one file.
pub(in crate::store) struct Writer {
    options: SqliteConnectOptions,
    /// Held by the one routine caller that is at the connection; the others wait here.
    routine: Mutex<()>,
    slot: Mutex<Slot>,
}

struct Slot {
    conn: Conn,
    /// A transaction was begun and its end is not known: its caller was dropped, failed or ran out of time.
    dirty: bool,
}

enum Conn {
    Open(SqliteConnection),
    /// It failed in a way that says nothing about its state; the next caller opens another.
    Lost,
    Closed,
}

/// How long a call may take, from asking for the connection to the answer of the commit.
const fn patience(lane: Lane) -> Duration {
    match lane {
        Lane::Emergency => Duration::from_secs(5),
        // A thousand phones that send their first fix at once stand behind each other's syncs.
        Lane::Routine => Duration::from_secs(8),
    }
}

impl Writer {
    pub(in crate::store) fn new(conn: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let slot = Slot { conn: Conn::Open(conn), dirty: false };
        Self { options, routine: Mutex::new(()), slot: Mutex::new(slot) }
    }

    /// Begins a transaction that writes. Dropping it at any point leaves nothing of it.
    pub(in crate::store) async fn begin(&self, lane: Lane) -> Stored<Tx<'_>> {
        self.begin_by(lane, Instant::now() + patience(lane)).await
    }

    pub(in crate::store) async fn begin_by(&self, lane: Lane, deadline: Instant) -> Stored<Tx<'_>> {
        let routine = match lane {
            Lane::Emergency => None,
            Lane::Routine => {
                Some(timeout_at(deadline, self.routine.lock()).await.map_err(|_| StoreError::late())?)
            }
        };
        // It is a transaction before it is begun, so that a caller who is dropped meanwhile leaves none.
        let mut tx = Tx { slot: self.ready(deadline).await?, _routine: routine, deadline };
        tx.slot.begin(deadline).await?;
        Ok(tx)
    }

    /// One statement that is a transaction of its own; how many rows it changed.
    pub(in crate::store) async fn write(&self, lane: Lane, statement: Statement<'_>) -> Stored<u64> {
        let mut tx = self.begin(lane).await?;
        let changed = tx.run(statement).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// The connection, outside of any transaction, for what cannot be done in one.
    pub(in crate::store) async fn alone(&self, within: Duration) -> Stored<Alone<'_>> {
        let deadline = Instant::now() + within;
        let routine = timeout_at(deadline, self.routine.lock()).await.map_err(|_| StoreError::late())?;
        Ok(Alone { slot: self.ready(deadline).await?, _routine: routine })
    }

    /// Whether a transaction can be stored right now, in the queue of emergencies: it writes the first page anew, so a disk
    /// that is full or read-only refuses it.
    pub(in crate::store) async fn probe(&self, within: Duration) -> Stored<()> {
        let mut tx = self.begin_by(Lane::Emergency, Instant::now() + within).await?;
        tx.run(sqlx::query("PRAGMA user_version = 1")).await?;
        tx.commit().await
    }

    /// Moves the whole log into the file and empties it, as soon as no reader needs it any more.
    pub(in crate::store) async fn empty_log(&self, within: Duration) -> Stored<()> {
        let deadline = Instant::now() + within;
        loop {
            let mut locked = self.alone(deadline - Instant::now()).await?;
            let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(locked.connection()?);
            let row: SqliteRow = by(deadline, checkpoint).await?;
            if row.get::<i64, _>(0) == 0 {
                return Ok(());
            }
            // A reader is in the way. SQLite has waited a little; others may write before the next try.
            drop(locked);
            if Instant::now() >= deadline {
                return Err(StoreError::late());
            }
        }
    }

    /// Closes the connection for good.
    pub(in crate::store) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if slot.dirty {
            // What was left open is lost with the connection if it cannot be rolled back.
            let _ = slot.roll_back(Instant::now() + patience(Lane::Routine)).await;
        }
        if let Conn::Open(conn) = std::mem::replace(&mut slot.conn, Conn::Closed) {
            // A log that could not be moved is read again at the next opening.
            let _ = conn.close().await;
        }
    }

    /// The connection once it is nobody's and outside of any transaction.
    async fn ready(&self, deadline: Instant) -> Stored<MutexGuard<'_, Slot>> {
        let mut slot = timeout_at(deadline, self.slot.lock()).await.map_err(|_| StoreError::late())?;
        if matches!(slot.conn, Conn::Lost) {
            slot.conn = Conn::Open(by(deadline, self.options.connect()).await?);
            slot.dirty = false;
        }
        if slot.dirty {
            slot.roll_back(deadline).await?;
        }
        Ok(slot)
    }
}

impl Slot {
    fn open(&mut self) -> Stored<&mut SqliteConnection> {
        match &mut self.conn {
            Conn::Open(conn) => Ok(conn),
            Conn::Lost => Err(StoreError::new(Fault::Gone, "the connection was lost")),
            Conn::Closed => Err(StoreError::new(Fault::Gone, "the store is closed")),
        }
    }

    async fn begin(&mut self, deadline: Instant) -> Stored<()> {
        // From here on: a dropped call may have begun.
        self.dirty = true;
        loop {
            let begun = timeout_at(deadline, sqlx::query("BEGIN IMMEDIATE").execute(self.open()?)).await;
            match begun.map_err(|_| StoreError::late())? {
                Ok(_) => return Ok(()),
                // Another process writes. SQLite has waited for it already.
                Err(error) if has_code(&error, LOCKED) && Instant::now() < deadline => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    async fn roll_back(&mut self, deadline: Instant) -> Stored<()> {
        let ended = timeout_at(deadline, sqlx::query("ROLLBACK").execute(self.open()?)).await;
        match ended.map_err(|_| StoreError::late())? {
            Ok(_) => {}
            // A commit whose caller did not wait for it, or an error after which SQLite rolled back by itself.
            Err(error) if has_code(&error, NO_TRANSACTION) => {}
            Err(error) => return Err(self.lost(error)),
        }
        self.dirty = false;
        Ok(())
    }

    fn lost(&mut self, error: sqlx::Error) -> StoreError {
        self.conn = Conn::Lost;
        failure(error)
    }
}

/// Another process has the lock (`SQLITE_BUSY`).
const LOCKED: i32 = 5;
/// What a `ROLLBACK` without a transaction is answered with (`SQLITE_ERROR`): it can fail for no other reason of its own.
const NO_TRANSACTION: i32 = 1;

fn has_code(error: &sqlx::Error, code: i32) -> bool {
    error.as_database_error().and_then(result_code) == Some(code)
}

/// A transaction that writes, until [`Tx::commit`]; all of it within one deadline.
pub(in crate::store) struct Tx<'w> {
    // Given back before the routine queue moves on, so that a waiting emergency comes first.
    slot: MutexGuard<'w, Slot>,
    _routine: Option<MutexGuard<'w, ()>>,
    deadline: Instant,
}

impl Tx<'_> {
    /// Runs a statement; how many rows it changed.
    pub(in crate::store) async fn run(&mut self, statement: Statement<'_>) -> Stored<u64> {
        let done = by(self.deadline, statement.execute(self.slot.open()?)).await?;
        Ok(done.rows_affected())
    }

    /// The first row, if there is one.
    pub(in crate::store) async fn one<T>(&mut self, question: Question<'_, T>) -> Stored<Option<T>>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        by(self.deadline, question.fetch_optional(self.slot.open()?)).await
    }

    /// The first row as it came, if there is one.
    pub(in crate::store) async fn row(&mut self, statement: Statement<'_>) -> Stored<Option<SqliteRow>> {
        by(self.deadline, statement.fetch_optional(self.slot.open()?)).await
    }

    /// All rows.
    pub(in crate::store) async fn all<T>(&mut self, question: Question<'_, T>) -> Stored<Vec<T>>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        by(self.deadline, question.fetch_all(self.slot.open()?)).await
    }

    /// Makes it durable: on the disk when this returns. After an error it may or may not be.
    pub(in crate::store) async fn commit(mut self) -> Stored<()> {
        let committed = timeout_at(self.deadline, sqlx::query("COMMIT").execute(self.slot.open()?)).await;
        match committed.map_err(|_| StoreError::late())? {
            Ok(_) => {
                self.slot.dirty = false;
                Ok(())
            }
            Err(error) => Err(self.slot.lost(error)),
        }
    }
}

impl Drop for Tx<'_> {
    /// Sends the rollback of what was not committed, so that no lock outlives its caller. Nobody can wait for the
    /// answer here: the next caller rolls back once more and waits for that.
    fn drop(&mut self) {
        if self.slot.dirty
            && let Ok(conn) = self.slot.open()
        {
            let _ = sqlx::query("ROLLBACK").execute(conn).now_or_never();
        }
    }
}

/// The connection outside of any transaction.
pub(in crate::store) struct Alone<'w> {
    slot: MutexGuard<'w, Slot>,
    _routine: MutexGuard<'w, ()>,
}

impl Alone<'_> {
    pub(in crate::store) fn connection(&mut self) -> Stored<&mut SqliteConnection> {
        self.slot.open()
    }
}
