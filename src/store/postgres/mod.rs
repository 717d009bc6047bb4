//! The store of many nodes: PostgreSQL with PostGIS.
//!
//! The same promises as the embedded one's, kept among many writers: what two calls could both do is decided by a row
//! lock or a unique key. Every call has a deadline here and another on the server.

mod connect;
mod fixes;
mod migrate;
mod places;

pub use super::Opened as Stores;
pub use migrate::migrate;
pub use places::ZONES_IN_BOX;

pub(super) use connect::{Database, Tx, again};
pub(super) use fixes::{expire_fixes, known, record, refuse_fixes};

use super::database;
use crate::clock::Clock;
use crate::error::Stored;

/// Connects to a database whose schema is up to date.
///
/// # Errors
/// When it cannot be reached, or its schema is older or newer than this program can run on.
pub async fn open(url: &str, clock: Clock) -> Stored<Stores> {
    // A pool only says that it waited in vain; this says why.
    connect::reach(url).await?;
    let db = Database::new(url, clock.clone())?;
    migrate::check(&db.routine).await?;
    let fixes = db.for_fixes();
    Ok(Stores::new(database::Database::Pg(db), database::Database::Pg(fixes), clock))
}
