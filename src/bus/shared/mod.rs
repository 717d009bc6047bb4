//! The bus over Redis. A subscription is silent when the server hangs, ends when it dies, and never comes back by itself.
//! So each pair of connections publishes a heartbeat to a channel of its own every second. If it does not receive it, both
//! connections are made anew, and every node that may have missed something resyncs: it reads in the store whatever a lost
//! hint may have told of.
//!
//! - `hints`: every event but positions, on one channel; and who watches whom.
//! - `positions`: one channel per person, which the nodes that watch them subscribe to.
//! - `lane`: what changes emergencies once more, on a stream that is read from the last entry seen, so that no gap stays.

mod connect;
mod heartbeat;
mod hints;
mod lane;
mod positions;
mod queue;

use super::envelope::{Envelope, Message};
use super::interest::Interest;
use super::{Event, Sealed};
use crate::clock::Clock;
use crate::id::{UserId, fresh};
use crate::runtime::Tasks;
use heartbeat::Heartbeat;
use queue::{Newest, Queue, Recent};
use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use uuid::Uuid;

/// Messages that may wait for Redis. Beyond it the oldest is dropped, and the other nodes are told to resync.
const WAITING: usize = 8_192;
/// People whose newest position may wait for Redis. Beyond it watchers read the store.
const POSITIONS: usize = 16_384;
/// Ids of messages that come twice, remembered so that each is handled once.
const REMEMBERED: usize = 4_096;

/// How nodes reach each other.
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
    pub url: String,
    /// Each pair of connections sends itself heartbeats. Off only in a test that shows what they are for.
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
    sent: AtomicU64,
    events: broadcast::Sender<Event>,
    interest: Arc<Interest>,
    hints: Queue,
    lane: Queue,
    positions: Newest,
    /// Hints to other nodes were lost: as soon as they can be reached they are told to resync.
    resync_owed: AtomicBool,
    recent: Mutex<Recent>,
    /// Of the connections that carry hints.
    heartbeat: Heartbeat,
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
            sent: AtomicU64::new(0),
            events,
            interest,
            hints: Queue::new("bell", WAITING),
            lane: Queue::new("lane", WAITING),
            positions: Newest::new(POSITIONS),
            resync_owed: AtomicBool::new(false),
            recent: Mutex::new(Recent::new(REMEMBERED)),
            heartbeat: Heartbeat::default(),
            changed: Mutex::default(),
            changes: Notify::new(),
        });
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-hints", move || hints::run(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-positions", move || positions::run(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-lane-in", move || lane::read(Arc::clone(&link), stop.clone()));
        let (link, stop) = (Arc::clone(&shared), tasks.stop());
        tasks.keep("bus-lane-out", move || lane::write(Arc::clone(&link), stop.clone()));
        Ok(shared)
    }

    /// Puts an event into the queue from which the tasks take it to Redis.
    pub(super) fn publish(&self, event: &Event) {
        match event {
            Event::Position { subject, sealed } => self.publish_position(*subject, sealed),
            Event::Emergency { .. } | Event::Visibility { .. } => {
                let bytes = self.write(Message::Event(event.clone()));
                self.lane.push(bytes.clone());
                self.enqueue(bytes);
            }
            _ => self.send(Message::Event(event.clone())),
        }
    }

    fn publish_position(&self, subject: UserId, sealed: &Sealed) {
        if self.interest.is_watched_elsewhere(subject, Instant::now()) {
            self.positions.put(subject, sealed.clone());
        }
    }

    fn send(&self, message: Message) {
        self.enqueue(self.write(message));
    }

    fn enqueue(&self, bytes: Vec<u8>) {
        if !self.hints.push(bytes) {
            self.resync_owed.store(true, Ordering::Relaxed);
        }
    }

    fn write(&self, message: Message) -> Vec<u8> {
        let seq = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let (id, event_at) = (fresh(&self.clock), self.clock.now());
        Envelope { id, node: self.node, event_at, seq, message }.write()
    }

    /// Handles a message from Redis.
    fn receive(&self, bytes: &[u8]) {
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
        match envelope.message {
            Message::Event(event @ (Event::Emergency { .. } | Event::Visibility { .. })) => {
                let new = self.recent.lock().unwrap_or_else(PoisonError::into_inner).remember(envelope.id);
                if new {
                    self.publish_here(event);
                }
            }
            Message::Event(event) => self.publish_here(event),
            Message::Hello => self.announce(),
            Message::Watching(people) => self.interest.watched_there(&people, Instant::now()),
        }
    }

    fn publish_here(&self, event: Event) {
        // An error means that nobody subscribes, which is fine for a hint.
        let _ = self.events.send(event);
    }

    /// Messages of other nodes may be lost: this node resyncs.
    fn resync_here(&self, why: &'static str) {
        metrics::counter!("cima_bus_resyncs_total", "why" => why).increment(1);
        self.publish_here(Event::Resync);
    }

    /// Announces who is watched here, in messages that stay small.
    fn announce(&self) {
        for people in self.interest.watched_here().chunks(1_000) {
            self.send(Message::Watching(people.to_vec()));
        }
    }

    /// The first watcher of somebody came here, or the last one went.
    pub(super) fn watch_changed(&self, subject: UserId, watched: bool) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(subject);
        self.changes.notify_one();
        if watched {
            self.send(Message::Watching(vec![subject]));
        }
    }

    fn take_changed(&self) -> HashSet<UserId> {
        mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.heartbeat.is_suspect()
    }
}
