//! Where somebody is, to somebody else: granted now, and written down as disclosed before it is returned.

use super::Refusal;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, GeofenceId, UserId};
use crate::services::Services;
use crate::tracking::StoredFix;
use crate::trust::{Grant, TrustError};

/// Where to go on in a track: after the fix with this time, device and number.
pub type TrackCursor = (Timestamp, DeviceId, i64);

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

/// The newest fix of somebody, and the grant it is shown for.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show it, or when the store failed.
pub async fn newest(
    services: &Services,
    viewer: UserId,
    subject: UserId,
) -> Result<(Grant, StoredFix), Refusal> {
    let grant = grant(services, viewer, subject).await?;
    let newest = services.alerts.newest_position(&grant).await?.ok_or(TrustError::NotAvailable)?;
    disclose(services, &grant, 1).await?;
    Ok((grant, newest))
}

/// A page of the track of somebody, oldest first, as far as the grant covers it; and whether there is more.
///
/// # Errors
/// [`TrustError::NotAvailable`] whatever the reason not to show it, or when the store failed.
pub async fn track(
    services: &Services,
    viewer: UserId,
    subject: UserId,
    (from, to): (Timestamp, Timestamp),
    after: Option<TrackCursor>,
    limit: u32,
) -> Result<(Vec<StoredFix>, bool), Refusal> {
    let grant = grant(services, viewer, subject).await?;
    let mut found = services.tracking.track(&grant, from, to, after, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    if !found.is_empty() {
        disclose(services, &grant, found.len() as u64).await?;
    }
    Ok((found, more))
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
