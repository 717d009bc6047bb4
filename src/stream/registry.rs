//! Who is connected to this node, and who watches whom. The router hears the bell and rings the right mailboxes.

use super::mailbox::{Close, Mailbox};
use crate::bus::{Bus, Event};
use crate::id::{DeviceId, SessionId, UserId};
use crate::runtime::{Tasks, until};
use dashmap::DashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

/// The part of a drain in which sockets close whose people have no part in an open emergency.
const FIRST_LEAVE: f64 = 0.75;

/// One socket, as the registry knows it.
#[derive(Clone)]
pub(super) struct Socket {
    pub(super) id: Uuid,
    pub(super) device: DeviceId,
    pub(super) session: Option<SessionId>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) sends_fixes: Arc<AtomicBool>,
    /// The number of its claim to be the device's stream among all nodes; 0 while it has none.
    pub(super) claim: Arc<AtomicI64>,
}

/// The sockets of one node.
#[derive(Default)]
pub struct Registry {
    people: DashMap<UserId, Vec<Socket>>,
    watchers: DashMap<UserId, Vec<(Uuid, Arc<Mailbox>)>>,
    open: AtomicUsize,
    draining: AtomicBool,
}

/// Takes the socket out of the registry when its actor ends, however it ends.
pub(super) struct Registration {
    registry: Arc<Registry>,
    user: UserId,
    id: Uuid,
}

impl Registry {
    pub(super) fn join(self: &Arc<Self>, user: UserId, socket: Socket) -> Registration {
        let id = socket.id;
        let mailbox = Arc::clone(&socket.mailbox);
        self.people.entry(user).or_default().push(socket);
        // It came between the last look and the close of the door.
        if self.draining.load(Ordering::SeqCst) {
            mailbox.drain(Duration::ZERO);
        }
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("cima_open_sockets").set(open as f64);
        Registration { registry: Arc::clone(self), user, id }
    }

    /// Sockets that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Closes the older sockets of a device that sends fixes: the phone has come back on a new one.
    pub(super) fn replace_older(&self, user: UserId, device: DeviceId, newest: Uuid) {
        let Some(sockets) = self.people.get(&user) else { return };
        let older = sockets.iter().filter(|s| s.device == device && s.id != newest);
        for socket in older.filter(|s| s.sends_fixes.load(Ordering::Relaxed)) {
            socket.mailbox.close(Close::Replaced);
        }
    }

    /// Devices that send fixes here by a claim.
    pub(super) fn streaming(&self) -> Vec<(UserId, DeviceId)> {
        let mut devices = Vec::new();
        for sockets in &self.people {
            let streams = sockets.iter().filter(|s| s.claim.load(Ordering::Relaxed) > 0);
            devices.extend(streams.map(|s| (*sockets.key(), s.device)));
        }
        devices
    }

    /// Closes the sockets of a device whose claim is older: the phone is on another node now.
    pub(super) fn is_claimed(&self, user: UserId, device: DeviceId, newest: i64) {
        self.each_of(user, |s| {
            let claim = s.claim.load(Ordering::Relaxed);
            if s.device == device && claim > 0 && claim < newest {
                s.mailbox.close(Close::Replaced);
            }
        });
    }

    pub(super) fn watch(&self, subject: UserId, id: Uuid, mailbox: &Arc<Mailbox>) {
        self.watchers.entry(subject).or_default().push((id, Arc::clone(mailbox)));
    }

    pub(super) fn unwatch(&self, subject: UserId, id: Uuid) {
        if let dashmap::Entry::Occupied(mut watchers) = self.watchers.entry(subject) {
            watchers.get_mut().retain(|(watcher, _)| *watcher != id);
            if watchers.get().is_empty() {
                watchers.remove();
            }
        }
    }

    fn each_of(&self, user: UserId, ring: impl Fn(&Socket)) {
        if let Some(sockets) = self.people.get(&user) {
            sockets.iter().for_each(ring);
        }
    }

    fn each(&self, ring: impl Fn(&Socket)) {
        for sockets in &self.people {
            sockets.value().iter().for_each(&ring);
        }
    }

