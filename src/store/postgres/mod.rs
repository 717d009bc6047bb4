//! The cellar of many nodes: PostgreSQL with PostGIS.
//!
//! The same promises as the embedded one's, kept among many writers: what two calls could both do is decided by a row
//! lock or a unique key. Every call has a deadline here and another on the server.

mod alerts;
mod at;
mod check_ins;
mod connect;
mod emergencies;
mod expiry;
mod failure;
mod fences;
mod fixes;
mod folds;
mod forget;
mod identity;
mod inbox;
mod migrate;
mod places;
mod push;
mod retention;
mod sessions;
mod tracking;
mod transitions;
mod trust;
mod values;
mod zones;

pub use fixes::PostgresFixes;
pub(super) use fixes::{forget_numbers, refuse_fixes};
pub use migrate::migrate;
pub use places::ZONES_IN_BOX;

use super::{Fixes, Store, database};
use crate::clock::Clock;
use crate::error::Stored;

pub(super) use connect::{Database, Tx, again};
use std::sync::Arc;

/// Both stores of one database.
pub struct Stores {
    /// People, trust, fences, alerts.
    pub main: Arc<PostgresStore>,
    /// Fixes.
    pub fixes: Arc<PostgresFixes>,
    /// Both, as the shared use cases see them.
    pub new: Arc<Store>,
}

/// People, trust, fences, alerts.
pub struct PostgresStore {
    db: Database,
    /// Forgetting a person reaches into the fixes.
    fixes: Arc<PostgresFixes>,
    /// Tells whether a link is in force at the moment an alert is stored.
    clock: Clock,
}

/// Connects to a database whose schema is up to date.
///
/// # Errors
/// When it cannot be reached, or its schema is older or newer than this program can run on.
pub async fn open(url: &str, clock: Clock) -> Stored<Stores> {
    let db = Database::new(url)?;
    migrate::check(&db.routine).await?;
    let fixes = Arc::new(PostgresFixes::new(db.clone(), clock.clone()));
    let new_fixes = Arc::new(Fixes::new(database::Database::Pg(db.for_fixes())));
    let new = Arc::new(Store::new(database::Database::Pg(db.clone()), new_fixes, clock.clone()));
    Ok(Stores { main: Arc::new(PostgresStore { db, fixes: Arc::clone(&fixes), clock }), fixes, new })
}

impl PostgresStore {
    /// Whether the store can take an emergency now; answers within half a second.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn healthy(&self) -> Stored<()> {
        self.db.healthy().await
    }
    /// What the server does before it answers a commit.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn settings(&self) -> Stored<Vec<(String, String)>> {
        let settings = sqlx::query_as(
            "SELECT name, setting FROM pg_settings
             WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name",
        );
        failure::read(settings.fetch_all(&self.db.routine)).await
    }
    /// Stops taking calls and closes the connections.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
