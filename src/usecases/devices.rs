//! A person's devices: which one drives the fences, and how each is reached.

use super::Refusal;
use crate::id::DeviceId;
use crate::identity::{Caller, Device};
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
