//! Publish and subscribe between the parts of cima. An [`Event`] is a hint: it says where to look, and it may be lost.
//! What it tells of is in the store before it is published. Whoever hears it reads the store, and reads there from time
//! to time anyway, so nothing is correct only because an event arrived.
//!
//! [`Bus::default`] is the bus of one process. [`Bus::shared`] also carries events to other nodes, over Redis: hints over
//! one pair of connections, positions over another, and what changes an emergency over a Redis stream besides. On the
//! node that publishes an event it is heard at once, whatever Redis does.

mod envelope;
mod event;
mod interest;
mod shared;

pub use event::{Event, Sealed};
pub use shared::{BusError, SharedSettings, reach};

use crate::clock::Clock;
use crate::id::UserId;
use crate::runtime::Tasks;
use interest::Interest;
use shared::Shared;
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events that may wait for a slow subscriber; one that falls behind is told so and resyncs, as after [`Event::Resync`].
const QUEUE: usize = 8_192;

/// The bus as one node has it.
#[derive(Clone)]
pub struct Bus {
    events: broadcast::Sender<Event>,
    interest: Arc<Interest>,
    /// What carries events to other nodes, if there are any.
    shared: Option<Arc<Shared>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { events: broadcast::channel(QUEUE).0, interest: Arc::default(), shared: None }
    }
}

impl Bus {
    /// The bus of several nodes. It does not wait for Redis: until Redis answers, the bus is suspect.
    ///
    /// # Errors
    /// When the settings cannot be used, whatever state Redis is in.
    pub fn shared(settings: &SharedSettings, clock: Clock, tasks: &Tasks) -> Result<Self, BusError> {
        let mut bus = Self::default();
        let shared = Shared::start(settings, clock, bus.events.clone(), Arc::clone(&bus.interest), tasks)?;
        bus.shared = Some(shared);
        Ok(bus)
    }

    /// Publishes an event, here at once and on other nodes soon. Never waits and never fails.
    pub fn publish(&self, event: Event) {
        self.publish_elsewhere(&event);
        self.publish_here(event);
    }

    /// Publishes an event on the other nodes: for a caller that has done on this node what there is to do.
    pub fn publish_elsewhere(&self, event: &Event) {
        if let Some(shared) = &self.shared {
            shared.publish(event);
        }
    }

    /// Publishes an event on this node alone.
    pub fn publish_here(&self, event: Event) {
        // An error means that nobody subscribes, which is fine for a hint.
        let _ = self.events.send(event);
    }

    /// Hears events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whether there may be other nodes, so that what happens on them has to be looked for as well.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether hints of other nodes may be lost at this moment: then whoever waits for one polls more often.
    pub fn is_suspect(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_suspect())
    }

    /// Whether anybody watches the person's position, here or on another node: only then is it published.
    pub fn is_watched(&self, subject: UserId) -> bool {
        self.interest.is_watched(subject)
    }

    /// Asks for the person's positions until the guard is dropped.
    pub fn watch(&self, subject: UserId) -> WatchGuard {
        if self.interest.watch(subject)
            && let Some(shared) = &self.shared
        {
            shared.watch_changed(subject, true);
        }
        WatchGuard { bus: self.clone(), subject }
    }
}

/// Somebody watches a person's position while this lives.
pub struct WatchGuard {
    bus: Bus,
    subject: UserId,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if self.bus.interest.unwatch(self.subject)
            && let Some(shared) = &self.bus.shared
        {
            shared.watch_changed(self.subject, false);
        }
    }
}
