//! What must not be believed though its signature is right: kept in memory for as long as a token could live.

use super::token::DISTRESS;
use super::{Caller, Identity, IdentityStore, Revoked, TokenKind};
use crate::bus::Event;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId};
use crate::runtime::Tasks;
use dashmap::DashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Between looks at what other nodes revoked and nobody here heard of.
const LOOK: Duration = Duration::from_secs(2);
/// What a look goes back before the one before it: clocks differ, and a transaction may end long after its time.
const OVERLAP: Duration = Duration::from_secs(5 * 60);

/// Removed devices and ended sessions.
#[derive(Default)]
pub struct Revocations {
    devices: DashSet<DeviceId>,
    sessions: DashSet<SessionId>,
}

impl Revocations {
    /// Reads what could still matter from the store.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn load(&self, store: &dyn IdentityStore, now: Timestamp) -> Stored<()> {
        for revoked in store.revoked_since(now - (DISTRESS + Duration::from_secs(3600))).await? {
            self.add(revoked);
        }
        Ok(())
    }

    /// Does not believe it from now on; whether that is new.
    pub fn add(&self, revoked: Revoked) -> bool {
        match revoked {
            Revoked::Device(id) => self.devices.insert(id),
            Revoked::Session(id) => self.sessions.insert(id),
        }
    }

    /// Whether a token's owner is still to be believed.
    pub fn allows(&self, caller: &Caller) -> bool {
        let session_ended = match caller.kind {
            TokenKind::Access(session) => self.sessions.contains(&session),
            TokenKind::Distress => false,
        };
        !session_ended && !self.devices.contains(&caller.device)
    }
}

impl Identity {
    /// Starts the task that learns what other nodes revoke: from their bells, and from the store in case one was lost.
    pub fn start_revocations(self: &Arc<Self>, tasks: &Tasks) {
        if !self.bus.is_shared() {
            return;
        }
        let (identity, stop, mut events) = (Arc::clone(self), tasks.stop(), self.bus.subscribe());
        tasks.spawn("revocations", async move {
            let mut looked_at = identity.clock.now();
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let heard = tokio::select! {
                    () = stop.cancelled() => break,
                    _ = look.tick() => None,
                    event = events.recv() => Some(event),
                };
                match heard {
                    Some(Ok(Event::DeviceRemoved(id))) => {
                        identity.revocations.add(Revoked::Device(id));
                    }
                    Some(Ok(Event::SessionEnded(id))) => {
                        identity.revocations.add(Revoked::Session(id));
                    }
                    None | Some(Ok(Event::Resync) | Err(RecvError::Lagged(_))) => {
                        identity.look_for_revoked(&mut looked_at).await;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(RecvError::Closed)) => break,
                }
            }
        });
    }

    async fn look_for_revoked(&self, looked_at: &mut Timestamp) {
        let now = self.clock.now();
        match self.store.revoked_since(*looked_at - OVERLAP).await {
            Ok(revoked) => {
                for revoked in revoked {
                    if self.revocations.add(revoked) {
                        self.bus.ring_here(revoked.event());
                    }
                }
                *looked_at = now;
            }
            Err(error) => tracing::warn!(%error, "what was revoked could not be read; it is looked at again"),
        }
    }
}

impl Revoked {
    /// The bell of it.
    pub(super) fn event(self) -> Event {
        match self {
            Self::Device(id) => Event::DeviceRemoved(id),
            Self::Session(id) => Event::SessionEnded(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::ACCESS;
    use super::super::{Hasher, Session, SigningKey};
    use super::*;
    use crate::bus::Bus;
    use crate::clock::Clock;
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
}
