//! Accounts, devices and sessions; what revokes them; forgetting a person.

mod accounts;
mod devices;
mod forget;
mod sessions;

pub(super) use devices::tracked;

use super::Store;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId, UserId};
use crate::identity::{
    Account, AccountCreated, AccountPatch, Device, IdentityStore, NewAccount, NewSession, Revoked, Rotation,
    Session,
};
use async_trait::async_trait;

#[async_trait]
impl IdentityStore for Store {
    async fn create_account(&self, account: NewAccount) -> Stored<AccountCreated> {
        self.db.again(Lane::Routine, || accounts::create(&self.db, &account)).await
    }
    async fn account_by_handle(&self, handle: &str) -> Stored<Option<Account>> {
        accounts::by_handle(&self.db, handle).await
    }
    async fn account(&self, user: UserId) -> Stored<Option<Account>> {
        accounts::one(&self.db, user).await
    }
    async fn update_account(&self, user: UserId, patch: AccountPatch) -> Stored<Option<Account>> {
        accounts::update(&self.db, user, patch).await
    }
    async fn pin_failed(&self, user: UserId, limit: u32, lock_until: Timestamp) -> Stored<()> {
        accounts::pin_failed(&self.db, user, limit, lock_until).await
    }
    async fn pin_passed(&self, user: UserId) -> Stored<()> {
        accounts::pin_passed(&self.db, user).await
    }

    async fn open_session(&self, new: NewSession) -> Stored<bool> {
        self.db.again(Lane::Routine, || sessions::open(&self.db, &new)).await
    }
    async fn session(&self, id: SessionId) -> Stored<Option<Session>> {
        sessions::one(&self.db, id).await
    }
    async fn rotate(
        &self,
        id: SessionId,
        generation: i64,
        grace_start: Timestamp,
        at: Timestamp,
    ) -> Stored<Rotation> {
        sessions::rotate(&self.db, id, generation, grace_start, at).await
    }
    async fn step_up(&self, id: SessionId, until: Timestamp) -> Stored<()> {
        sessions::step_up(&self.db, id, until).await
    }
    async fn end_session(&self, id: SessionId, at: Timestamp) -> Stored<()> {
        sessions::end(&self.db, id, at).await
    }

    async fn devices(&self, user: UserId, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Device>> {
        devices::page(&self.db, user, after, limit).await
    }
    async fn device(&self, id: DeviceId) -> Stored<Option<Device>> {
        devices::one(&self.db, id).await
    }
    async fn track(&self, user: UserId, device: DeviceId) -> Stored<bool> {
        self.db.again(Lane::Routine, || devices::track(&self.db, user, device)).await
    }
    async fn track_if_none(&self, user: UserId, device: DeviceId) -> Stored<Option<DeviceId>> {
        devices::track_if_none(&self.db, user, device).await
    }
    async fn untrack(&self, user: UserId, device: DeviceId) -> Stored<bool> {
        devices::untrack(&self.db, user, device).await
    }
    async fn remove_device(&self, user: UserId, device: DeviceId, at: Timestamp) -> Stored<bool> {
        self.db.again(Lane::Routine, || devices::remove(&self.db, user, device, at)).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Stored<Vec<Revoked>> {
        sessions::revoked_since(&self.db, since).await
    }
    async fn forget(&self, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>> {
        forget::forget(self, user, at).await
    }
}
