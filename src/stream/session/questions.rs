//! What a session asks the node, and the answers it goes on with.

use crate::alerts::{AckState, AlertError, AlertView, EmergencyView, Names};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, EmergencyId, SessionId, UserId};
use crate::identity::Caller;
use crate::problem::Problem;
use crate::stream::protocol::GivenFix;
use crate::tracking::StoredFix;
use crate::trust::Grant;
use std::time::Duration;

/// Why a grant is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::stream) enum GrantFor {
    /// A `watch` begins.
    Watch,
    /// Its lease is over, or hints were lost.
    Renewal,
    /// A hint said that it may have changed: it is not believed any more until it was looked up.
    Changed,
}

/// What decides which fixes of a person are taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct WayIn {
    /// How long they are kept.
    pub(in crate::stream) retention: Duration,
    /// Until when no time refuses a place, if an emergency of theirs is open or ended lately.
    pub(in crate::stream) any_time_until: Option<Timestamp>,
}

/// Why a newest position is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::stream) enum NewestFor {
    /// A watch began, or more may be seen than before.
    Grant,
    /// Nothing was heard of the person for a while.
    Silence,
}

/// A question, each with what its [`Answer`] brings back. One is asked at a time.
pub(in crate::stream) enum Ask {
    /// What `welcome` says; of the inbox only if it may be read.
    Welcome {
        /// Whether it may.
        reads: bool,
    },
    /// The emergencies that are open and that the person has part in.
    OpenEmergencies,
    /// One emergency, as the person sees it.
    Emergency(EmergencyId),
    /// A page of the inbox after a cursor.
    Inbox {
        /// The cursor.
        after: i64,
    },
    /// The head of the inbox, because `welcome` did not know it.
    Place,
    /// The head of the inbox, for a `resume` from this cursor.
    Head {
        /// The cursor.
        resume: i64,
    },
    /// An alert has arrived, or was looked at.
    Ack(AlertId, AckState),
    /// A contact is on it.
    Claim(EmergencyId),
    /// Who a token is.
    Authenticate(String),
    /// Register the socket under another session.
    Move(SessionId),
    /// Open the way of the device's fixes; these wait for it.
    OpenWayIn(Vec<GivenFix>),
    /// Whether somebody's position may be seen.
    Visibility {
        /// Whose.
        subject: UserId,
        /// The emergency it is seen for so far.
        watching: Option<EmergencyId>,
        /// Why.
        why: GrantFor,
    },
    /// What somebody who is watched and their devices are called.
    Names(UserId),
    /// The newest position that a grant covers.
    Newest {
        /// The grant.
        grant: Grant,
        /// Why.
        why: NewestFor,
    },
    /// Record that this position is about to be shown.
    Disclose {
        /// By which right.
        grant: Grant,
        /// The position.
        newest: Box<StoredFix>,
    },
}

/// The answer to an [`Ask`].
pub(in crate::stream) enum Answer {
    /// To [`Ask::Welcome`].
    Welcome {
        /// The newest streamed fix of the device that is stored.
        last_seq: Stored<i64>,
        /// The head of the inbox, if it may be read.
        head: Option<Stored<i64>>,
    },
    /// To [`Ask::OpenEmergencies`].
    OpenEmergencies(Result<Vec<EmergencyView>, AlertError>),
    /// To [`Ask::Emergency`].
    Emergency(Result<Box<EmergencyView>, AlertError>),
    /// To [`Ask::Inbox`].
    Inbox(Stored<Vec<AlertView>>),
    /// To [`Ask::Place`].
    Place(Stored<i64>),
    /// To [`Ask::Head`].
    Head {
        /// The cursor of the `resume`.
        resume: i64,
        /// The head.
        head: Result<i64, Problem>,
    },
    /// To [`Ask::Ack`].
    Acked(Result<(), Problem>),
    /// To [`Ask::Claim`].
    Claimed {
        /// Which.
        about: EmergencyId,
        /// As the contact sees it now.
        outcome: Result<Box<EmergencyView>, Problem>,
    },
    /// To [`Ask::Authenticate`].
    Authenticated(Result<Caller, Problem>),
    /// To [`Ask::Move`].
    Moved,
    /// To [`Ask::OpenWayIn`].
    WayIn {
        /// The fixes that waited.
        given: Vec<GivenFix>,
        /// What decides which of them are taken.
        way_in: Result<WayIn, Problem>,
    },
    /// To [`Output::Ingest`](super::Output::Ingest): whether they were taken.
    Ingested(bool),
    /// To [`Ask::Visibility`].
    Visibility {
        /// Whose.
        subject: UserId,
        /// Why it was asked for.
        why: GrantFor,
        /// The grant, if there is one.
        grant: Stored<Option<Grant>>,
    },
    /// To [`Ask::Names`].
    Names(UserId, Box<Names>),
    /// To [`Ask::Newest`].
    Newest {
        /// By which grant.
        grant: Grant,
        /// Why it was read.
        why: NewestFor,
        /// The position, if there is one.
        newest: Result<Option<Box<StoredFix>>, AlertError>,
    },
    /// To [`Ask::Disclose`].
    Disclosed {
        /// By which right.
        grant: Grant,
        /// The position.
        newest: Box<StoredFix>,
        /// Whether it is recorded.
        recorded: Stored<()>,
    },
}
