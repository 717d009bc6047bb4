//! What goes into a session and what comes out of it; `questions` has what it asks.

use super::{Ask, Urgent};
use crate::clock::{Monotonic, Timestamp};
use crate::geo::Fix;
use crate::id::UserId;
use crate::identity::Revoked;
use crate::stream::close::Close;
use crate::stream::mailbox::Waiting;
use crate::stream::protocol::ServerFrame;
use tokio::time::Instant;

/// The moment of a step. Whoever waited for anything gives a later one.
#[derive(Clone, Copy)]
pub(in crate::stream) struct Moment {
    /// For deadlines of the connection.
    pub(in crate::stream) at: Instant,
    /// The world's time: tokens, fixes and grants count on it.
    pub(in crate::stream) now: Timestamp,
    /// What leases of grants are counted on.
    pub(in crate::stream) monotonic: Monotonic,
    /// Why the caller is not believed any more, whatever the age of the token.
    pub(in crate::stream) revoked: Option<Revoked>,
}

/// Whether positions also come from other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::stream) enum Peers {
    /// There are none.
    None,
    /// They can be heard.
    Heard,
    /// What they say may be lost at the moment.
    Suspect,
}

/// What happens to a session.
pub(in crate::stream) enum Input<'a> {
    /// The socket is open and registered.
    Opened,
    /// A text frame.
    Text(&'a str),
    /// A text frame that came while too many others wait: it is not taken, and the client is told.
    Overflow(&'a str),
    /// A binary frame of so many bytes.
    Binary(usize),
    /// A ping or a pong.
    Beat,
    /// A frame that was too large to be read.
    TooLarge,
    /// What waited in the mailbox.
    Waiting(Waiting),
    /// [`Session::wakes_at`](super::Session::wakes_at) has come.
    Tick(Peers),
    /// The client did not take a frame within the deadline of a write.
    Stalled,
}

/// What is to be done next.
pub(in crate::stream) enum Output {
    /// Send a frame.
    Send(ServerFrame),
    /// Send a WebSocket ping.
    Ping,
    /// Hand a frame of checked fixes over; the session goes on with whether they were taken. When they are on disk, the
    /// mailbox says so.
    Ingest {
        /// The number of the frame on this socket.
        frame: u64,
        /// At least one.
        fixes: Vec<Fix>,
    },
    /// Begin a raise or an end, now and beside everything else.
    Begin(Urgent),
    /// Find out or do something; the session goes on with its [`Answer`](super::Answer).
    Ask(Ask),
    /// Do something whose outcome the session does not need.
    Do(Effect),
    /// Close. Nothing comes after it.
    Close(Close),
    /// The peer is gone: end without a close. Nothing comes after it.
    Abandon,
}

/// Something whose outcome a session does not need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::stream) enum Effect {
    /// This socket is the device's stream now: older ones close, here and on other nodes.
    Overtake,
    /// Record that this part of the inbox was sent, both ends included.
    Sent {
        /// The first cursor.
        from: i64,
        /// The last.
        to: i64,
    },
    /// An SOS that was raised then has been written to the socket, for the first time.
    Told(Timestamp),
    /// There is more of the inbox than a page: come back to it after everything else has had its turn.
    ContinueInbox,
    /// Hear positions of this person from now on.
    Listen(UserId),
    /// Hear them no more.
    Unlisten(UserId),
}
