//! A database of either backend, as the use cases see it: transactions, single statements and reads, each with a
//! deadline.

use super::failure::{READ, failure, read};
use super::pool::Pool;
use super::sql::Statement;
use super::value::{lite_arguments, pg_arguments};
use super::{postgres, sqlite, time};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::UserId;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{FromRow, Postgres, Sqlite};
use std::future::Future;
use std::sync::Arc;
use tokio::time::Instant;

/// What a row is read as, whichever backend it comes from: derive [`FromRow`].
pub(super) trait Record:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Record for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl Statement {
    fn lite(self) -> Stored<Query<'static, Sqlite, SqliteArguments>> {
        Ok(sqlx::query_with(self.sql.lite, lite_arguments(self.values).map_err(unbindable)?))
    }
    fn pg(self) -> Stored<Query<'static, Postgres, PgArguments>> {
        Ok(sqlx::query_with(self.sql.pg, pg_arguments(self.values).map_err(unbindable)?))
    }
    fn lite_as<T: Record>(self) -> Stored<QueryAs<'static, Sqlite, T, SqliteArguments>> {
        Ok(sqlx::query_as_with(self.sql.lite, lite_arguments(self.values).map_err(unbindable)?))
    }
    fn pg_as<T: Record>(self) -> Stored<QueryAs<'static, Postgres, T, PgArguments>> {
        Ok(sqlx::query_as_with(self.sql.pg, pg_arguments(self.values).map_err(unbindable)?))
    }
}

fn unbindable(error: BoxDynError) -> StoreError {
    failure(sqlx::Error::Encode(error))
}

/// Where a store is kept.
#[derive(Clone)]
pub(super) enum Database {
    Lite(Arc<sqlite::Database>),
    Pg(postgres::Database),
}

impl Database {
    /// Whether something could be stored in it now. PostgreSQL has everything in one, so a look at the clock says it.
    pub(super) async fn healthy(&self) -> Stored<()> {
        match self {
            Self::Lite(db) => db.healthy().await,
            Self::Pg(_) => time::seen(self, Timestamp::from_unix_ms(0)).await.map(|_| ()),
        }
    }

    /// What decides whether an answer is on the disk, as live connections have it.
    pub(super) async fn settings(&self) -> Stored<Vec<(String, String)>> {
        match self {
            Self::Lite(db) => db.settings().await,
            Self::Pg(db) => db.settings().await,
        }
    }

    /// Whether answers outlive a loss of power, by its [`Database::settings`].
    pub(super) fn is_on_disk(&self, settings: &[(String, String)]) -> bool {
        match self {
            Self::Lite(_) => settings.contains(&("synchronous".into(), "2".into())),
            Self::Pg(_) => settings.iter().all(|(_, value)| value != "off"),
        }
    }

    /// Stops taking calls and leaves everything whole.
    pub(super) async fn close(&self) {
        match self {
            Self::Lite(db) => db.close().await,
            Self::Pg(db) => db.close().await,
        }
    }

