//! One mapping from what sqlx says to what a room can act on.

use crate::error::{StoreError, Stored};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A read that takes longer is given up.
pub(super) const READ: Duration = Duration::from_secs(2);

/// SQLite's primary result codes that another try may not meet again: busy, locked, out of memory, read-only,
/// interrupted, I/O error, full, cannot open, protocol.
const PASSING: [i32; 9] = [5, 6, 7, 8, 9, 10, 13, 14, 15];

/// The room's word for an error of the driver. No value of a row is in its text.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let passing = match &error {
        sqlx::Error::Database(db) => result_code(db.as_ref()).is_some_and(|code| PASSING.contains(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    };
    if passing { StoreError::Unavailable(error.to_string()) } else { StoreError::Corrupt(error.to_string()) }
}

/// SQLite's primary result code; the driver gives the extended one.
pub(super) fn result_code(error: &dyn sqlx::error::DatabaseError) -> Option<i32> {
    error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff)
}

/// A column that cannot be what cima wrote.
pub(super) fn unreadable(column: &'static str) -> StoreError {
    StoreError::Corrupt(format!("{column} cannot be read"))
}

/// A value that JSON cannot hold; nothing that reaches the store is one.
pub(super) fn unwritable(column: &'static str) -> StoreError {
    StoreError::Corrupt(format!("{column} cannot be written"))
}

/// The answer of the driver, or `Unavailable` at the deadline: sqlx itself would wait for ever.
pub(super) async fn by<T>(deadline: Instant, work: impl Future<Output = sqlx::Result<T>>) -> Stored<T> {
    match timeout_at(deadline, work).await {
        Ok(answer) => answer.map_err(failure),
        Err(_) => Err(late()),
    }
}

/// A read, with its deadline.
pub(super) async fn read<T>(work: impl Future<Output = sqlx::Result<T>>) -> Stored<T> {
    by(Instant::now() + READ, work).await
}

/// What a call gets that was not served in time.
pub(super) fn late() -> StoreError {
    StoreError::Unavailable("no answer before the deadline".into())
}
