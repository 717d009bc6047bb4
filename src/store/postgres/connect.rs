//! The pools and their deadlines. Four, so that nothing is in front of an alarm: one for fixes, one for everybody's calls,
//! one for what people are told, and one that only emergencies use.

use super::fixes::Days;
use crate::clock::Clock;
use crate::error::{Fault, StoreError, Stored};
use crate::id::UserId;
use crate::store::failure::{READ, by, failure, found_key_taken, read};
use crate::store::pool::Pool;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, FromRow, PgPool, Postgres, SqlSafeStr, SqlStr,
};
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A statement with its values.
pub(in crate::store) type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;
/// A statement with its values, and what its rows are read as.
pub(in crate::store) type Question<'q, T> = sqlx::query::QueryAs<'q, Postgres, T, PgArguments>;

/// Connections of each pool.
const ROUTINE: u32 = 8;
const TOLD: u32 = 4;
const EMERGENCY: u32 = 4;
const FIXES: u32 = 4;
/// The server gives up a statement whose caller has gone, and a transaction that nobody goes on with.
const SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "5000"),
    ("lock_timeout", "4000"),
    ("idle_in_transaction_session_timeout", "10000"),
    // The rollback at the end of a use warns where something was begun and not ended.
    ("client_min_messages", "error"),
    ("TimeZone", "UTC"),
];

/// How long a call may take, from asking for a connection to the answer of the commit.
const fn patience(pool: Pool) -> Duration {
    match pool {
        Pool::Emergency => Duration::from_secs(3),
        Pool::Told | Pool::Routine => Duration::from_secs(4),
    }
}

/// How often a use case is begun before its deadlock is the caller's.
const TRIES: u32 = 5;

/// Runs a use case, and again if the server undid all of it because it and another each waited for what the other
/// held. One of two always goes on, so there is nothing to wait for in between.
pub(in crate::store) async fn again<T, F>(pool: Pool, mut use_case: impl FnMut() -> F) -> Stored<T>
where
    F: Future<Output = Stored<T>>,
{
    let tries = async {
        for _ in 1..TRIES {
            match use_case().await {
                Err(error) if error.kind() == Fault::Conflict || found_key_taken(&error) => {}
                done => return done,
            }
        }
        use_case().await
    };
    timeout_at(Instant::now() + patience(pool), tries).await.unwrap_or_else(|_| Err(StoreError::late()))
}

/// The pools of one node.
#[derive(Clone)]
pub(in crate::store) struct Database {
    pub(in crate::store) routine: PgPool,
    told: PgPool,
    pub(in crate::store) emergency: PgPool,
    pub(in crate::store) fixes: PgPool,
    /// The tables that fixes are kept in.
    pub(in crate::store) days: Arc<Days>,
}

/// The settings of a connection, from a `postgres://` address.
pub(in crate::store) fn options(url: &str) -> Stored<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::new(Fault::Gone, "the database URL is not one of Postgres"))?;
    Ok(options.application_name("cima").options(SETTINGS).disable_statement_logging())
}

/// Connects once, and says why that is not possible.
pub(in crate::store) async fn reach(url: &str) -> Stored<()> {
    let options = options(url)?;
    let connection = read(options.connect()).await?;
    read(connection.close()).await
}

