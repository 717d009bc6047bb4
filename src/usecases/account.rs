//! The end of an account.

use super::Refusal;
use crate::bus::Event;
use crate::identity::Caller;
use crate::services::Services;

/// Deletes the caller's account and everything known of them. An open emergency ends first, and contacts are told while it
/// is still known who they are; then the person is forgotten; then whoever watches them looks again. Needs step-up.
///
/// # Errors
/// When step-up is needed or the store failed. A repeat goes on where this one stopped.
pub async fn delete(services: &Services, caller: Caller) -> Result<(), Refusal> {
    services.identity.require_step_up(&caller).await?;
    services.alerts.forget(caller.user).await?;
    services.identity.forget(caller.user).await?;
    services.bus.publish(Event::Visibility { subject: caller.user });
    Ok(())
}
