//! Revoked devices and sessions. Their tokens are refused though their signature is right, so they are kept in memory for
//! as long as a token could live.
//!
//! An ended session is refused by its access tokens alone, which live for minutes. A removed device is refused by its
//! distress tokens too, which live for half a year; so what is kept is bounded by the devices removed in that time.

use super::token::{ACCESS, DISTRESS};
use super::{Identity, IdentityStore, Revoked};
use crate::bus::Event;
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::error::Stored;
use crate::id::{DeviceId, SessionId};
use crate::runtime::{Pace, Rounds, Tasks, until};
use dashmap::DashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Between two polls for what other nodes revoked and this one has not heard of.
const LOOK: Duration = Duration::from_secs(2);
/// A poll begins so long before the one before it: clocks differ, and a transaction may end long after its time.
const OVERLAP: Duration = Duration::from_secs(5 * 60);
/// What a token may live longer than it says: clocks differ, and one may be signed a moment after the revocation.
const SPARE: Duration = Duration::from_secs(3_600);
/// Between looks at what no token can meet any more.
const SWEEP: Duration = Duration::from_secs(600);

/// Until when a revocation is remembered. Both clocks must say so: a wall clock that was set forward and back again
/// makes tokens valid again.
#[derive(Clone, Copy)]
struct Remembered {
    since: (Timestamp, Monotonic),
    for_: Duration,
}

impl Remembered {
    fn from_now(clock: &Clock, lifetime: Duration) -> Self {
        Self { since: (clock.now(), clock.monotonic()), for_: lifetime + SPARE }
    }
    fn is_over(&self, clock: &Clock) -> bool {
        clock.now() > self.since.0 + self.for_ && clock.monotonic().since(self.since.1) > self.for_
    }
}

/// Removed devices and ended sessions.
pub struct Revocations {
    devices: DashMap<DeviceId, Remembered>,
    sessions: DashMap<SessionId, Remembered>,
    clock: Clock,
}

impl Revocations {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self { devices: DashMap::new(), sessions: DashMap::new(), clock }
    }

    /// Reads what could still matter from the store.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn load(&self, store: &dyn IdentityStore) -> Stored<()> {
        let now = self.clock.now();
        let devices = store.revoked_since(now - (DISTRESS + SPARE)).await?;
        let sessions = store.revoked_since(now - (ACCESS + SPARE)).await?;
        let devices = devices.into_iter().filter(|revoked| matches!(revoked, Revoked::Device(_)));
        for revoked in devices.chain(sessions) {
            self.add(revoked);
        }
        Ok(())
    }

    /// Refuses its tokens from now on; `true` if that is new.
    pub fn add(&self, revoked: Revoked) -> bool {
        match revoked {
            Revoked::Device(id) => self.remember(&self.devices, id, DISTRESS),
            Revoked::Session(id) => self.remember(&self.sessions, id, ACCESS),
        }
    }

    /// It is remembered from the first time on that it is heard of, which is never before it was revoked.
    fn remember<K: Eq + Hash>(&self, known: &DashMap<K, Remembered>, id: K, lifetime: Duration) -> bool {
        let mut is_new = false;
        known.entry(id).or_insert_with(|| {
            is_new = true;
            Remembered::from_now(&self.clock, lifetime)
        });
        is_new
    }

    /// Forgets what no token can meet any more.
    fn sweep(&self) {
        self.devices.retain(|_, remembered| !remembered.is_over(&self.clock));
        self.sessions.retain(|_, remembered| !remembered.is_over(&self.clock));
        metrics::gauge!("cima_revocations").set((self.devices.len() + self.sessions.len()) as f64);
    }

    /// What of a token's owner was revoked: their device, or else the session of the token. `None` if they are still to be
    /// believed.
    pub fn revoked(&self, device: DeviceId, session: Option<SessionId>) -> Option<Revoked> {
        if self.devices.contains_key(&device) {
            return Some(Revoked::Device(device));
        }
        session.filter(|session| self.sessions.contains_key(session)).map(Revoked::Session)
    }
}

