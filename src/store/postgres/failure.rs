//! One mapping from what sqlx says to what a room can act on, and the deadline that sqlx does not have.

use crate::error::{StoreError, Stored};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A read that takes longer is given up.
pub(super) const READ: Duration = Duration::from_secs(2);

/// Classes of SQLSTATE that another try may not meet again: connection, transaction rollback (serialization, deadlock),
/// wrong transaction state (a server that became read-only), resources, object not in state (locks), intervention
/// (shutdown, timeout), system.
const PASSING: [&str; 7] = ["08", "40", "25", "53", "55", "57", "58"];

/// The room's word for an error of the driver. No value of a row is in its text.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let passing = match &error {
        sqlx::Error::Database(db) => {
            db.code().is_some_and(|code| PASSING.iter().any(|c| code.starts_with(c)))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    };
    if passing { StoreError::Unavailable(text(&error)) } else { StoreError::Corrupt(text(&error)) }
}

/// Postgres quotes values in the details of an error, not in its message.
fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(db) => {
            format!("{} ({})", db.message(), db.code().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// Serialization failure and deadlock, as [`text`] ends: the server undid the transaction, and the same again may do.
const UNDONE: [&str; 2] = ["(40001)", "(40P01)"];

/// Whether the server undid the whole transaction in favour of another.
pub(super) fn was_undone(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(text) if UNDONE.iter().any(|end| text.ends_with(end)))
}

/// Whether a row had no partition to go to.
pub(super) fn found_no_partition(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt(text) if text.starts_with("no partition") && text.ends_with("(23514)"))
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
