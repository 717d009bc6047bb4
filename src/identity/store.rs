//! What identity needs from the store. Every method is one use case and atomic; absent is `Ok(None)`.

use super::{Account, AccountPatch, Device, NewAccount, Platform, Session};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId, UserId};
use async_trait::async_trait;

/// What became of a new account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccountCreated {
    /// It is new.
    Created,
    /// The same id has the same handle already: a repeat.
    Repeated,
    /// Somebody has or had the handle, or the id.
    Taken,
}

/// A sign-in to store: the device is made, or gone on with if it is the user's own.
pub struct NewSession {
    /// The new session; its generation is 1.
    pub session: Session,
    /// What the owner calls the device.
    pub device_name: String,
    /// What runs on it.
    pub platform: Platform,
    /// When.
    pub at: Timestamp,
}

/// What became of a refresh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// `generation` was current; the next one is now.
    Rotated,
    /// `generation` was followed less than the grace ago: the same successor again.
    Repeated,
    /// An older one was used again: the session was ended.
    Reused,
    /// There is no such session any more.
    Gone,
}

/// Whose tokens are refused from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revoked {
    /// A removed device: all of its tokens.
    Device(DeviceId),
    /// An ended session: its access tokens.
    Session(SessionId),
}

/// Identity's part of the store.
#[async_trait]
pub trait IdentityStore: Send + Sync {
    /// Creates the account unless its id or handle (or the handle's mark) is known.
    async fn create_account(&self, account: NewAccount) -> Stored<AccountCreated>;
    /// The account with this folded handle.
    async fn account_by_handle(&self, handle: &str) -> Stored<Option<Account>>;
    /// The account.
    async fn account(&self, user: UserId) -> Stored<Option<Account>>;
    /// Applies the patch and returns the account after it.
    async fn update_account(&self, user: UserId, patch: AccountPatch) -> Stored<Option<Account>>;
    /// Counts a wrong PIN and locks PINs until `lock_until` when `limit` is reached (the count starts again then).
    async fn pin_failed(&self, user: UserId, limit: u32, lock_until: Timestamp) -> Stored<()>;
    /// Forgets the wrong PINs.
    async fn pin_passed(&self, user: UserId) -> Stored<()>;
    /// Opens a session. `false` if the device id belongs to somebody else or was removed.
    async fn open_session(&self, new: NewSession) -> Stored<bool>;
    /// The session if it is open and its device not removed.
    async fn session(&self, id: SessionId) -> Stored<Option<Session>>;
    /// Moves the session from `generation` to the next; `grace_start` is the oldest rotation that may be repeated.
    /// A reuse ends the session and records the revocation at `at`.
    async fn rotate(
        &self,
        id: SessionId,
        generation: i64,
        grace_start: Timestamp,
        at: Timestamp,
    ) -> Stored<Rotation>;
    /// Lets the session do what needs step-up until then.
    async fn step_up(&self, id: SessionId, until: Timestamp) -> Stored<()>;
    /// Ends a session and records the revocation.
    async fn end_session(&self, id: SessionId, at: Timestamp) -> Stored<()>;
    /// The person's devices that are not removed, by id, after `after`, at most `limit`.
    async fn devices(&self, user: UserId, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Device>>;
    /// The device, unless removed.
    async fn device(&self, id: DeviceId) -> Stored<Option<Device>>;
    /// Makes this the tracked device of its person and no other. `false` if it is not theirs or was removed.
    async fn track(&self, user: UserId, device: DeviceId) -> Stored<bool>;
    /// Makes this the tracked device if the person has none; the tracked device after it.
    async fn track_if_none(&self, user: UserId, device: DeviceId) -> Stored<Option<DeviceId>>;
    /// Stops tracking the device. `false` if it is not the person's.
    async fn untrack(&self, user: UserId, device: DeviceId) -> Stored<bool>;
    /// Removes the device, ends its sessions, records the revocations. `false` if it is not the person's.
    async fn remove_device(&self, user: UserId, device: DeviceId, at: Timestamp) -> Stored<bool>;
    /// What was revoked at or after `since`.
    async fn revoked_since(&self, since: Timestamp) -> Stored<Vec<Revoked>>;
    /// Forgets the person in every table of every domain, fixes included, in a way that leaves no coordinate in the
    /// files; the handle's mark and the devices' revocations stay. The devices removed.
    async fn forget(&self, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>>;
}
