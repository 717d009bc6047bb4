//! Where somebody is, to somebody else: granted now, and written down as disclosed before it is returned.

use super::Refusal;
use crate::alerts::Names;
use crate::error::Stored;
use crate::id::{DeviceId, GeofenceId, UserId};
use crate::services::Services;
use crate::tracking::{StoredFix, TrackPage};
use crate::trust::{Grant, TrustError};
use std::time::Duration;
use tokio::time::timeout;

/// For the names beside a position.
const NAMES: Duration = Duration::from_millis(500);

/// The proof that `viewer` may see `subject` now.
async fn grant(services: &Services, viewer: UserId, subject: UserId) -> Result<Grant, Refusal> {
    Ok(services.alerts.grant(viewer, subject, None).await?.ok_or(TrustError::NotAvailable)?)
}

/// Writes down that so many fixes are disclosed. What cannot be written down may not be shown.
///
/// # Errors
/// When the store failed.
pub async fn disclose(services: &Services, grant: &Grant, fixes: u64) -> Stored<()> {
    services.trust.ledger().record(grant, fixes).await
}

/// The newest fix of somebody, the grant it is shown for, and what they and their devices are called.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show it, or when the store failed.
pub async fn newest(
    services: &Services,
    viewer: UserId,
    subject: UserId,
) -> Result<(Grant, StoredFix, Names), Refusal> {
    let grant = grant(services, viewer, subject).await?;
    let newest = services.alerts.newest_position(&grant).await?.ok_or(TrustError::NotAvailable)?;
    disclose(services, &grant, 1).await?;
    Ok((grant, newest, names(services, subject).await))
}

/// What somebody and their devices are called. A position waits no longer for it, and is shown without it.
pub async fn names(services: &Services, subject: UserId) -> Names {
    match timeout(NAMES, services.alerts.names_of(subject)).await {
        Ok(Ok(names)) => names,
        Ok(Err(error)) => {
            tracing::warn!(%error, "names cannot be read; a position is shown without them");
            Names::default()
        }
        Err(_) => Names::default(),
    }
}

/// A page of the track of somebody, of one device or of all, as far as the grant covers it; and whether there is more.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show it, or when the store failed.
pub async fn track(
    services: &Services,
    viewer: UserId,
    subject: UserId,
    of: Option<DeviceId>,
    page: TrackPage,
) -> Result<(Vec<StoredFix>, bool), Refusal> {
    let grant = grant(services, viewer, subject).await?;
    let one_more = TrackPage { limit: page.limit + 1, ..page };
    let mut found = services.tracking.track(&grant, of, one_more).await?;
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    if !found.is_empty() {
        disclose(services, &grant, found.len() as u64).await?;
    }
    Ok((found, more))
}

/// The devices of somebody whose track may be seen, the tracked one first, with their names.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show them, or when the store failed.
pub async fn covered_devices(
    services: &Services,
    viewer: UserId,
    subject: UserId,
) -> Result<Vec<(DeviceId, String)>, Refusal> {
    let grant = grant(services, viewer, subject).await?;
    let devices = services.tracking.covered_devices(&grant).await?;
    let names = services.alerts.names_of(subject).await?;
    let named = |device: DeviceId| (device, names.device(device));
    Ok(devices.into_iter().map(named).collect())
}

/// The fences that somebody is in now.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show them, or when the store failed.
pub async fn fences_inside(
    services: &Services,
    viewer: UserId,
    subject: UserId,
) -> Result<Vec<(GeofenceId, String)>, Refusal> {
    services.trust.check_fences_inside(viewer, subject).await?;
    Ok(services.tracking.fences_inside(subject).await?)
}