/// A pool of at most `size` connections, of which `kept` are always open.
fn pool(options: &PgConnectOptions, size: u32, kept: u32) -> PgPool {
    PgPoolOptions::new()
        .min_connections(kept)
        .max_connections(size)
        .acquire_timeout(READ)
        // A caller who was dropped while it began leaves the connection in a transaction, for the next one.
        .after_release(|connection, _| {
            Box::pin(async move {
                // Where nothing was begun, as nearly always, a bare rollback would fill the server's log with warnings. In a
                // transaction that failed only a bare one is taken.
                if connection.execute("BEGIN; ROLLBACK").await.is_err() {
                    connection.execute("ROLLBACK").await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.clone())
}

impl Database {
    pub(in crate::store) fn new(url: &str, clock: Clock) -> Stored<Self> {
        let options = options(url)?;
        Ok(Self {
            routine: pool(&options, ROUTINE, 0),
            told: pool(&options, TOLD, 0),
            // Nobody in need waits until a connection is made.
            emergency: pool(&options, EMERGENCY, EMERGENCY),
            fixes: pool(&options, FIXES, 0),
            days: Arc::new(Days::new(clock)),
        })
    }

    /// The same, with what is routine going to the pool for fixes.
    pub(in crate::store) fn for_fixes(&self) -> Self {
        Self { routine: self.fixes.clone(), ..self.clone() }
    }

    /// The connections for calls of a kind.
    pub(in crate::store) fn of(&self, pool: Pool) -> &PgPool {
        match pool {
            Pool::Emergency => &self.emergency,
            Pool::Told => &self.told,
            Pool::Routine => &self.routine,
        }
    }

    /// Begins a transaction. Dropping it at any point leaves nothing of it.
    pub(in crate::store) async fn begin(&self, pool: Pool) -> Stored<Tx> {
        begin(self.of(pool), Instant::now() + patience(pool), "BEGIN".into_sql_str()).await
    }

    /// The same with the lock of an account, in one message.
    pub(in crate::store) async fn begin_with(&self, pool: Pool, account: UserId) -> Stored<Tx> {
        let begin_and_lock =
            format!("BEGIN; SELECT 1 FROM accounts WHERE id = '{account}' FOR NO KEY UPDATE");
        begin(self.of(pool), Instant::now() + patience(pool), AssertSqlSafe(begin_and_lock).into_sql_str())
            .await
    }

    /// One statement that is a transaction of its own; how many rows it changed.
    pub(in crate::store) async fn write(&self, pool: Pool, statement: Statement<'_>) -> Stored<u64> {
        let deadline = Instant::now() + patience(pool);
        Ok(by(deadline, statement.execute(self.of(pool))).await?.rows_affected())
    }

    /// What the server does before it answers a commit.
    pub(in crate::store) async fn settings(&self) -> Stored<Vec<(String, String)>> {
        let settings = sqlx::query_as(
            "SELECT name, setting FROM pg_settings
             WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name",
        );
        read(settings.fetch_all(&self.routine)).await
    }

    pub(in crate::store) async fn close(&self) {
        for pool in [&self.fixes, &self.routine, &self.told, &self.emergency] {
            pool.close().await;
        }
    }
}

async fn begin(pool: &PgPool, deadline: Instant, statements: SqlStr) -> Stored<Tx> {
    let mut connection = by(deadline, pool.acquire()).await?;
    by(deadline, connection.execute(statements)).await?;
    Ok(Tx { connection, deadline })
}

/// A transaction, until [`Tx::commit`]; all of it within one deadline.
pub(in crate::store) struct Tx {
    /// Given back in a transaction if that was not ended; the pool rolls it back.
    connection: PoolConnection<Postgres>,
    deadline: Instant,
}

impl Tx {
    /// Runs a statement; how many rows it changed.
    pub(in crate::store) async fn run(&mut self, statement: Statement<'_>) -> Stored<u64> {
        Ok(by(self.deadline, statement.execute(&mut *self.connection)).await?.rows_affected())
    }

    /// The first row, if there is one.
    pub(in crate::store) async fn one<T>(&mut self, question: Question<'_, T>) -> Stored<Option<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        by(self.deadline, question.fetch_optional(&mut *self.connection)).await
    }

    /// The first row as it came, if there is one.
    pub(in crate::store) async fn row(&mut self, statement: Statement<'_>) -> Stored<Option<PgRow>> {
        by(self.deadline, statement.fetch_optional(&mut *self.connection)).await
    }

    /// All rows.
    pub(in crate::store) async fn all<T>(&mut self, question: Question<'_, T>) -> Stored<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        by(self.deadline, question.fetch_all(&mut *self.connection)).await
    }

    /// Makes it durable. After an error it may or may not be.
    pub(in crate::store) async fn commit(mut self) -> Stored<()> {
        match timeout_at(self.deadline, self.connection.execute("COMMIT")).await {
            Ok(done) => done.map(|_| ()).map_err(failure),
            Err(_) => Err(StoreError::late()),
        }
    }
}
