//! The wire: a bell between the parts of cima. It may lose what it carries, so nothing is correct only because an
//! event arrived; whoever hears one looks in the store, and looks there anyway from time to time.
//!
//! [`Bus::default`] is the bus of one process. [`Bus::shared`] also carries events to other nodes, over Redis: bells on
//! one pair of connections, positions on another, and what changes an emergency on a stream of its own besides. An event
//! is heard on the node where it was published at once, whatever Redis does.

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

/// Events that may wait for a slow listener; one that falls behind is told so and looks everywhere.
const QUEUE: usize = 8_192;

/// The bus as one node has it.
#[derive(Clone)]
pub struct Bus {
    events: broadcast::Sender<Event>,
    interest: Arc<Interest>,
    wire: Wire,
}

/// What carries events to other nodes.
#[derive(Clone)]
enum Wire {
    /// There are none.
    Local,
    Redis(Arc<Shared>),
}

impl Default for Bus {
    fn default() -> Self {
        Self { events: broadcast::channel(QUEUE).0, interest: Arc::default(), wire: Wire::Local }
    }
}

impl Bus {
    /// The bus of several nodes. It does not wait for Redis: until Redis answers, the bell is suspect.
    ///
    /// # Errors
    /// When the settings cannot be used, whatever state Redis is in.
    pub fn shared(settings: &SharedSettings, clock: Clock, tasks: &Tasks) -> Result<Self, BusError> {
        let mut bus = Self::default();
        let shared = Shared::start(settings, clock, bus.events.clone(), Arc::clone(&bus.interest), tasks)?;
        bus.wire = Wire::Redis(shared);
        Ok(bus)
    }

    /// Rings the bell, here at once and on other nodes soon. Never waits and never fails.
    pub fn publish(&self, event: Event) {
        self.ring_elsewhere(&event);
        self.ring_here(event);
    }

    /// Rings the bell of the other nodes: who says it has done here what there is to do.
    pub fn ring_elsewhere(&self, event: &Event) {
        if let Wire::Redis(shared) = &self.wire {
            shared.send(event);
        }
    }

    /// Rings the bell of this node alone.
    pub fn ring_here(&self, event: Event) {
        // An error means that nobody listens, which is fine for a bell.
        let _ = self.events.send(event);
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whether other nodes may ring, so that what happens there has to be looked for as well.
    pub fn is_shared(&self) -> bool {
        matches!(self.wire, Wire::Redis(_))
    }

    /// Whether bells of other nodes may be lost at this moment: then whoever waits for one looks more often.
    pub fn is_suspect(&self) -> bool {
        match &self.wire {
            Wire::Local => false,
            Wire::Redis(shared) => shared.is_suspect(),
        }
    }

    /// Whether anybody watches the person's position, here or on another node: only then is it published.
    pub fn is_watched(&self, subject: UserId) -> bool {
        self.interest.is_watched(subject)
    }

    /// Asks for the person's positions until the guard is dropped.
    pub fn watch(&self, subject: UserId) -> WatchGuard {
        if self.interest.watch(subject)
            && let Wire::Redis(shared) = &self.wire
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
            && let Wire::Redis(shared) = &self.bus.wire
        {
            shared.watch_changed(self.subject, false);
        }
    }
}
