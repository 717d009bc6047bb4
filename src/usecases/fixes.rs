//! How a device's fixes come in: for how long they are kept, and which device drives the person's fences.

use super::{Refusal, devices};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::UserId;
use crate::identity::{Caller, IdentityError};
use crate::services::Services;
use crate::tracking::{Ingest, Recorded, TrackingError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// For the fixes of a request to be on disk.
const STORED_WITHIN: Duration = Duration::from_secs(10);
/// How long the person is kept in memory after a request, so that what was found late is decided.
const LINGER: Duration = Duration::from_secs(10);

/// How long the person's fixes are kept: by their own wish, or the server's setting. An older fix is refused.
///
/// # Errors
/// When the store failed.
pub async fn retention(services: &Services, user: UserId) -> Result<Duration, IdentityError> {
    Ok(services.identity.retention(user).await?.unwrap_or(services.tracking.retention()))
}

/// Until when no time of a fix refuses its place, because an emergency of the person's is open as they are shown it, or ended
/// lately. A store that does not say refuses none.
pub async fn any_time_until(services: &Services, user: UserId) -> Option<Timestamp> {
    services.alerts.any_time_until(user).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "whether somebody is in an emergency could not be read; no time refuses a place of theirs");
        Some(Timestamp::from_unix_ms(i64::MAX))
    })
}

/// The way in for the fixes of the caller's device.
///
/// # Errors
/// When the store failed.
pub async fn attach(services: &Services, caller: Caller) -> Result<Ingest, IdentityError> {
    let mut tracked = services.identity.ensure_tracked(caller.user, caller.device).await?;
    if let Some(other) = tracked.filter(|tracked| *tracked != caller.device) {
        tracked = Some(devices::consider(services, caller.user, other, caller.device).await?);
    }
    Ok(services.tracking.attach(caller.user, caller.device, tracked))
}

/// Stores the fixes of one request; they are on disk when this returns.
///
/// # Errors
/// When the store failed, or [`TrackingError::Busy`] if they were not on disk in time. A repeat finds what was stored.
pub async fn store(services: &Services, caller: Caller, fixes: Vec<Fix>) -> Result<Recorded, Refusal> {
    if fixes.is_empty() {
        return Ok(Recorded::default());
    }
    let (fixes, again) = told_apart(services, caller, fixes).await?;
    if fixes.is_empty() {
        return Ok(Recorded { duplicates: again, ..Recorded::default() });
    }
    let way_in = attach(services, caller).await?;
    let (receipt, on_disk) = oneshot::channel();
    let receipt = Box::new(move |recorded| {
        // An error means that nobody waits any more; a repeat will find them as duplicates.
        let _ = receipt.send(recorded);
    });
    let stored = async {
        let taken = services.tracking.ingest(&way_in, fixes, false, receipt);
        if taken { on_disk.await.ok() } else { None }
    };
    let recorded = timeout(STORED_WITHIN, stored).await.ok().flatten();
    services.tracking.keep_for(way_in, LINGER);
    let mut recorded = recorded.ok_or(TrackingError::Busy)?;
    recorded.duplicates.extend(again);
    Ok(recorded)
}

/// Those that are to be stored, and the numbers of those that came before under a number of their phone's: of a fix without one,
/// the same time and place are the same fix.
async fn told_apart(
    services: &Services,
    caller: Caller,
    mut fixes: Vec<Fix>,
) -> Result<(Vec<Fix>, Vec<i64>), Refusal> {
    let times: Vec<Timestamp> =
        fixes.iter().filter(|fix| fix.number().is_none()).map(|fix| fix.fixed_at).collect();
    if times.is_empty() {
        return Ok((fixes, Vec::new()));
    }
    let known = services.tracking.taken_at(caller.device, &times).await?;
    let is_known = |fix: &Fix| {
        fix.number().is_none()
            && known.iter().any(|known| {
                known.number().is_some() && known.fixed_at == fix.fixed_at && known.point == fix.point
            })
    };
    let again = fixes.iter().filter(|fix| is_known(fix)).map(|fix| fix.seq).collect();
    fixes.retain(|fix| !is_known(fix));
    Ok((fixes, again))
}
