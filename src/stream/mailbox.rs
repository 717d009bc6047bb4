//! What waits for a socket. It cannot grow: bells are flags, positions are the newest per person, acks the highest.
//! What a flag stands for is read from the store when the socket gets to it, so nothing is lost by being few.

use crate::id::{EmergencyId, UserId};
use crate::tracking::{Position, Recorded};
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Changed emergencies that are named; beyond, the socket looks at all it has part in.
const NAMED: usize = 64;

/// Why a socket is to be closed by the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Close {
    /// The session ended.
    SignedOut,
    /// The device was removed.
    DeviceRemoved,
    /// A newer socket of the device sends fixes.
    Replaced,
    /// The node is stopping.
    Restart,
}

/// What waits, taken as a whole.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) close: Option<Close>,
    /// Everything may have changed: look everywhere.
    pub(super) resync: bool,
    pub(super) emergencies: BTreeSet<EmergencyId>,
    pub(super) inbox: bool,
    /// Whose positions may no longer (or otherwise) be seen.
    pub(super) visibility: BTreeSet<UserId>,
    pub(super) recorded: Vec<(u64, usize, Recorded)>,
    pub(super) positions: Vec<(UserId, Arc<dyn Any + Send + Sync>)>,
}

/// The mailbox of one socket.
#[derive(Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one assignment or push: a panic in between leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.bell.notify_one();
    }

    pub(super) fn close(&self, why: Close) {
        self.put(|w| {
            w.close.get_or_insert(why);
        });
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
    pub(super) fn position(&self, subject: UserId, sealed: Arc<dyn Any + Send + Sync>) {
        self.put(|w| match w.positions.iter_mut().find(|(user, _)| *user == subject) {
            Some((_, newest)) => *newest = sealed,
            None => w.positions.push((subject, sealed)),
        });
    }

    /// Waits for something and takes all of it.
    pub(super) async fn take(&self) -> Waiting {
        self.bell.notified().await;
        std::mem::take(&mut *self.lock())
    }
}

/// The position in a seal.
pub(super) fn open(sealed: &Arc<dyn Any + Send + Sync>) -> Option<&Position> {
    sealed.downcast_ref()
}
