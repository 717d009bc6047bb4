//! Identifiers, one newtype a kind, so that a device can never be passed where a person is meant.
//!
//! Ids made here are UUIDv7 with their time taken from the [`Clock`]; ids made by a client may be any UUID.

use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::{NoContext, Timestamp as UuidTime, Uuid};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id whose time is the clock's.
            pub fn fresh(clock: &Clock) -> Self {
                Self(fresh(clock))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(s).map(Self)
            }
        }
    )+};
}

ids! {
    /// A person with an account.
    UserId
    /// A phone, tablet or browser of a person.
    DeviceId
    /// One sign-in on one device; its refresh tokens form a family.
    SessionId
    /// A trust link.
    LinkId
    /// A person's own geofence.
    GeofenceId
    /// A zone that everybody may know of.
    ZoneId
    /// A process that serves.
    NodeId
    /// An emergency; the raising phone makes it.
    EmergencyId
    /// A timer that a person completes, or their contacts are told.
    CheckInId
    /// Something to tell somebody.
    AlertId
    /// Where one device is reached through one push channel; derived from both.
    EndpointId
    /// A crossing of a fence's edge; derived from what caused it, so a repeat has the same id.
    TransitionId
}

/// A UUIDv7 whose time is the clock's.
pub fn fresh(clock: &Clock) -> Uuid {
    let ms = clock.now().unix_ms().max(0).unsigned_abs();
    let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(UuidTime::from_unix(NoContext, ms / 1000, nanos))
}

/// An id that depends on nothing but its parts (RFC 9562 UUIDv8 over SHA-256): the same parts, the same id.
pub fn derived(kind: &str, parts: &[&[u8]]) -> Uuid {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(kind.as_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_their_parts_and_borders() {
        assert_eq!(derived("t", &[b"ab", b"c"]), derived("t", &[b"ab", b"c"]));
        assert_ne!(derived("t", &[b"ab", b"c"]), derived("t", &[b"a", b"bc"]));
        assert_ne!(derived("t", &[b"ab"]), derived("u", &[b"ab"]));
    }
}
