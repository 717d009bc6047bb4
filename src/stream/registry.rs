//! Who is connected to this node, and who watches whom.

use super::mailbox::Mailbox;
use crate::id::{DeviceId, SessionId, UserId};
use crate::identity::Revoked;
use crate::runtime::Mechanism;
use dashmap::DashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// The part of a drain in which sockets close whose people have no part in an open emergency.
const FIRST_LEAVE: f64 = 0.75;

/// One socket, as the registry knows it.
pub(super) struct Socket {
    pub(super) id: Uuid,
    pub(super) device: DeviceId,
    /// The session of its newest token; `None` for a distress token.
    pub(super) session: Option<SessionId>,
    pub(super) mailbox: Arc<Mailbox>,
}

/// The sockets of one node.
#[derive(Default)]
pub struct Registry {
    people: DashMap<UserId, Vec<Socket>>,
    watchers: DashMap<UserId, Vec<(Uuid, Arc<Mailbox>)>>,
    open: AtomicUsize,
    draining: AtomicBool,
    /// Somebody looks for all sockets at once when hints were lost.
    polled: AtomicBool,
    lost: Notify,
}

/// Takes the socket out of the registry when it ends, however it ends.
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
        // It came between the last look and the end of the accepting.
        if self.draining.load(Ordering::SeqCst) {
            mailbox.drain(Duration::ZERO);
        }
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("cima_open_sockets").set(open as f64);
        Registration { registry: Arc::clone(self), user, id }
    }

    /// A socket goes on under another session of its device: the end of that one closes it from now on.
    pub(super) fn move_to(&self, user: UserId, id: Uuid, session: SessionId) {
        if let Some(mut sockets) = self.people.get_mut(&user) {
            sockets.iter_mut().filter(|s| s.id == id).for_each(|s| s.session = Some(session));
        }
    }

    /// Sockets that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The people who have a socket here.
    pub(super) fn people(&self) -> Vec<UserId> {
        self.people.iter().map(|entry| *entry.key()).collect()
    }

    /// Devices that send fixes here by a claim.
    pub(super) fn streaming(&self) -> Vec<(UserId, DeviceId)> {
        let mut devices = Vec::new();
        for sockets in &self.people {
            let streams = sockets.iter().filter(|s| s.mailbox.claim().is_some());
            devices.extend(streams.map(|s| (*sockets.key(), s.device)));
        }
        devices
    }

    /// Closes the older sockets of a device that send fixes: the phone has come back on a new one.
    pub(super) fn replace_older(&self, user: UserId, device: DeviceId, newest: Uuid) {
        self.each_of(user, |s| {
            if s.device == device && s.id != newest && s.mailbox.sends_fixes() {
                s.mailbox.replaced();
            }
        });
    }

    /// Closes the sockets of a device whose claim is older than this one: the phone is on another node now.
    pub(super) fn replace_claimed_before(&self, user: UserId, device: DeviceId, claim: i64) {
        self.each_of(user, |s| {
            if s.device == device && s.mailbox.claim().is_some_and(|own| own < claim) {
                s.mailbox.replaced();
            }
        });
    }

    pub(super) fn add_watcher(&self, subject: UserId, id: Uuid, mailbox: &Arc<Mailbox>) {
        self.watchers.entry(subject).or_default().push((id, Arc::clone(mailbox)));
    }

    pub(super) fn remove_watcher(&self, subject: UserId, id: Uuid) {
        if let dashmap::Entry::Occupied(mut watchers) = self.watchers.entry(subject) {
            watchers.get_mut().retain(|(watcher, _)| *watcher != id);
            if watchers.get().is_empty() {
                watchers.remove();
            }
        }
    }

    /// Every socket of a person.
    pub(super) fn each_of(&self, user: UserId, hint: impl Fn(&Socket)) {
        if let Some(sockets) = self.people.get(&user) {
            sockets.iter().for_each(hint);
        }
    }

    /// Every socket of the node.
    pub(super) fn each(&self, hint: impl Fn(&Socket)) {
        for sockets in &self.people {
            sockets.value().iter().for_each(&hint);
        }
    }

    /// From now on lost hints are looked for by whoever waits for [`Registry::lost`].
    pub(super) fn set_polled(&self) {
        self.polled.store(Mechanism::PacedResync.works(), Ordering::Relaxed);
    }

    /// Waits until hints were lost.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Hints were lost. A node looks for all its sockets in a few questions; only where there is nobody to do so does each
    /// socket look for itself.
    pub(super) fn resync(&self) {
        if self.polled.load(Ordering::Relaxed) {
            self.lost.notify_one();
        } else {
            self.each(|s| s.mailbox.resync());
        }
    }

    /// Says to each socket whose device or session is not believed any more that it ended.
    pub(super) fn end_revoked(&self, is_revoked: impl Fn(DeviceId, Option<SessionId>) -> Option<Revoked>) {
        self.each(|s| match is_revoked(s.device, s.session) {
            Some(Revoked::Device(_)) => s.mailbox.removed(),
            Some(Revoked::Session(session)) => s.mailbox.ended(session),
            None => {}
        });
    }

    /// Every socket that watches a person.
    pub(super) fn each_watcher(&self, subject: UserId, hint: impl Fn(&Mailbox)) {
        if let Some(watchers) = self.watchers.get(&subject) {
            watchers.iter().for_each(|(_, mailbox)| hint(mailbox));
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

    /// Hints at what the person's sockets have not sent of their inbox, whose head this is.
    pub(super) fn hint_inbox(&self, user: UserId, head: i64) {
        self.each_of(user, |s| {
            if s.mailbox.sent_to() < head {
                s.mailbox.inbox();
            }
        });
    }

    /// Everybody who watches somebody looks again whether they may.
    pub(super) fn hint_grants(&self) {
        for watchers in &self.watchers {
            watchers.value().iter().for_each(|(_, mailbox)| mailbox.visibility(*watchers.key()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Event;

    const ADA: UserId = UserId(Uuid::from_u128(1));
    const PHONE: DeviceId = DeviceId(Uuid::from_u128(2));
    const WATCH: DeviceId = DeviceId(Uuid::from_u128(3));
    const FIRST: SessionId = SessionId(Uuid::from_u128(4));
    const SECOND: SessionId = SessionId(Uuid::from_u128(5));

    fn open(registry: &Arc<Registry>, id: u128, device: DeviceId) -> (Arc<Mailbox>, Registration) {
        let mailbox = Arc::new(Mailbox::default());
        let socket =
            Socket { id: Uuid::from_u128(id), device, session: Some(FIRST), mailbox: Arc::clone(&mailbox) };
        (mailbox, registry.join(ADA, socket))
    }

    #[test]
    fn a_newer_stream_of_a_device_replaces_the_older_ones_that_stream() {
        let registry = Arc::new(Registry::default());
        let (older, _older) = open(&registry, 10, PHONE);
        let (listens, _listens) = open(&registry, 11, PHONE);
        let (wrist, _wrist) = open(&registry, 12, WATCH);
        let (newest, _newest) = open(&registry, 13, PHONE);
        [&older, &wrist, &newest].iter().for_each(|mailbox| mailbox.set_sends_fixes());
        registry.replace_older(ADA, PHONE, Uuid::from_u128(13));
        let replaced = [&older, &listens, &wrist, &newest].map(|mailbox| mailbox.take_now().replaced);
        assert_eq!(replaced, [true, false, false, false]);
    }

    #[test]
    fn a_claim_replaces_older_claims_and_not_its_own() {
        let registry = Arc::new(Registry::default());
        let (older, _older) = open(&registry, 10, PHONE);
        let (newer, _newer) = open(&registry, 11, PHONE);
        let (unclaimed, _unclaimed) = open(&registry, 12, PHONE);
        older.set_claim(6);
        newer.set_claim(7);
        registry.replace_claimed_before(ADA, PHONE, 7);
        let replaced = [&older, &newer, &unclaimed].map(|mailbox| mailbox.take_now().replaced);
        assert_eq!(replaced, [true, false, false]);
    }

    #[test]
    fn the_end_of_a_session_is_said_to_the_sockets_that_are_on_it_now() {
        let registry = Arc::new(Registry::default());
        let (moved, _moved) = open(&registry, 10, PHONE);
        let (stays, _stays) = open(&registry, 11, PHONE);
        registry.move_to(ADA, Uuid::from_u128(10), SECOND);
        registry.route(&Event::SessionEnded(FIRST));
        assert_eq!([&moved, &stays].map(|mailbox| mailbox.take_now().ended), [None, Some(FIRST)]);
        registry.route(&Event::SessionEnded(SECOND));
        assert_eq!([&moved, &stays].map(|mailbox| mailbox.take_now().ended), [Some(SECOND), None]);
    }

    #[test]
    fn who_comes_while_the_node_stops_is_told_at_once_and_emergencies_leave_last() {
        let registry = Arc::new(Registry::default());
        let (bystander, _bystander) = open(&registry, 10, PHONE);
        registry.drain(Duration::from_secs(100), &HashSet::new());
        assert!(bystander.take_now().drain.is_some_and(|after| after < Duration::from_secs(75)));
        let (late, _late) = open(&registry, 11, PHONE);
        assert_eq!(late.take_now().drain, Some(Duration::ZERO));
        registry.drain(Duration::from_secs(100), &HashSet::from([ADA]));
        assert!(bystander.take_now().drain.is_some_and(|after| after >= Duration::from_secs(75)));
    }

    #[test]
    fn a_socket_that_ends_leaves_nothing_behind() {
        let registry = Arc::new(Registry::default());
        let (mailbox, registration) = open(&registry, 10, PHONE);
        registry.add_watcher(ADA, Uuid::from_u128(10), &mailbox);
        registry.remove_watcher(ADA, Uuid::from_u128(10));
        drop(registration);
        assert_eq!((registry.open(), registry.people.len(), registry.watchers.len()), (0, 0, 0));
    }
}
