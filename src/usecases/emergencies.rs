//! Raising and ending, as the person in the emergency does it.

use super::{Refusal, devices, fixes};
use crate::alerts::{Accepted, AlertError, Emergency, EmergencyView, EndWith, Manner, Raise, subject_view};
use crate::geo::Fix;
use crate::id::EmergencyId;
use crate::identity::{Caller, PinOutcome};
use crate::runtime::detach;
use crate::services::Services;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Which device is tracked from now on is looked at so long after a raise: its alert goes first.
const ALERT_FIRST: Duration = Duration::from_millis(300);

/// What can be read of a raise.
pub fn read_raise(services: &Services, given: &Value) -> Raise {
    Raise::read(given, services.clock.now(), services.tracking.retention())
}

/// Raises an emergency, or joins the open one. Its fix goes into the track the usual way, whatever became of the raise, and
/// nobody waits for that. `read_at` is when its frame or its body was read.
///
/// # Errors
/// Only when the store failed.
pub async fn raise(
    services: &Services,
    caller: Caller,
    mut given: Raise,
    read_at: Instant,
) -> Result<Accepted, AlertError> {
    let numbered = given.fix.clone().filter(|_| given.fix_is_numbered);
    if let Some(fix) = &mut given.fix {
        // Under the time of a clock that is fast it would seem newer than all that the phone sends next.
        fix.fixed_at = fix.fixed_at.min(services.clock.now());
    }
    let accepted = services.alerts.raise(caller.user, Some(caller.device), given, read_at).await;
    keep_up(services.clone(), caller, numbered);
    accepted
}

/// What follows from a raise, beside the emergency: its fix belongs into the track, and the person is with this device.
fn keep_up(services: Services, caller: Caller, fix: Option<Fix>) {
    detach("after a raise", async move {
        if let Some(fix) = fix {
            put_into_track(&services, caller, fix).await;
        }
        sleep(ALERT_FIRST).await;
        match services.identity.ensure_tracked(caller.user, caller.device).await {
            Ok(tracked) if tracked == Some(caller.device) => {}
            Ok(_) => devices::follow(&services, caller.user, caller.device).await,
            Err(error) => {
                tracing::warn!(%error, "whether the device that raised is tracked could not be read")
            }
        }
    });
}

async fn put_into_track(services: &Services, caller: Caller, fix: Fix) {
    match fixes::attach(services, caller).await {
        Ok(way_in) => {
            // A node that is stopping takes it no more: it is stored beside the emergency all the same.
            let _ = services.tracking.ingest(&way_in, vec![fix], false, Box::new(|_| ()));
        }
        Err(error) => {
            tracing::warn!(%error, "the fix of a raise is beside its emergency, and not in the track");
        }
    }
}

/// Ends one's own emergency, with the PIN if one is set. Which PIN it was decides what is stored, and nothing of the answer.
///
/// # Errors
/// When the emergency is not the caller's, or the PIN is missing or wrong.
pub async fn end(
    services: &Services,
    caller: Caller,
    id: EmergencyId,
    with: EndWith,
    pin: Option<&str>,
) -> Result<Emergency, Refusal> {
    // Who has no part in it gives away no try of a PIN.
    services.alerts.check_own(caller.user, id).await?;
    let manner = match services.identity.check_pin(caller.user, pin).await? {
        PinOutcome::Accepted => Manner::True,
        PinOutcome::Duress => Manner::Duress,
    };
    Ok(services.alerts.end(caller.user, id, with, manner).await?)
}

/// The caller's own emergency after its end, with what people are called.
pub async fn shown_ended(services: &Services, emergency: &Emergency, caller: Caller) -> EmergencyView {
    let view = shown(emergency, caller);
    match caller.session() {
        Some(_) => services.alerts.named_one(view).await,
        None => view,
    }
}

/// The caller's own emergency as an answer to a change of it. A distress token reads nothing: neither who is on it nor what
/// another device said.
pub fn shown(emergency: &Emergency, caller: Caller) -> EmergencyView {
    let view = subject_view(emergency, None);
    match caller.session() {
        Some(_) => view,
        None => EmergencyView { claims: Vec::new(), message: None, ..view },
    }
}
