//! What waits for a socket. It cannot grow: hints are flags, positions are the newest per person, acks as many as frames
//! are in flight. What a flag stands for is read from the store when the socket gets to it, so nothing is lost by being few.
//!
//! Other tasks of the node also read here how far a socket is, without disturbing it.

use crate::bus::Sealed;
use crate::clock::Timestamp;
use crate::id::{AlertId, EmergencyId, SessionId, UserId};
use crate::tracking::Recorded;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changed emergencies, and alerts looked at, that are named; beyond, the socket looks at all emergencies it has part in.
const NAMED: usize = 64;

/// A frame of fixes that is on disk.
pub(super) struct Written {
    /// Its number on the socket.
    pub(super) frame: u64,
    /// How many fixes were handed over.
    pub(super) fixes: usize,
    /// What became of them.
    pub(super) recorded: Recorded,
}

/// What waits, taken as a whole.
#[derive(Default)]
pub(super) struct Waiting {
    /// Since when the first of it waits.
    since: Option<Instant>,
    /// The device was removed.
    pub(super) removed: bool,
    /// This session ended; the newest, if several did.
    pub(super) ended: Option<SessionId>,
    /// A newer socket of the device sends fixes.
    pub(super) replaced: bool,
    /// The node is stopping: the socket closes after so long.
    pub(super) drain: Option<Duration>,
    /// Everything may have changed: look everywhere.
    pub(super) resync: bool,
    /// These emergencies changed.
    pub(super) emergencies: BTreeSet<EmergencyId>,
    /// The inbox got something.
    pub(super) inbox: bool,
    /// These alerts were looked at.
    pub(super) seen: Vec<(AlertId, Timestamp)>,
    /// Whose positions may no longer (or otherwise) be seen.
    pub(super) visibility: BTreeSet<UserId>,
    /// Frames of fixes that are on disk now.
    pub(super) written: Vec<Written>,
    /// The newest position of each person.
    pub(super) positions: Vec<(UserId, Sealed)>,
}

/// The mailbox of one socket.
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    sent_to: AtomicI64,
    sends_fixes: AtomicBool,
    claim: AtomicI64,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            sent_to: AtomicI64::new(i64::MAX),
            sends_fixes: AtomicBool::new(false),
            claim: AtomicI64::new(0),
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one assignment or push: a panic in between leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        {
            let mut waiting = self.lock();
            waiting.since.get_or_insert_with(Instant::now);
            change(&mut waiting);
        }
        self.filled.notify_one();
    }

    pub(super) fn removed(&self) {
        self.put(|w| w.removed = true);
    }
    pub(super) fn ended(&self, session: SessionId) {
        self.put(|w| w.ended = Some(session));
    }
    pub(super) fn replaced(&self) {
        self.put(|w| w.replaced = true);
    }
    pub(super) fn drain(&self, after: Duration) {
        self.put(|w| {
            w.drain.get_or_insert(after);
        });
    }
    pub(super) fn resync(&self) {
        self.put(|w| w.resync = true);
    }
    pub(super) fn inbox(&self) {
        self.put(|w| w.inbox = true);
    }
    /// An alert was looked at, on whatever device. More than are named show it when they are read.
    pub(super) fn seen(&self, alert: AlertId, at: Timestamp) {
        self.put(|w| {
            if w.seen.len() < NAMED {
                w.seen.push((alert, at));
            }
        });
    }
    pub(super) fn emergency(&self, id: EmergencyId) {
        self.put(|w| {
            if w.emergencies.len() < NAMED {
                w.emergencies.insert(id);
            } else {
                w.resync = true;
            }
        });
    }
    pub(super) fn visibility(&self, subject: UserId) {
        self.put(|w| {
            w.visibility.insert(subject);
        });
    }
    /// A frame of fixes is on disk. As many wait as frames are in flight, which the window bounds.
    pub(super) fn written(&self, frame: u64, fixes: usize, recorded: Recorded) {
        self.put(|w| w.written.push(Written { frame, fixes, recorded }));
    }
    pub(super) fn position(&self, subject: UserId, sealed: Sealed) {
        self.put(|w| match w.positions.iter_mut().find(|(user, _)| *user == subject) {
            Some((_, newest)) => *newest = sealed,
            None => w.positions.push((subject, sealed)),
        });
    }

    /// Takes all that waits, without waiting for any.
    pub(super) fn take_now(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    /// Waits for something and takes all of it.
    pub(super) async fn take(&self) -> Waiting {
        self.filled.notified().await;
        let waiting = self.take_now();
        if let Some(since) = waiting.since {
            metrics::histogram!("cima_mailbox_lag_seconds").record(since.elapsed());
        }
        waiting
    }

    /// How far the socket has sent its inbox; beyond every inbox for one that does not read.
    pub(super) fn sent_to(&self) -> i64 {
        self.sent_to.load(Ordering::Relaxed)
    }
    pub(super) fn set_sent_to(&self, cursor: i64) {
        self.sent_to.store(cursor, Ordering::Relaxed);
    }
    /// Whether the socket has sent a fix.
    pub(super) fn sends_fixes(&self) -> bool {
        self.sends_fixes.load(Ordering::Relaxed)
    }
    pub(super) fn set_sends_fixes(&self) {
        self.sends_fixes.store(true, Ordering::Relaxed);
    }
    /// The number of its claim to be the device's stream among all nodes; `None` while it has none.
    pub(super) fn claim(&self) -> Option<i64> {
        Some(self.claim.load(Ordering::Relaxed)).filter(|claim| *claim > 0)
    }
    pub(super) fn set_claim(&self, claim: i64) {
        self.claim.store(claim, Ordering::Relaxed);
    }
}
