//! For development: prints to the log what a provider would get.

use super::{Notification, Provider, SendOutcome, Target};
use async_trait::async_trait;

/// Takes the place of a provider that is not configured.
pub struct Dev;

#[async_trait]
impl Provider for Dev {
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        tracing::info!(
            channel = target.channel().word(),
            alert = %notification.alert,
            kind = notification.matter.word(),
            urgency = notification.urgency.word(),
            "push",
        );
        SendOutcome::Accepted
    }
}
