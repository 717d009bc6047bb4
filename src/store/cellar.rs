//! One cellar, whatever it is made of.

use super::sqlite;
use crate::alerts::AlertsStore;
use crate::clock::Clock;
use crate::error::{StoreError, Stored};
use crate::identity::IdentityStore;
use crate::push::PushStore;
use crate::tracking::{FixStore, TrackingStore};
use crate::trust::TrustStore;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a node keeps everything.
#[derive(Clone, Debug)]
pub enum Place {
    /// In files of its own.
    Folder(PathBuf),
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
    /// Fixes and trails.
    pub fixes: Arc<dyn FixStore>,
    cellar: Arc<dyn Cellar>,
}

/// What a node asks of its cellar as a whole.
#[async_trait]
pub(super) trait Cellar: Send + Sync {
    /// Each part of it, and whether that could take an emergency now.
    async fn health(&self) -> Vec<(&'static str, Stored<()>)>;
    /// What decides whether an answer is on the disk, by part: name and value of each setting, from live connections.
    async fn settings(&self) -> Stored<Vec<Vec<(String, String)>>>;
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
    }
}

impl Stores {
    /// Each part of the cellar, and why it could not take an emergency now.
    pub async fn health(&self) -> Vec<(&'static str, Option<StoreError>)> {
        self.cellar.health().await.into_iter().map(|(name, answer)| (name, answer.err())).collect()
    }

    /// What decides whether an answer is on the disk, by part: name and value of each setting, from live connections.
    ///
    /// # Errors
    /// When the cellar does not answer.
    pub async fn settings(&self) -> Stored<Vec<Vec<(String, String)>>> {
        self.cellar.settings().await
    }

    /// Stops taking calls and leaves everything whole.
    pub async fn close(&self) {
        self.cellar.close().await;
    }
}

impl From<sqlite::Stores> for Stores {
    fn from(stores: sqlite::Stores) -> Self {
        Self {
            identity: stores.main.clone(),
            trust: stores.main.clone(),
            tracking: stores.main.clone(),
            alerts: stores.main.clone(),
            push: stores.main.clone(),
            fixes: stores.fixes.clone(),
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
    async fn settings(&self) -> Stored<Vec<Vec<(String, String)>>> {
        Ok(vec![self.main.pragma_report().await?, self.fixes.pragma_report().await?])
    }
    async fn close(&self) {
        self.main.close().await;
        self.fixes.close().await;
    }
}
