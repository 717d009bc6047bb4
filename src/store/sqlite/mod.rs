//! The embedded cellar: two SQLite files in the data directory, with one writer each.
//!
//! `cima.db` ([`SqliteStore`]) keeps people, trust, fences and alerts; `fixes.db` ([`SqliteFixes`]) keeps fixes, so
//! that a flood of them is never in front of an alarm. Both are WAL with `synchronous=FULL`: what a method answered
//! is on the disk. Reads go to small read-only pools; `cima.db` has a second pool that only emergencies use.

mod alerts;
mod check_ins;
mod connect;
mod emergencies;
mod failure;
mod fences;
mod fixes;
mod folds;
mod forget;
mod identity;
mod inbox;
mod push;
mod retention;
mod sessions;
mod tracking;
mod transitions;
mod trust;
mod writer;
mod zones;

pub use fixes::SqliteFixes;
pub(super) use fixes::{expire_fixes, known, record, refuse_fixes};
pub(super) use forget::wipe_forgotten;
pub(super) use retention::wipe;

use super::{Fixes, Store, database};
use crate::clock::Clock;
use crate::error::Stored;
use connect::{ALARMS, FLOOD};

pub(super) use connect::Database;
use sqlx::migrate::Migrator;
use std::path::Path;
use std::sync::Arc;
pub(super) use writer::Tx;

/// The schema of `cima.db`.
static CIMA: Migrator = sqlx::migrate!("./migrations/sqlite/cima");
/// The schema of `fixes.db`.
static FIXES: Migrator = sqlx::migrate!("./migrations/sqlite/fixes");

/// Both stores of one data directory.
pub struct Stores {
    /// `cima.db`: people, trust, fences, alerts.
    pub main: Arc<SqliteStore>,
    /// `fixes.db`: fixes.
    pub fixes: Arc<SqliteFixes>,
    /// Both, as the shared use cases see them.
    pub new: Arc<Store>,
}

/// `cima.db`.
pub struct SqliteStore {
    db: Arc<Database>,
    /// Forgetting a person reaches into the other file.
    fixes: Arc<SqliteFixes>,
    /// Tells whether a link is in force at the moment an alert is stored.
    clock: Clock,
    folds: folds::Folds,
}

/// Opens both files of a data directory, makes what is missing and brings their schemas up to date.
///
/// # Errors
/// When the directory cannot be used, or a file in it is not cima's or is newer than this program.
pub async fn open(data_dir: &Path, clock: Clock) -> Stored<Stores> {
    connect::prepare_dir(data_dir)?;
    let main = Arc::new(Database::open(&data_dir.join("cima.db"), &CIMA, &ALARMS).await?);
    let fixes = Arc::new(Database::open(&data_dir.join("fixes.db"), &FIXES, &FLOOD).await?);
    let new_fixes = Arc::new(Fixes::new(database::Database::Lite(Arc::clone(&fixes))));
    let new = Arc::new(Store::new(database::Database::Lite(Arc::clone(&main)), new_fixes, clock.clone()));
    let fixes = Arc::new(SqliteFixes::new(fixes));
    let main =
        Arc::new(SqliteStore { db: main, fixes: Arc::clone(&fixes), clock, folds: folds::Folds::default() });
    if let Err(error) = forget::finish(&main).await {
        // No reason not to take alarms; the next opening tries again.
        tracing::warn!(%error, "files could not be rewritten after somebody was forgotten");
    }
    Ok(Stores { main, fixes, new })
}

impl SqliteStore {
    /// Whether the store can take an emergency now; answers within half a second.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn healthy(&self) -> Stored<()> {
        self.db.healthy().await
    }
    /// Stops taking calls, moves the log into the file and closes it.
    pub async fn close(&self) {
        self.db.close().await;
    }
    /// What the live writer connection says of `journal_mode`, `synchronous`, `secure_delete` and `foreign_keys`.
    ///
    /// # Errors
    /// When the store is not there.
    pub async fn pragma_report(&self) -> Stored<Vec<(String, String)>> {
        self.db.pragma_report().await
    }
}
