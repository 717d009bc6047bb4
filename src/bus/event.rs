//! What the bus carries.

use crate::clock::Timestamp;
use crate::id::{AlertId, DeviceId, EmergencyId, SessionId, UserId};
use std::fmt;
use std::sync::Arc;

/// A hint: something happened, look at it in the store now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// There is something new in these people's inboxes.
    Inbox(Arc<[UserId]>),
    /// Somebody looked at an alert of theirs, on one of their devices.
    Seen {
        /// Who.
        user: UserId,
        /// At which.
        alert: AlertId,
        /// When.
        at: Timestamp,
    },
    /// An emergency changed, to these people.
    Emergency {
        /// Which.
        id: EmergencyId,
        /// Whom it concerns.
        people: Arc<[UserId]>,
    },
    /// Who may see the subject's position may have changed.
    Visibility {
        /// Whose position.
        subject: UserId,
    },
    /// A device was removed: its sockets close.
    DeviceRemoved(DeviceId),
    /// A socket of the device sends fixes; those of lower claims close.
    Streams {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// Grows with every such socket, on whatever node.
        claim: i64,
    },
    /// A session ended: its access tokens are not believed any more.
    SessionEnded(SessionId),
    /// The newest position of somebody who is watched.
    Position {
        /// Whose.
        subject: UserId,
        /// The position: only `tracking` can read it, and shows it only for a grant.
        sealed: Sealed,
    },
    /// A person's fences changed: the node that owns their tracked device reads the new ones.
    FencesChanged {
        /// Whose.
        owner: UserId,
    },
    /// A person's tracked device changed: the node that owned it reads which one it is.
    TrackedChanged {
        /// Whose.
        user: UserId,
    },
    /// A node that does not own the device has stored fixes of it.
    FixesRecorded {
        /// Whose.
        user: UserId,
        /// From which device.
        device: DeviceId,
        /// The first of them in event order: `fixed_at` and `seq`.
        from: (Timestamp, i64),
    },
    /// Something is due earlier than before: nodes that fire timers look again when the next one is.
    Rescheduled,
    /// Hints were lost: read in the store whatever they may have told of.
    Resync,
}

/// Bytes that only the domain that wrote them can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Arc<[u8]>);

impl Sealed {
    /// Seals what a domain wrote.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
    /// The bytes, for that domain.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A position may be inside, and no log shows one.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}
