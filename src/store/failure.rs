//! One mapping from what sqlx says to what a domain can act on, and the deadline that sqlx does not have.

use crate::error::{Fault, StoreError, Stored};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A read that takes longer is given up.
pub(super) const READ: Duration = Duration::from_secs(2);

/// The store's word for an error of the driver. No value of a row is in its text.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let kind = match &error {
        sqlx::Error::Database(db) => match db.try_downcast_ref::<PgDatabaseError>() {
            Some(pg) => sqlstate(pg.code()),
            None => result_code(db.as_ref()).map_or(Fault::Corrupt, of_result_code),
        },
        sqlx::Error::PoolTimedOut => Fault::Busy,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Fault::Gone,
        _ => Fault::Corrupt,
    };
    StoreError::caused(kind, text(&error), error)
}

/// PostgreSQL quotes values in the details of an error, not in its message.
fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(db) => format!("{} ({})", db.message(), db.code().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// By the class of a SQLSTATE (PostgreSQL, appendix A); the code of a query that was cancelled is of its own kind.
fn sqlstate(code: &str) -> Fault {
    match code.get(..2) {
        _ if code == "57014" => Fault::Timeout,
        // Connection; who may connect (a password that was changed); no such database; intervention by the operator; system.
        Some("08" | "28" | "3D" | "57" | "58") => Fault::Gone,
        // Transaction rollback: serialization, deadlock.
        Some("40") => Fault::Conflict,
        // A statement prepared before the schema changed.
        _ if code == "0A000" => Fault::Busy,
        // Wrong transaction state (a server that became read-only), resources, object not in state (locks).
        Some("25" | "53" | "55") => Fault::Busy,
        _ => Fault::Corrupt,
    }
}

/// Whether a key was taken that has to be unique: where that is a race, the same again finds who took it. Where it is not,
/// the same again fails again.
pub(super) fn found_key_taken(error: &StoreError) -> bool {
    match error.cause::<sqlx::Error>() {
        Some(sqlx::Error::Database(db)) => db.is_unique_violation(),
        _ => false,
    }
}

/// SQLite's primary result code; the driver gives the extended one.
pub(super) fn result_code(error: &dyn DatabaseError) -> Option<i32> {
    error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff)
}

/// By the primary result code (sqlite.org/rescode.html).
fn of_result_code(code: i32) -> Fault {
    match code {
        // Busy, locked, out of memory, read-only, interrupted, full, protocol.
        5 | 6 | 7 | 8 | 9 | 13 | 15 => Fault::Busy,
        // Input and output; cannot open.
        10 | 14 => Fault::Gone,
        _ => Fault::Corrupt,
    }
}

/// A value that cannot be what cima wrote.
pub(super) fn unreadable(column: &'static str) -> StoreError {
    StoreError::new(Fault::Corrupt, format!("{column} cannot be read"))
}

/// A value that JSON cannot hold; nothing that reaches the store is one.
pub(super) fn unwritable(column: &'static str) -> StoreError {
    StoreError::new(Fault::Corrupt, format!("{column} cannot be written"))
}

/// The answer of the driver, or a timeout at the deadline: sqlx itself would wait for ever.
pub(super) async fn by<T>(deadline: Instant, work: impl Future<Output = sqlx::Result<T>>) -> Stored<T> {
    match timeout_at(deadline, work).await {
        Ok(answer) => answer.map_err(failure),
        Err(_) => Err(StoreError::late()),
    }
}

/// A read, with its deadline.
pub(super) async fn read<T>(work: impl Future<Output = sqlx::Result<T>>) -> Stored<T> {
    by(Instant::now() + READ, work).await
}
