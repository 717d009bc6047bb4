//! What waits for a socket. It cannot grow: bells are flags, positions are the newest per person, acks the highest.
//! What a flag stands for is read from the store when the socket gets to it, so nothing is lost by being few.

use crate::bus::Sealed;
use crate::id::{EmergencyId, UserId};
use crate::identity::Revoked;
use crate::tracking::Recorded;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changed emergencies that are named; beyond, the socket looks at all it has part in.
const NAMED: usize = 64;

/// Why a socket is to be closed by the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Close {
    /// The device was removed, or a session of it ended; of another session than the socket is on by now, it closes nothing.
    Revoked(Revoked),
    /// A newer socket of the device sends fixes.
    Replaced,
}

/// What waits, taken as a whole.
#[derive(Default)]
pub(super) struct Waiting {
    /// Since when the first of it waits.
    since: Option<Instant>,
    pub(super) close: Option<Close>,
    /// The node is stopping: the socket closes after so long.
    pub(super) drain: Option<Duration>,
    /// Everything may have changed: look everywhere.
    pub(super) resync: bool,
    pub(super) emergencies: BTreeSet<EmergencyId>,
    pub(super) inbox: bool,
    /// Whose positions may no longer (or otherwise) be seen.
    pub(super) visibility: BTreeSet<UserId>,
    pub(super) recorded: Vec<(u64, usize, Recorded)>,
    pub(super) positions: Vec<(UserId, Sealed)>,
}

/// The mailbox of one socket.
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
    sent_to: AtomicI64,
}

impl Default for Mailbox {
    fn default() -> Self {
        let sent_to = AtomicI64::new(i64::MAX);
        Self { waiting: Mutex::default(), bell: Notify::new(), sent_to }
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
        self.bell.notify_one();
    }

    pub(super) fn close(&self, why: Close) {
        self.put(|w| {
            // The end of a session that the socket has left must not hide what came after it.
            if !matches!(w.close, Some(Close::Revoked(Revoked::Device(_)) | Close::Replaced)) {
                w.close = Some(why);
            }
        });
    }
    pub(super) fn drain(&self, after: Duration) {
        self.put(|w| {
            w.drain.get_or_insert(after);
        });
    }
    /// How far the socket has sent its inbox; beyond every inbox for one that does not read.
    pub(super) fn sent_to(&self) -> i64 {
        self.sent_to.load(Ordering::Relaxed)
    }
    pub(super) fn set_sent_to(&self, cursor: i64) {
        self.sent_to.store(cursor, Ordering::Relaxed);
    }
    pub(super) fn resync(&self) {
        self.put(|w| w.resync = true);
    }
    pub(super) fn inbox(&self) {
        self.put(|w| w.inbox = true);
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
    pub(super) fn recorded(&self, frame: u64, fixes: usize, recorded: Recorded) {
        self.put(|w| w.recorded.push((frame, fixes, recorded)));
    }
    pub(super) fn position(&self, subject: UserId, sealed: Sealed) {
        self.put(|w| match w.positions.iter_mut().find(|(user, _)| *user == subject) {
            Some((_, newest)) => *newest = sealed,
            None => w.positions.push((subject, sealed)),
        });
    }

    /// Waits for something and takes all of it.
    pub(super) async fn take(&self) -> Waiting {
        self.bell.notified().await;
        let waiting = std::mem::take(&mut *self.lock());
        if let Some(since) = waiting.since {
            metrics::histogram!("cima_mailbox_lag_seconds").record(since.elapsed());
        }
        waiting
    }
}