impl Identity {
    /// Starts the tasks that forget revocations in time, and that learn what other nodes revoke: from their hints, and from
    /// the store in case one was lost.
    pub fn start_revocations(self: &Arc<Self>, tasks: &Tasks) {
        let identity = Arc::clone(self);
        tasks.every("revocation-sweep", Pace::of(SWEEP).by(&self.clock), move || {
            identity.revocations.sweep();
            std::future::ready(())
        });
        if !self.bus.is_shared() {
            return;
        }
        let (identity, stop, lost) = (Arc::clone(self), tasks.stop(), Arc::<Notify>::default());
        let (mut subscribed, some_lost) = (Some(self.bus.subscribe()), Arc::clone(&lost));
        tasks.keep("revocations", move || {
            let (identity, stop, lost) = (Arc::clone(&identity), stop.clone(), Arc::clone(&some_lost));
            let mut events = subscribed.take().unwrap_or_else(|| {
                // Nobody heard what was said since the task died.
                lost.notify_one();
                identity.bus.subscribe()
            });
            async move {
                until(&stop, identity.hear_revoked(&mut events, &lost)).await;
            }
        });
        let looked_at = self.clock.now();
        tasks.rounds("revocation-look", Looks { identity: Arc::clone(self), lost, looked_at });
    }

    async fn hear_revoked(&self, events: &mut Receiver<Event>, lost: &Notify) {
        loop {
            match events.recv().await {
                Ok(Event::DeviceRemoved(id)) => self.refuse(Revoked::Device(id)),
                Ok(Event::SessionEnded(id)) => self.refuse(Revoked::Session(id)),
                Ok(Event::Resync) | Err(RecvError::Lagged(_)) => lost.notify_one(),
                Ok(_) => {}
                Err(RecvError::Closed) => break,
            }
        }
    }

    /// Refuses its tokens. If that is new it is said here once more: a socket that opened just before was let in, and may
    /// have come after the hint.
    fn refuse(&self, revoked: Revoked) {
        if self.revocations.add(revoked) {
            self.bus.publish_here(revoked.event());
        }
    }

    async fn look_for_revoked(&self, looked_at: &mut Timestamp) {
        let now = self.clock.now();
        match self.store.revoked_since(*looked_at - OVERLAP).await {
            Ok(revoked) => {
                revoked.into_iter().for_each(|revoked| self.refuse(revoked));
                *looked_at = now;
            }
            Err(error) => tracing::warn!(%error, "what was revoked could not be read; it is looked at again"),
        }
    }
}

/// Looks in the store every so often, and when hints were lost.
struct Looks {
    identity: Arc<Identity>,
    lost: Arc<Notify>,
    looked_at: Timestamp,
}

impl Rounds for Looks {
    type Next = ();

    async fn round(&mut self) -> Option<()> {
        self.identity.look_for_revoked(&mut self.looked_at).await;
        Some(())
    }

