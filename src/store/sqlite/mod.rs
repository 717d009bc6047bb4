//! The embedded default: two SQLite files in the data directory, with one writer each.
//!
//! `cima.db` keeps people, trust, fences and alerts; `fixes.db` keeps fixes, so that a flood of them is never in front of
//! an alarm. Both are WAL with `synchronous=FULL`: what a method answered is on the disk. Reads go to small read-only
//! pools; `cima.db` has a second pool that only emergencies use.

mod connect;
mod files;
mod fixes;
mod writer;

pub use super::Opened as Stores;

pub(super) use connect::Database;
pub(super) use files::{wipe, wipe_forgotten};
pub(super) use fixes::{expire_fixes, known, record, refuse_fixes};
pub(super) use writer::Tx;

use super::database;
use crate::clock::Clock;
use crate::error::Stored;
use connect::{ALARMS, FLOOD};
use sqlx::migrate::Migrator;
use std::path::Path;
use std::sync::Arc;

/// The schema of `cima.db`.
static CIMA: Migrator = sqlx::migrate!("./migrations/sqlite/cima");
/// The schema of `fixes.db`.
static FIXES: Migrator = sqlx::migrate!("./migrations/sqlite/fixes");

/// Opens both files of a data directory, makes what is missing and brings their schemas up to date.
///
/// # Errors
/// When the directory cannot be used, or a file in it is not cima's or is newer than this program.
pub async fn open(data_dir: &Path, clock: Clock) -> Stored<Stores> {
    connect::prepare_dir(data_dir)?;
    let main = Database::open(&data_dir.join("cima.db"), &CIMA, &ALARMS).await?;
    let fixes = Database::open(&data_dir.join("fixes.db"), &FIXES, &FLOOD).await?;
    if let Err(error) = files::finish_forgetting(&main, &fixes).await {
        // No reason not to take alarms; the next opening tries again.
        tracing::warn!(%error, "files could not be rewritten after somebody was forgotten");
    }
    let of = |db| database::Database::Lite(Arc::new(db));
    Ok(Stores::new(of(main), of(fixes), clock))
}
