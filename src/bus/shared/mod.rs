//! The bus over Redis. Pub/Sub is silent on a server that hangs, ends on one that dies, and never subscribes again by
//! itself: so each pair of connections publishes to a channel of its own every second and expects to hear it, both are
//! made anew when it does not, and whoever may have missed something is told to look everywhere.
//!
//! - `bell`: every event but positions, on one channel; and who watches whom.
//! - `positions`: a channel a person, subscribed to by nodes that watch them.
//! - `lane`: a stream of what changes emergencies, read from the last entry seen, so that a gap can be made up.

mod bell;
mod connect;
mod lane;
mod positions;
mod pulse;
mod queue;

use super::envelope::{Envelope, Said};
use super::interest::Interest;
use super::{Event, Sealed};
use crate::clock::Clock;
use crate::id::{UserId, fresh};
use crate::runtime::Tasks;
use pulse::Pulse;
use queue::{Newest, Queue, Recent};
use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use uuid::Uuid;

/// Messages that may wait for Redis; of more the oldest go, and the others are told to look everywhere.
const WAITING: usize = 8_192;
/// People whose newest position may wait for Redis; of more the watchers read the store.
const POSITIONS: usize = 16_384;
/// Messages that come on two ways and are remembered to be taken once.
const REMEMBERED: usize = 4_096;

/// How nodes reach each other.
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    pub url: String,
    /// Each pair of connections is checked by what it says to itself. Off only to show what that is for.
    pub probe: bool,
}

/// The settings of the bus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address has a form that means nothing. It is not repeated here: it may have a password in it.
    #[error("the Redis address cannot be used; write redis://host:6379 or rediss://host:6379")]
    Address,
    /// Nothing useful answers there.
    #[error("Redis does not answer: {0}")]
    Silent(String),
}

/// Whether Redis answers at this address.
///
/// # Errors
/// When it does not, or the address cannot be used.
pub async fn reach(url: &str) -> Result<(), BusError> {
    let client = connect::client(url)?;
    connect::ping(&client).await.map_err(|error| BusError::Silent(error.to_string()))
}

/// What the tasks of the shared bus have in common.
pub(super) struct Shared {
    client: redis::Client,
    probe: bool,
    node: Uuid,
    clock: Clock,
    said: AtomicU64,
    events: broadcast::Sender<Event>,
    interest: Arc<Interest>,
    bells: Queue,
    lane: Queue,
    positions: Newest,
    /// Bells to other nodes were lost: they are told to look everywhere as soon as they can be.
    owed: AtomicBool,
    recent: Mutex<Recent>,
    bell_pulse: Pulse,
    /// Whose watchers here changed since the subscriptions were last compared.
    changed: Mutex<HashSet<UserId>>,
    changes: Notify,
}

impl Shared {
    pub(super) fn start(
        settings: &SharedSettings,
        clock: Clock,
        events: broadcast::Sender<Event>,
        interest: Arc<Interest>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, BusError> {
        let shared = Arc::new(Self {
            client: connect::client(&settings.url)?,
            probe: settings.probe,
            node: fresh(&clock),
            clock,
            said: AtomicU64::new(0),
            events,
            interest,
            bells: Queue::new("bell", WAITING),
            lane: Queue::new("lane", WAITING),
            positions: Newest::new(POSITIONS),
            owed: AtomicBool::new(false),
            recent: Mutex::new(Recent::new(REMEMBERED)),
            bell_pulse: Pulse::default(),
            changed: Mutex::default(),
            changes: Notify::new(),
        });
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-bell", move || bell::run(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-positions", move || positions::run(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-lane-in", move || lane::read(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-lane-out", move || lane::write(Arc::clone(&link), stop.clone()));
        Ok(shared)
    }

    /// Puts an event where the tasks take it to Redis.
    pub(super) fn send(&self, event: &Event) {
        match event {
            Event::Position { subject, sealed } => self.send_position(*subject, sealed),
            Event::Emergency { .. } | Event::Visibility { .. } => {
                let bytes = self.write(Said::Event(event.clone()));
                self.lane.push(bytes.clone());
                self.ring(bytes);
            }
            _ => self.say(Said::Event(event.clone())),
        }
    }

    fn send_position(&self, subject: UserId, sealed: &Sealed) {
        if self.interest.is_watched_elsewhere(subject, Instant::now()) {
            self.positions.put(subject, sealed.clone());
        }
    }

    fn say(&self, said: Said) {
        self.ring(self.write(said));
    }

    fn ring(&self, bytes: Vec<u8>) {
        if !self.bells.push(bytes) {
            self.owed.store(true, Ordering::Relaxed);
        }
    }

    fn write(&self, said: Said) -> Vec<u8> {
        let seq = self.said.fetch_add(1, Ordering::Relaxed) + 1;
        let (id, event_at) = (fresh(&self.clock), self.clock.now());
        Envelope { id, node: self.node, event_at, seq, said }.write()
    }

    /// Takes a message from Redis.
    fn take(&self, bytes: &[u8]) {
        let envelope = match Envelope::read(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                metrics::counter!("cima_bus_unreadable_total").increment(1);
                tracing::debug!(%error, "a message of another node cannot be read");
                return;
            }
        };
        if envelope.node == self.node {
            return;
        }
        tracing::trace!(node = %envelope.node, seq = envelope.seq, at = %envelope.event_at, "heard");
        match envelope.said {
            Said::Event(event @ (Event::Emergency { .. } | Event::Visibility { .. })) => {
                let new = self.recent.lock().unwrap_or_else(PoisonError::into_inner).is_new(envelope.id);
                if new {
                    self.ring_here(event);
                }
            }
            Said::Event(event) => self.ring_here(event),
            Said::Hello => self.announce(),
            Said::Watching(people) => self.interest.watched_there(&people, Instant::now()),
        }
    }

    fn ring_here(&self, event: Event) {
        // An error means that nobody listens, which is fine for a bell.
        let _ = self.events.send(event);
    }

    /// What other nodes said may be lost: everybody here looks everywhere.
    fn resync_here(&self, why: &'static str) {
        metrics::counter!("cima_bus_resyncs_total", "why" => why).increment(1);
        self.ring_here(Event::Resync);
    }

    /// Says again who is watched here, in parts that stay small.
    fn announce(&self) {
        for people in self.interest.watched_here().chunks(1_000) {
            self.say(Said::Watching(people.to_vec()));
        }
    }

    /// The first watcher of somebody came here, or the last one went.
    pub(super) fn watch_changed(&self, subject: UserId, watched: bool) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(subject);
        self.changes.notify_one();
        if watched {
            self.say(Said::Watching(vec![subject]));
        }
    }

    fn take_changed(&self) -> HashSet<UserId> {
        mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.bell_pulse.is_suspect()
    }
}
