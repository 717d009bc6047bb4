//! A person's devices: which one drives the fences, and how each is reached.

use super::Refusal;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::identity::{Caller, Device, SessionTokens, SignIn};
use crate::push::{Channel, EndpointIn, EndpointView};
use crate::runtime::{Pace, Tasks};
use crate::services::Services;
use crate::tracking::Companion;
use std::time::Duration;

/// Between looks at devices that stream and are not tracked.
const CONSIDERED: Duration = Duration::from_secs(300);
/// Of them in one look.
const AT_ONCE: usize = 1_000;

/// Says whether a device drives the caller's fences; tracking goes on with the one that does now.
///
/// # Errors
/// When the device is not the caller's, or the store failed.
pub async fn set_tracked(
    services: &Services,
    caller: Caller,
    id: DeviceId,
    tracked: bool,
) -> Result<Device, Refusal> {
    let before = services.identity.device(caller.user, id).await?;
    let device = services.identity.set_tracked(caller.user, id, tracked).await?;
    if device.tracked || before.tracked {
        services.tracking.tracked_changed(caller.user, device.tracked.then_some(id));
    }
    Ok(device)
}

/// Signs in on a device, which drives the person's fences from then on if they say that it is their phone now.
///
/// # Errors
/// As [`Identity::sign_in`](crate::identity::Identity::sign_in). That a phone could not be made the tracked one is no error of
/// a sign-in: raising, or the next sign-in, makes it that.
pub async fn sign_in(services: &Services, given: SignIn) -> Result<SessionTokens, Refusal> {
    let is_my_phone = given.device.is_my_phone == Some(true);
    let tokens = services.identity.sign_in(given).await?;
    if is_my_phone {
        follow(services, tokens.user_id, tokens.device_id).await;
    }
    Ok(tokens)
}

/// The person is with this device: it drives their fences from here on.
pub(super) async fn follow(services: &Services, user: UserId, device: DeviceId) {
    match services.identity.set_tracked(user, device, true).await {
        Ok(_) => services.tracking.tracked_changed(user, Some(device)),
        Err(error) => tracing::warn!(%error, %device, "a device could not be made the tracked one"),
    }
}

/// Looks whether somebody is with another device than the tracked one, which is what drives their fences and what contacts are
/// shown. The one that is tracked after it. Where it cannot be told, they are asked, once a day.
///
/// # Errors
/// When the store failed.
pub(super) async fn consider(
    services: &Services,
    user: UserId,
    tracked: DeviceId,
    other: DeviceId,
) -> Stored<DeviceId> {
    let (template, with) = match services.tracking.companion(tracked, other).await? {
        Companion::Tracked => return Ok(tracked),
        Companion::Other => {
            tracing::info!(from = %tracked, to = %other, "another device is tracked: the one that sends");
            follow(services, user, other).await;
            ("device.followed", other)
        }
        Companion::Unclear => ("device.which", tracked),
    };
    // It is decided all the same if it cannot be told.
    if let Err(error) = services.alerts.announce_device(user, other, template).await {
        tracing::warn!(%error, template, "a person was not told of their devices");
    }
    Ok(with)
}

/// Looks now and then at the devices that stream here and are not tracked.
pub fn start_considering(services: &Services, tasks: &Tasks) {
    let services = services.clone();
    tasks.every("companions", Pace::of(CONSIDERED).later(), move || {
        let services = services.clone();
        async move {
            for (user, tracked, other) in services.tracking.others_that_send(AT_ONCE) {
                if let Err(error) = consider(&services, user, tracked, other).await {
                    tracing::warn!(%error, "which device somebody has with them could not be looked at");
                }
            }
        }
    });
}

/// Removes a device of the caller's. If it drove their fences, none does now.
///
/// # Errors
/// When the device is not the caller's, or the store failed.
pub async fn remove(services: &Services, caller: Caller, id: DeviceId) -> Result<(), Refusal> {
    let before = services.identity.device(caller.user, id).await?;
    services.identity.remove_device(caller.user, id).await?;
    if before.tracked {
        services.tracking.tracked_changed(caller.user, None);
    }
    Ok(())
}

/// How a device of the caller's is reached.
///
/// # Errors
/// When the device is not the caller's, or the store failed.
pub async fn endpoints(
    services: &Services,
    caller: Caller,
    id: DeviceId,
) -> Result<Vec<EndpointView>, Refusal> {
    services.identity.device(caller.user, id).await?;
    Ok(services.push.endpoints(caller.user, id).await?)
}

/// Registers how a device is reached through a channel; a webhook's secret if one was made. What does not go through the
/// phone's own platform takes alerts elsewhere: it needs step-up.
///
/// # Errors
/// When step-up is needed, the endpoint cannot be used, the device is not the caller's, or the store failed.
pub async fn register_endpoint(
    services: &Services,
    caller: Caller,
    device: DeviceId,
    channel: Channel,
    given: EndpointIn,
) -> Result<Option<String>, Refusal> {
    if !channel.is_platforms() {
        services.identity.require_step_up(&caller).await?;
    }
    Ok(services.push.register(caller.user, device, channel, given).await?)
}