    async fn wait(&mut self, (): ()) {
        tokio::select! {
            () = self.lost.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }

    fn is_cut_short(&self) -> bool {
        true
    }
}

impl Revoked {
    /// The event that tells of it.
    pub(super) fn event(self) -> Event {
        match self {
            Self::Device(id) => Event::DeviceRemoved(id),
            Self::Session(id) => Event::SessionEnded(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Caller, Hasher, Session, SigningKey, TokenKind};
    use super::*;
    use crate::bus::Bus;
    use crate::id::UserId;
    use uuid::Uuid;

    const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);
    /// How far a node's clock may be ahead of another's.
    const SKEW: Duration = Duration::from_secs(60);

    struct Node {
        identity: Arc<Identity>,
        key: SigningKey,
        clock: Clock,
        tasks: Tasks,
        _folder: tempfile::TempDir,
    }

    impl Node {
        async fn start() -> Self {
            let (clock, tasks) = (Clock::manual(T0), Tasks::default());
            let folder = tempfile::tempdir().unwrap();
            let stores = crate::store::sqlite::open(folder.path(), clock.clone()).await.unwrap();
            let pem = SigningKey::generate_pem().unwrap();
            let key = || SigningKey::from_pem(&pem).unwrap();
            let hasher = Hasher::new(64, 1).unwrap();
            let identity = Identity::start(stores.main, hasher, key(), Bus::default(), clock.clone());
            let identity = Arc::new(identity.await.unwrap());
            identity.start_revocations(&tasks);
            Self { identity, key: key(), clock, tasks, _folder: folder }
        }

        /// Whether a token is believed, and whether it would be if nothing were revoked.
        fn believes(&self, token: &str) -> (bool, bool) {
            (self.identity.authenticate(token).is_ok(), self.key.check(token, &self.clock).is_ok())
        }

        fn remembered(&self) -> (usize, usize) {
            (self.identity.revocations.devices.len(), self.identity.revocations.sessions.len())
        }

        /// Until so much is remembered; what is after a second.
        async fn forgets_to(&self, wanted: (usize, usize)) -> (usize, usize) {
            for _ in 0..200 {
                if self.remembered() == wanted {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.remembered()
        }
    }

    fn session(n: u128) -> Session {
        Session {
            id: SessionId(Uuid::from_u128(n)),
            user: UserId(Uuid::from_u128(1)),
            device: DeviceId(Uuid::from_u128(n)),
            salt: vec![0; 32],
            generation: 1,
            rotated_at: T0,
            stepped_up_until: T0,
        }
    }

    #[tokio::test]
    async fn what_no_token_can_meet_any_more_is_forgotten() {
        let node = Node::start().await;
        for n in 1..=10 {
            node.identity.revocations.add(Revoked::Session(SessionId(Uuid::from_u128(n))));
            node.identity.revocations.add(Revoked::Device(DeviceId(Uuid::from_u128(n))));
        }
        assert_eq!(node.remembered(), (10, 10));
        node.clock.advance(ACCESS + 2 * HOUR);
        assert_eq!(node.forgets_to((10, 0)).await, (10, 0), "devices have distress tokens");
        node.clock.advance(DISTRESS);
        assert_eq!(node.forgets_to((0, 0)).await, (0, 0));
        assert!(node.tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn nothing_is_believed_that_was_revoked_however_late_it_comes() {
        // Both tokens are the last of a node whose clock is ahead.
        let (steps, shift) = (40, ACCESS / 15);
        let node = Node::start().await;
        let (of_session, of_device) = (session(1), session(2));
        let (access, _) = node.key.sign(&of_session, node.clock.now() + SKEW).unwrap();
        let (_, distress) = node.key.sign(&of_device, node.clock.now() + SKEW).unwrap();
        assert_eq!((node.believes(&access), node.believes(&distress)), ((true, true), (true, true)));
        node.identity.revocations.add(Revoked::Session(of_session.id));
        node.identity.revocations.add(Revoked::Device(of_device.device));
        let mut met = 0;
        for _ in 0..steps {
            let (is, would_be) = node.believes(&access);
            assert!(!is);
            met += usize::from(would_be);
            node.clock.advance(shift);
            tokio::task::yield_now().await;
        }
        assert!(met >= 15 && met < steps, "{met}: the last steps are behind the token's end");
        let mut met = 0;
        for _ in 0..190 {
            let (is, would_be) = node.believes(&distress);
            assert!(!is);
            met += usize::from(would_be);
            node.clock.advance(24 * HOUR);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!((179..190).contains(&met), "{met}");
    }

    #[test]
    fn a_removed_device_outweighs_an_ended_session_and_a_distress_token_has_none() {
        let (device, session) = (DeviceId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let user = UserId(Uuid::from_u128(3));
        let caller = |kind| Caller { user, device, kind, until: T0 };
        let (access, distress) = (caller(TokenKind::Access(session)), caller(TokenKind::Distress));
        let revocations = Revocations::new(Clock::manual(T0));
        assert_eq!(revocations.revoked(access.device, access.session()), None);
        revocations.add(Revoked::Session(session));
        assert_eq!(revocations.revoked(access.device, access.session()), Some(Revoked::Session(session)));
        assert_eq!(revocations.revoked(distress.device, distress.session()), None);
        revocations.add(Revoked::Device(device));
        assert_eq!(revocations.revoked(access.device, access.session()), Some(Revoked::Device(device)));
        assert_eq!(revocations.revoked(distress.device, distress.session()), Some(Revoked::Device(device)));
    }
}
