//! Revoked devices and sessions. Their tokens are refused though their signature is right, so they are kept in memory for
//! as long as a token could live.

use super::token::DISTRESS;
use super::{Caller, Identity, IdentityStore, Revoked};
use crate::bus::Event;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId};
use crate::runtime::Tasks;
use dashmap::DashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Between two polls for what other nodes revoked and this one has not heard of.
const LOOK: Duration = Duration::from_secs(2);
/// A poll begins so long before the one before it: clocks differ, and a transaction may end long after its time.
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

    /// Refuses its tokens from now on; `true` if that is new.
    pub fn add(&self, revoked: Revoked) -> bool {
        match revoked {
            Revoked::Device(id) => self.devices.insert(id),
            Revoked::Session(id) => self.sessions.insert(id),
        }
    }

    /// What of a token's owner was revoked: their device, or else the session of the token. `None` if they are still to be
    /// believed.
    pub fn revoked(&self, caller: &Caller) -> Option<Revoked> {
        if self.devices.contains(&caller.device) {
            return Some(Revoked::Device(caller.device));
        }
        let session = caller.session().filter(|session| self.sessions.contains(session));
        session.map(Revoked::Session)
    }
}

impl Identity {
    /// Starts the task that learns what other nodes revoke: from their hints, and from the store in case one was lost.
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
                        self.bus.publish_here(revoked.event());
                    }
                }
                *looked_at = now;
            }
            Err(error) => tracing::warn!(%error, "what was revoked could not be read; it is looked at again"),
        }
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
    use super::*;
    use crate::id::UserId;
    use crate::identity::TokenKind;
    use uuid::Uuid;

    #[test]
    fn a_removed_device_outweighs_an_ended_session_and_a_distress_token_has_none() {
        let (device, session) = (DeviceId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let user = UserId(Uuid::from_u128(3));
        let caller = |kind| Caller { user, device, kind, until: Timestamp::from_unix_ms(0) };
        let (access, distress) = (caller(TokenKind::Access(session)), caller(TokenKind::Distress));
        let revocations = Revocations::default();
        assert_eq!(revocations.revoked(&access), None);
        revocations.add(Revoked::Session(session));
        assert_eq!(revocations.revoked(&access), Some(Revoked::Session(session)));
        assert_eq!(revocations.revoked(&distress), None);
        revocations.add(Revoked::Device(device));
        assert_eq!(revocations.revoked(&access), Some(Revoked::Device(device)));
        assert_eq!(revocations.revoked(&distress), Some(Revoked::Device(device)));
    }
}