    /// Tells every socket that the node is stopping and when it closes: at a random moment within `window`, so that they
    /// do not all come to another node at once. Those of `last` go when the others have gone.
    pub fn drain(&self, window: Duration, last: &HashSet<UserId>) {
        self.draining.store(true, Ordering::SeqCst);
        for sockets in &self.people {
            let (from, to) =
                if last.contains(sockets.key()) { (FIRST_LEAVE, 1.0) } else { (0.0, FIRST_LEAVE) };
            for socket in sockets.value() {
                socket.mailbox.drain(window.mul_f64(from + (to - from) * share(socket.id)));
            }
        }
    }

    /// The people who have a socket here.
    pub(super) fn people(&self) -> Vec<UserId> {
        self.people.iter().map(|entry| *entry.key()).collect()
    }

    /// Rings for what a socket has not sent of an inbox.
    pub(super) fn inbox_is_at(&self, user: UserId, head: i64) {
        self.each_of(user, |s| {
            if s.mailbox.sent_to() < head {
                s.mailbox.inbox();
            }
        });
    }

    /// Everybody who watches somebody looks again whether they may.
    pub(super) fn look_at_grants(&self) {
        for watchers in &self.watchers {
            watchers.value().iter().for_each(|(_, mailbox)| mailbox.visibility(*watchers.key()));
        }
    }

    fn route(&self, event: &Event) {
        match event {
            Event::Inbox(people) => {
                for person in people.iter() {
                    self.each_of(*person, |s| s.mailbox.inbox());
                }
            }
            Event::Emergency { id, people } => {
                for person in people.iter() {
                    self.each_of(*person, |s| s.mailbox.emergency(*id));
                }
            }
            Event::Visibility { subject } => {
                if let Some(watchers) = self.watchers.get(subject) {
                    watchers.iter().for_each(|(_, mailbox)| mailbox.visibility(*subject));
                }
            }
            Event::Position { subject, sealed } => {
                if let Some(watchers) = self.watchers.get(subject) {
                    watchers.iter().for_each(|(_, mailbox)| mailbox.position(*subject, sealed.clone()));
                }
            }
            Event::DeviceRemoved(device) => {
                self.each(|s| {
                    if s.device == *device {
                        s.mailbox.close(Close::DeviceRemoved);
                    }
                });
            }
            Event::Streams { user, device, claim } => self.is_claimed(*user, *device, *claim),
            Event::SessionEnded(session) => {
                self.each(|s| {
                    if s.session == Some(*session) {
                        s.mailbox.close(Close::SignedOut);
                    }
                });
            }
            // Not for sockets.
            Event::FencesChanged { .. }
            | Event::TrackedChanged { .. }
            | Event::FixesRecorded { .. }
            | Event::Rescheduled => {}
            Event::Resync => self.each(|s| s.mailbox.resync()),
        }
    }

    /// Starts the router.
    pub fn start_router(self: &Arc<Self>, bus: &Bus, tasks: &Tasks) {
        let (registry, bus, stop) = (Arc::clone(self), bus.clone(), tasks.stop());
        let mut subscribed = Some(bus.subscribe());
        tasks.keep("router", move || {
            let (registry, stop) = (Arc::clone(&registry), stop.clone());
            let mut events = subscribed.take().unwrap_or_else(|| {
                // Nobody heard what was said since the task died.
                registry.each(|s| s.mailbox.resync());
                bus.subscribe()
            });
            async move {
                until(&stop, registry.listen(&mut events)).await;
            }
        });
    }

    async fn listen(&self, events: &mut Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.route(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the router fell behind; every socket looks for itself");
                    metrics::counter!("cima_router_lagged_total").increment(1);
                    self.each(|s| s.mailbox.resync());
                }
                Err(RecvError::Closed) => break,
            }
        }
    }
}

/// A random share of a whole, in [0, 1): the id of a socket is random in its second half.
fn share(id: Uuid) -> f64 {
    (id.as_u64_pair().1 & u64::from(u32::MAX)) as f64 / (f64::from(u32::MAX) + 1.0)
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut sockets) = self.registry.people.entry(self.user) {
            sockets.get_mut().retain(|s| s.id != self.id);
            if sockets.get().is_empty() {
                sockets.remove();
            }
        }
        let open = self.registry.open.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("cima_open_sockets").set(open as f64);
    }
}
