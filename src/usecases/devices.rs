//! A person's devices: which one drives the fences, and how each is reached.

use super::Refusal;
use crate::id::{DeviceId, UserId};
use crate::identity::{Caller, Device, SessionTokens, SignIn};
use crate::push::{Channel, EndpointIn, EndpointView};
use crate::services::Services;

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
