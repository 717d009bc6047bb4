//! Use cases that cross domains: what a caller asks for in one request and more than one service has a part in.
//!
//! A domain knows nothing of the domains above it, and a transport holds no rules. So the order of such a use case (which
//! service is asked first, what is undone when the second one fails, what waits for nobody) has a place of its own here,
//! beside [`Services`](crate::services::Services). `http` and `stream` both call it and only read and write what is theirs.
//! What one service does alone is called on that service.

pub mod account;
pub mod devices;
pub mod emergencies;
pub mod fixes;
pub mod links;
pub mod positions;

use crate::alerts::AlertError;
use crate::error::StoreError;
use crate::identity::IdentityError;
use crate::push::PushError;
use crate::tracking::TrackingError;
use crate::trust::TrustError;

/// Why a use case said no: the refusal of the domain that did.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Identity refused.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Trust refused.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Tracking refused.
    #[error(transparent)]
    Tracking(#[from] TrackingError),
    /// Alerts refused.
    #[error(transparent)]
    Alerts(#[from] AlertError),
    /// Push refused.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
