//! One cellar, whatever it is made of.

use super::{postgres, sqlite};
use crate::alerts::AlertsStore;
use crate::clock::Clock;
use crate::error::{StoreError, Stored};
use crate::identity::IdentityStore;
use crate::push::PushStore;
use crate::tracking::{FixStore, TrackingStore, ZoneStore};
use crate::trust::TrustStore;
use async_trait::async_trait;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a node keeps everything.
#[derive(Clone)]
pub enum Place {
    /// In files of its own.
    Folder(PathBuf),
    /// In a database that other nodes use too: a `postgres://` address.
    Database(String),
}

/// An address may have a password in it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "the store in {}", folder.display()),
            Self::Database(_) => f.write_str("the database"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
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

/// The stores of the rooms.
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
    cellar: Arc<dyn Cellar>,
}

/// What a node asks of its cellar as a whole.
#[async_trait]
pub(super) trait Cellar: Send + Sync {
    /// Each part of it, and whether that could take an emergency now.
    async fn health(&self) -> Vec<(&'static str, Stored<()>)>;
    /// What decides whether an answer is on the disk.
    async fn durability(&self) -> Stored<Durability>;
    /// Stops taking calls and leaves everything whole.
    async fn close(&self);
}

/// Opens a cellar.
///
/// # Errors
/// When it cannot be used; the message says why.
pub async fn open(place: &Place, clock: Clock) -> Stored<Stores> {
    match place {
        Place::Folder(folder) => Ok(sqlite::open(folder, clock).await?.into()),
        Place::Database(url) => Ok(postgres::open(url, clock).await?.into()),
    }
}

/// Brings the schema of a cellar up to date.
///
/// # Errors
/// When it cannot be reached, or what is there is not cima's.
pub async fn migrate(place: &Place, clock: Clock) -> Stored<()> {
    match place {
        // The one process that has the files does it whenever it opens them.
        Place::Folder(folder) => {
            let stores: Stores = sqlite::open(folder, clock).await?.into();
            stores.close().await;
            Ok(())
        }
        Place::Database(url) => postgres::migrate(url).await,
    }
}

impl Stores {
    /// Each part of the cellar, and why it could not take an emergency now.
    pub async fn health(&self) -> Vec<(&'static str, Option<StoreError>)> {
        self.cellar.health().await.into_iter().map(|(name, answer)| (name, answer.err())).collect()
    }

    /// What decides whether an answer is on the disk.
    ///
    /// # Errors
    /// When the cellar does not answer.
    pub async fn durability(&self) -> Stored<Durability> {
        self.cellar.durability().await
    }

    /// Stops taking calls and leaves everything whole.
    pub async fn close(&self) {
        self.cellar.close().await;
    }
}

impl From<sqlite::Stores> for Stores {
    fn from(stores: sqlite::Stores) -> Self {
        Self {
            identity: stores.new.clone(),
            trust: stores.main.clone(),
            tracking: stores.new.clone(),
            alerts: stores.new.clone(),
            push: stores.main.clone(),
            zones: stores.main.clone(),
            fixes: stores.new.fixes(),
            cellar: Arc::new(stores),
        }
    }
}

#[async_trait]
impl Cellar for sqlite::Stores {
    async fn health(&self) -> Vec<(&'static str, Stored<()>)> {
        let (main, fixes) = tokio::join!(self.main.healthy(), self.fixes.healthy());
        vec![("store", main), ("fixes", fixes)]
    }
    async fn durability(&self) -> Stored<Durability> {
        let parts = [self.main.pragma_report().await?, self.fixes.pragma_report().await?];
        let on_disk = parts.iter().all(|part| part.contains(&("synchronous".into(), "2".into())));
        let settings = parts.iter().flatten().map(|(name, value)| format!("{name}={value}"));
        Ok(Durability { settings: settings.collect::<Vec<_>>().join(" "), on_disk })
    }
    async fn close(&self) {
        self.main.close().await;
        self.fixes.close().await;
    }
}

impl From<postgres::Stores> for Stores {
    fn from(stores: postgres::Stores) -> Self {
        Self {
            identity: stores.new.clone(),
            trust: stores.main.clone(),
            tracking: stores.new.clone(),
            alerts: stores.new.clone(),
            push: stores.main.clone(),
            zones: stores.main.clone(),
            fixes: stores.new.fixes(),
            cellar: Arc::new(stores),
        }
    }
}

#[async_trait]
impl Cellar for postgres::Stores {
    async fn health(&self) -> Vec<(&'static str, Stored<()>)> {
        vec![("store", self.main.healthy().await)]
    }
    async fn durability(&self) -> Stored<Durability> {
        let settings = self.main.settings().await?;
        let on_disk = settings.iter().all(|(_, value)| value != "off");
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Durability { settings: settings.collect::<Vec<_>>().join(" "), on_disk })
    }
    async fn close(&self) {
        self.main.close().await;
    }
}
