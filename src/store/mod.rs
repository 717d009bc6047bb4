//! The store: everything that must not be lost, behind the store traits of the domains.
//!
//! A store method is one use case: atomic, promised in its trait's comment, and held to that promise on every
//! backend by `tests/store_contract.rs`. Use cases and rows are written once, in a folder for each domain, over a
//! `Database` of either backend: [`sqlite`], the embedded default, and [`postgres`], for many nodes. Those two keep what
//! differs: connections and the writer, locks, geometry, and how fixes are laid out.
//!
//! No SQL leaves this module, and no domain's rule is in it: a store finds, counts and keeps, and decides only what
//! has to be decided inside a transaction (who is a contact at this moment, whether an id is new).

mod alerts;
mod database;
mod failure;
mod fixes;
mod identity;
mod pool;
pub mod postgres;
mod push;
mod sql;
pub mod sqlite;
mod stores;
mod time;
mod tracking;
mod trust;
mod value;

pub use fixes::Fixes;
pub use stores::{Backend, Durability, Stores, migrate, open};

pub use crate::error::{Fault, StoreError, Stored};

use crate::clock::Clock;
use database::Database;
use std::sync::Arc;
use std::time::Duration;

/// How long it is told where zones changed: a node that has not asked for so long looks everywhere.
const CHANGES_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// People, trust, fences, alerts, push; fixes are in [`Fixes`].
pub struct Store {
    db: Database,
    /// Forgetting a person reaches into the fixes.
    fixes: Arc<Fixes>,
    /// Tells whether a link is in force at the moment an alert is stored.
    clock: Clock,
    /// Where one process has the store to itself, who owns a device lives and ends with it.
    owners: tracking::Owners,
}

/// What one opening gives.
pub struct Opened {
    /// People, trust, fences, alerts, push.
    pub main: Arc<Store>,
    /// Fixes.
    pub fixes: Arc<Fixes>,
}

impl Opened {
    fn new(main: Database, fixes: Database, clock: Clock) -> Self {
        let fixes = Arc::new(Fixes::new(fixes));
        let owners = tracking::Owners::default();
        Self { main: Arc::new(Store { db: main, fixes: Arc::clone(&fixes), clock, owners }), fixes }
    }
}

impl Store {
    /// The files it is kept in, `cima.db` and `fixes.db`, if it is in files.
    fn files(&self) -> Option<(&sqlite::Database, &sqlite::Database)> {
        match (&self.db, self.fixes.database()) {
            (Database::Lite(main), Database::Lite(fixes)) => Some((main, fixes)),
            _ => None,
        }
    }
    /// Whether the store can take an emergency now: it looks at the clock, which it writes down.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn healthy(&self) -> Stored<()> {
        time::seen(&self.db, self.clock.wall()).await.map(|_| ())
    }
    /// What decides whether an answer is on the disk, as live connections have it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settings(&self) -> Stored<Vec<(String, String)>> {
        self.db.settings().await
    }
    /// Stops taking calls and leaves everything whole.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
