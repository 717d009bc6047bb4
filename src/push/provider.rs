//! What every provider does, and what can become of a send.

use super::{Notification, Target};
use crate::clock::Timestamp;
use async_trait::async_trait;
use std::time::Duration;

/// What became of one send.
#[derive(Clone, PartialEq, Debug)]
pub enum SendOutcome {
    /// The provider took it.
    Accepted,
    /// The provider says that the endpoint does not exist any more; since when, if it says that too.
    Unregistered {
        /// What was registered at this time or later is another registration.
        since: Option<Timestamp>,
    },
    /// Not now. The word says why, for logs and metrics; nothing that a provider wrote is in it.
    Retry {
        /// The provider's Retry-After.
        after: Option<Duration>,
        /// Why.
        fault: &'static str,
    },
    /// Never like this: another try would meet the same answer.
    Rejected {
        /// Why.
        fault: &'static str,
    },
}

impl SendOutcome {
    /// Another try may work.
    pub const fn retry(fault: &'static str) -> Self {
        Self::Retry { after: None, fault }
    }
    /// The word it is counted as.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unregistered { .. } => "unregistered",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// A way to hand notifications over. Each urgency has one of its own.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Gets ready ahead of need, so that an emergency waits for no token. Called at the start and every minute.
    async fn warm(&self) {}
    /// Hands one notification over. The caller bounds it in time and may drop it.
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome;
}
