//! What the server sends.

use crate::alerts::{AlertView, EmergencyView, State};
use crate::clock::Timestamp;
use crate::geo::{Fix, Note};
use crate::id::{AlertId, DeviceId, EmergencyId, UserId};
use serde::Serialize;
use uuid::Uuid;

/// A frame to a client.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ServerFrame {
    /// All but alerts, which carry their own type.
    Plain(Box<PlainFrame>),
    /// An alert.
    Alert(Box<AlertView>),
}

impl From<PlainFrame> for ServerFrame {
    fn from(frame: PlainFrame) -> Self {
        Self::Plain(Box::new(frame))
    }
}

/// A frame to a client, but for alerts.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PlainFrame {
    /// First of all frames; the open emergencies follow.
    Welcome {
        /// This socket's name in logs.
        session: Uuid,
        /// The server's time.
        now: Timestamp,
        /// Newest durable fix of this device, by stream or HTTP; 0 if there is none.
        #[schema(minimum = 0)]
        last_seq: i64,
        /// Head of the inbox; 0 if it is empty or could not be read: then what it has is sent as soon as it can be.
        #[schema(minimum = 0)]
        cursor: i64,
        /// Unacked fixes allowed; beyond, they are pushed back with `slow_down`.
        window: usize,
        /// Seconds between the server's pings; a pong is enough.
        heartbeat_s: u64,
    },
    /// Every fix sent with `seq <= n` is on disk or was rejected.
    Acked {
        /// Up to.
        seq: i64,
        /// From where to where fixes came onto the disk since the last `acked`, both included: what a client that sends its
        /// newest fixes before older ones may forget, and nothing else.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ranges: Vec<[i64; 2]>,
    },
    /// A fix is kept, without these; each is named once on a socket.
    Notes {
        /// The first fix it was found in; null if that has no number.
        #[schema(required = true)]
        seq: Option<i64>,
        /// What was left out, or replaced.
        notes: Vec<Note>,
    },
    /// A fix that was refused.
    Rejected {
        /// Its number; null if it could not be read.
        #[schema(required = true)]
        seq: Option<i64>,
        /// `out_of_range`, `not_finite`, `in_future`, `too_old`, `seq_conflict` or `invalid_fix`.
        code: &'static str,
    },
    /// Answers every raise and every end, repeats included. A raise is repeated until
    /// `copies >= min(2, copies_max)`.
    Accepted {
        /// The id it was raised with.
        id: EmergencyId,
        /// The emergency it is, or joined.
        emergency: EmergencyId,
        /// Where that stands.
        state: State,
        /// Durable copies now.
        copies: u8,
        /// Durable copies there can be.
        copies_max: u8,
        /// Raises that joined the open one.
        #[serde(skip_serializing_if = "Option::is_none")]
        joined: Option<Vec<EmergencyId>>,
        /// Of a raise: how many contacts are told, or will be after the countdown; 0 says that nobody is there to be told. It is
        /// not there when they could not be read, and for everything else.
        #[serde(skip_serializing_if = "Option::is_none")]
        tells: Option<u32>,
        /// What could not be used.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notes: Vec<Note>,
    },
    /// An emergency changed, to its subject and contacts; after `welcome`, each open one this person has part in.
    Emergency {
        /// As the person of this socket sees it.
        emergency: EmergencyView,
    },
    /// A `watch` began, whether there is a position already or not.
    Watching {
        /// Whom.
        user: UserId,
        /// What they call themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Why their position may be seen: `self`, `live_location` or `emergency`.
        #[schema(pattern = "^(self|live_location|emergency)$")]
        basis: &'static str,
    },
    /// Where somebody who is watched is: the newest first, then live.
    Position {
        /// Who.
        user: UserId,
        /// What they call themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Which of their devices.
        device: DeviceId,
        /// What that is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        device_name: Option<String>,
        /// In an emergency: whether this device raised it. Another one may lie at home.
        #[serde(skip_serializing_if = "Option::is_none")]
        raised: Option<bool>,
        /// The phone itself did not trust this place when it raised.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        doubtful: bool,
        /// Where and when.
        fix: Fix,
        /// Why it may be seen: `self`, `live_location` or `emergency`.
        #[schema(pattern = "^(self|live_location|emergency)$")]
        basis: &'static str,
    },
    /// Positions are about to end with the token: send a `token` frame. Said once a token, to a socket that watches somebody.
    TokenExpires {
        /// When.
        at: Timestamp,
    },
    /// A watch ended: the grant ended or never was, one frame for every reason.
    Unavailable {
        /// Whose.
        user: UserId,
    },
    /// An alert of this person's was looked at, on whatever of their devices; its `seen_at` says so too.
    Seen {
        /// Which.
        alert: AlertId,
        /// When.
        at: Timestamp,
    },
    /// The replay that `resume` asked for is over.
    Resumed {
        /// Whether nothing is missing; false for a cursor this inbox never gave out.
        complete: bool,
    },
    /// Fixes came beyond the window and were not taken: send again what is not acked. Said at most once a second.
    SlowDown {
        /// Send at most so many a second: as many as came onto the disk lately.
        fixes_per_s: u32,
    },
    /// The node is stopping and closes with 1012.
    Drain {
        /// Reconnect after so many seconds.
        after_s: u64,
    },
    /// A frame could not be taken. Ten malformed ones in a minute close the socket with 1008.
    Error {
        /// A stable word: that of a problem, or `unknown_type`, `token_expired`, `limit_reached`.
        code: &'static str,
        /// The same for a person.
        detail: String,
        /// The emergency it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        emergency: Option<EmergencyId>,
    },
}
