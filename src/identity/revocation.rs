//! What must not be believed though its signature is right: kept in memory for as long as a token could live.

use super::token::DISTRESS;
use super::{Caller, IdentityStore, Revoked, TokenKind};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId};
use dashmap::DashSet;
use std::time::Duration;

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

    /// Does not believe it from now on.
    pub fn add(&self, revoked: Revoked) {
        match revoked {
            Revoked::Device(id) => self.devices.insert(id),
            Revoked::Session(id) => self.sessions.insert(id),
        };
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
