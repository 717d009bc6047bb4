//! The stores of the domains, as a node opens them.

use super::database::Database;
use super::{Opened, postgres, sqlite};
use crate::alerts::AlertsStore;
use crate::clock::Clock;
use crate::error::Stored;
use crate::identity::IdentityStore;
use crate::push::PushStore;
use crate::timekeeper::TimeStore;
use crate::tracking::{FixStore, TrackingStore, ZoneStore};
use crate::trust::TrustStore;
use futures_util::future::join_all;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a node keeps everything.
#[derive(Clone)]
pub enum Backend {
    /// In files of its own.
    Folder(PathBuf),
    /// In a database that other nodes use too: a `postgres://` address.
    Database(String),
}

impl Backend {
    /// Whether it is outside of this process, and others use it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// An address may have a password in it.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "the store in {}", folder.display()),
            Self::Database(_) => f.write_str("the database"),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({self})")
    }
}

/// What decides whether an answer is on the disk.
#[derive(Clone, PartialEq, Debug)]
pub struct Durability {
    /// The settings, as live connections have them.
    pub settings: String,
    /// Whether what is answered outlives a loss of power.
    pub on_disk: bool,
}

/// The stores of the domains.
pub struct Stores {
    /// Accounts, devices, sessions.
    pub identity: Arc<dyn IdentityStore>,
    /// Links and disclosures.
    pub trust: Arc<dyn TrustStore>,
    /// Fences and their history.
    pub tracking: Arc<dyn TrackingStore>,
    /// Emergencies, alerts, inboxes, check-ins.
    pub alerts: Arc<dyn AlertsStore>,
    /// Endpoints, and what is handed to providers.
    pub push: Arc<dyn PushStore>,
    /// Public zones.
    pub zones: Arc<dyn ZoneStore>,
    /// Fixes and trails.
    pub fixes: Arc<dyn FixStore>,
    /// The clock. A look at it says whether emergencies are taken.
    pub time: Arc<dyn TimeStore>,
    opened: Opened,
}

/// Opens a store.
///
/// # Errors
/// When it cannot be used; the message says why.
pub async fn open(backend: &Backend, clock: Clock) -> Stored<Stores> {
    match backend {
        Backend::Folder(folder) => Ok(sqlite::open(folder, clock).await?.into()),
        Backend::Database(url) => Ok(postgres::open(url, clock).await?.into()),
    }
}

/// Brings the schema of a store up to date.
///
/// # Errors
/// When it cannot be reached, or what is there is not cima's.
pub async fn migrate(backend: &Backend, clock: Clock) -> Stored<()> {
    match backend {
        // The one process that has the files does it whenever it opens them.
        Backend::Folder(folder) => {
            Stores::from(sqlite::open(folder, clock).await?).close().await;
            Ok(())
        }
        Backend::Database(url) => postgres::migrate(url).await,
    }
}

impl Stores {
    /// Its databases, each with a name; the first is where emergencies are. On PostgreSQL fixes are in the same one.
    fn parts(&self) -> Vec<(&'static str, &Database)> {
        let (main, fixes) = (&self.opened.main.db, self.opened.fixes.database());
        match main {
            Database::Lite(_) => vec![("store", main), ("fixes", fixes)],
            Database::Pg(_) => vec![("store", main)],
        }
    }

    /// Each part of the store that emergencies are not kept in, and why it could not store anything now.
    pub async fn other_parts(&self) -> Vec<(&'static str, Stored<()>)> {
        let parts = self.parts().into_iter().skip(1);
        join_all(parts.map(async |(name, db)| (name, db.healthy().await))).await
    }

    /// What decides whether an answer is on the disk.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn durability(&self) -> Stored<Durability> {
        let (mut on_disk, mut all) = (true, Vec::new());
        for (_, db) in self.parts() {
            let settings = db.settings().await?;
            on_disk &= db.is_on_disk(&settings);
            all.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        }
        Ok(Durability { settings: all.join(" "), on_disk })
    }

    /// Stops taking calls and leaves everything whole.
    pub async fn close(&self) {
        for (_, db) in self.parts() {
            db.close().await;
        }
    }
}

impl From<Opened> for Stores {
    fn from(opened: Opened) -> Self {
        Self {
            identity: opened.main.clone(),
            trust: opened.main.clone(),
            tracking: opened.main.clone(),
            alerts: opened.main.clone(),
            push: opened.main.clone(),
            zones: opened.main.clone(),
            time: opened.main.clone(),
            fixes: opened.fixes.clone(),
            opened,
        }
    }
}