    /// Begins a transaction that writes. Dropping it at any point leaves nothing of it.
    pub(super) async fn begin(&self, pool: impl Into<Pool>) -> Stored<Tx<'_>> {
        match self {
            Self::Lite(db) => db.writer.begin(pool.into().lane()).await.map(Tx::Lite),
            Self::Pg(db) => db.begin(pool.into()).await.map(Tx::Pg),
        }
    }

    /// Begins a transaction that keeps a person's account as it is until the commit, so that only one at a time changes what
    /// they have; others may still refer to it. Where one writer has the store to itself there is nothing to lock.
    pub(super) async fn begin_with(&self, pool: impl Into<Pool>, account: UserId) -> Stored<Tx<'_>> {
        match self {
            Self::Lite(_) => self.begin(pool).await,
            Self::Pg(db) => db.begin_with(pool.into(), account).await.map(Tx::Pg),
        }
    }

    /// Runs a use case, and again if it was undone in favour of another. Where one writer has the store to itself that
    /// does not happen.
    pub(super) async fn again<T, F>(
        &self,
        pool: impl Into<Pool>,
        mut use_case: impl FnMut() -> F,
    ) -> Stored<T>
    where
        F: Future<Output = Stored<T>>,
    {
        match self {
            Self::Lite(_) => use_case().await,
            Self::Pg(_) => postgres::again(pool.into(), use_case).await,
        }
    }

    /// One statement that is a transaction of its own; how many rows it changed. Tried again if it was undone in favour
    /// of another.
    pub(super) async fn write(
        &self,
        pool: impl Into<Pool>,
        statement: impl Fn() -> Statement,
    ) -> Stored<u64> {
        match self {
            Self::Lite(db) => db.writer.write(pool.into().lane(), statement().lite()?).await,
            Self::Pg(db) => {
                let pool = pool.into();
                postgres::again(pool, || async { db.write(pool, statement().pg()?).await }).await
            }
        }
    }

    /// One statement that changes a row and reads it, a transaction of its own: where others share the database, nobody
    /// waits for this process in it.
    pub(super) async fn write_one<T: Record>(
        &self,
        pool: impl Into<Pool>,
        statement: Statement,
    ) -> Stored<Option<T>> {
        match self {
            Self::Lite(db) => {
                let mut tx = db.writer.begin_by(pool.into().lane(), Instant::now() + READ).await?;
                let row = tx.one(statement.lite_as()?).await?;
                tx.commit().await?;
                Ok(row)
            }
            Self::Pg(db) => read(statement.pg_as()?.fetch_optional(db.of(pool.into()))).await,
        }
    }

    /// Runs a statement that changes some of many rows until there is none left; how many it changed. Each run is a
    /// transaction of its own, so that no emergency waits behind a long one.
    pub(super) async fn write_all(&self, statement: impl Fn() -> Statement) -> Stored<u64> {
        let mut changed = 0;
        loop {
            match self.write(Lane::Routine, &statement).await? {
                0 => return Ok(changed),
                some => changed += some,
            }
        }
    }

    /// The first row that is read, if there is one.
    pub(super) async fn one<T: Record>(
        &self,
        pool: impl Into<Pool>,
        question: Statement,
    ) -> Stored<Option<T>> {
        match self {
            Self::Lite(db) => read(question.lite_as()?.fetch_optional(db.readers(pool.into()))).await,
            Self::Pg(db) => read(question.pg_as()?.fetch_optional(db.of(pool.into()))).await,
        }
    }

    /// All rows that are read.
    pub(super) async fn all<T: Record>(&self, pool: impl Into<Pool>, question: Statement) -> Stored<Vec<T>> {
        match self {
            Self::Lite(db) => read(question.lite_as()?.fetch_all(db.readers(pool.into()))).await,
            Self::Pg(db) => read(question.pg_as()?.fetch_all(db.of(pool.into()))).await,
        }
    }

    /// All rows, each read as `T` and told as `U`.
    pub(super) async fn list<T: Record, U>(
        &self,
        pool: impl Into<Pool>,
        question: Statement,
        tell: impl FnMut(T) -> U,
    ) -> Stored<Vec<U>> {
        Ok(self.all::<T>(pool, question).await?.into_iter().map(tell).collect())
    }
}

/// A transaction that writes, until [`Tx::commit`]; all of it within one deadline.
pub(super) enum Tx<'d> {
    Lite(sqlite::Tx<'d>),
    Pg(postgres::Tx),
}

impl Tx<'_> {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn run(&mut self, statement: Statement) -> Stored<u64> {
        match self {
            Self::Lite(tx) => tx.run(statement.lite()?).await,
            Self::Pg(tx) => tx.run(statement.pg()?).await,
        }
    }

    /// Runs a statement that only locks. Where one writer has the store to itself there is nothing to lock.
    pub(super) async fn lock(&mut self, statement: Statement) -> Stored<()> {
        match self {
            Self::Lite(_) => Ok(()),
            Self::Pg(tx) => tx.run(statement.pg()?).await.map(|_| ()),
        }
    }

    /// The first row, if there is one.
    pub(super) async fn one<T: Record>(&mut self, question: Statement) -> Stored<Option<T>> {
        match self {
            Self::Lite(tx) => tx.one(question.lite_as()?).await,
            Self::Pg(tx) => tx.one(question.pg_as()?).await,
        }
    }

    /// Whether there is a row.
    pub(super) async fn any(&mut self, question: Statement) -> Stored<bool> {
        match self {
            Self::Lite(tx) => Ok(tx.row(question.lite()?).await?.is_some()),
            Self::Pg(tx) => Ok(tx.row(question.pg()?).await?.is_some()),
        }
    }

    /// All rows.
    pub(super) async fn all<T: Record>(&mut self, question: Statement) -> Stored<Vec<T>> {
        match self {
            Self::Lite(tx) => tx.all(question.lite_as()?).await,
            Self::Pg(tx) => tx.all(question.pg_as()?).await,
        }
    }

    /// Makes it durable. After an error it may or may not be.
    pub(super) async fn commit(self) -> Stored<()> {
        match self {
            Self::Lite(tx) => tx.commit().await,
            Self::Pg(tx) => tx.commit().await,
        }
    }
}
