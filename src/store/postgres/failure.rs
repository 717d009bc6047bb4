//! The shared mapping, for the modules of this backend, and what only PostgreSQL says.

pub(super) use crate::store::failure::{READ, by, failure, read, unreadable, unwritable};

use crate::error::{Fault, StoreError};
use sqlx::postgres::PgDatabaseError;

/// Whether the server undid the whole transaction in favour of another.
pub(super) fn was_undone(error: &StoreError) -> bool {
    error.kind() == Fault::Conflict
}

/// Whether a row had no partition to go to: a check violation (23514) of no constraint.
pub(super) fn found_no_partition(error: &StoreError) -> bool {
    let Some(sqlx::Error::Database(db)) = error.cause::<sqlx::Error>() else { return false };
    db.try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|pg| pg.code() == "23514" && pg.constraint().is_none())
}

pub(super) fn late() -> StoreError {
    StoreError::late()
}
