//! The wire: a bell between the parts of cima. It may lose what it carries, so nothing is correct only because an
//! event arrived; whoever hears one looks in the store, and looks there anyway from time to time.

use crate::id::{DeviceId, EmergencyId, SessionId, UserId};
use dashmap::DashMap;
use std::any::Any;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events that may wait for a slow listener; one that falls behind is told so and looks everywhere.
const QUEUE: usize = 8_192;

/// Something happened; look now.
#[derive(Clone)]
pub enum Event {
    /// These inboxes got something.
    Inbox(Arc<[UserId]>),
    /// An emergency changed, to these people.
    Emergency {
        /// Which.
        id: EmergencyId,
        /// Who is to look.
        people: Arc<[UserId]>,
    },
    /// Who may see the subject's position may have changed.
    Visibility {
        /// Whose position.
        subject: UserId,
    },
    /// A device was removed: its sockets close.
    DeviceRemoved(DeviceId),
    /// A session ended: its access tokens are not believed any more.
    SessionEnded(SessionId),
    /// The newest position of somebody who is watched.
    Position {
        /// Whose.
        subject: UserId,
        /// What it is only its room knows, and shows only for a grant.
        sealed: Arc<dyn Any + Send + Sync>,
    },
}

/// The bus of one process.
#[derive(Clone)]
pub struct Bus {
    events: broadcast::Sender<Event>,
    watched: Arc<DashMap<UserId, usize>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { events: broadcast::channel(QUEUE).0, watched: Arc::default() }
    }
}

impl Bus {
    /// Rings the bell.
    pub fn publish(&self, event: Event) {
        // An error means that nobody listens, which is fine for a bell.
        let _ = self.events.send(event);
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whether anybody watches the person's position: only then is it published.
    pub fn is_watched(&self, subject: UserId) -> bool {
        self.watched.contains_key(&subject)
    }

    /// Asks for the person's positions until the guard is dropped.
    pub fn watch(&self, subject: UserId) -> WatchGuard {
        *self.watched.entry(subject).or_insert(0) += 1;
        WatchGuard { watched: Arc::clone(&self.watched), subject }
    }
}

/// Somebody watches a person's position while this lives.
pub struct WatchGuard {
    watched: Arc<DashMap<UserId, usize>>,
    subject: UserId,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut count) = self.watched.entry(self.subject) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
