//! An emergency for the tests beside it.

use super::{EmergencyKind, Opening};
use crate::clock::Timestamp;
use crate::id::{EmergencyId, UserId};
use std::time::Duration;
use uuid::Uuid;

pub(super) const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

pub(super) fn after(s: u64) -> Timestamp {
    T0 + Duration::from_secs(s)
}

pub(super) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

/// What user 2 opens by hand.
pub(super) fn opening(countdown: Duration) -> Opening {
    Opening {
        id: EmergencyId(Uuid::from_u128(1)),
        subject: user(2),
        device: None,
        kind: EmergencyKind::Sos,
        message: None,
        fix: None,
        countdown,
    }
}
