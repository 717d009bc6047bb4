//! Endpoints, and what is handed to their providers.

mod deliveries;
mod endpoints;

pub(super) use deliveries::queue;

use super::Store;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::push::{Channel, Claimed, Endpoint, PushStore, Queue, Settled, Target, Urgency};
use async_trait::async_trait;

/// What is swept in one transaction, so that no emergency waits behind a long one.
const SWEPT: u32 = 200;

const fn lane(urgency: Urgency) -> Lane {
    match urgency {
        Urgency::Emergency => Lane::Emergency,
        Urgency::Routine => Lane::Routine,
    }
}

#[async_trait]
impl PushStore for Store {
    async fn register_endpoint(
        &self,
        user: UserId,
        device: DeviceId,
        target: &Target,
        at: Timestamp,
    ) -> Stored<bool> {
        self.db.again(Lane::Routine, || endpoints::register(self, user, device, target, at)).await
    }
    async fn remove_endpoint(&self, user: UserId, device: DeviceId, channel: Channel) -> Stored<bool> {
        endpoints::remove(&self.db, user, device, channel).await
    }
    async fn endpoints(&self, user: UserId) -> Stored<Vec<Endpoint>> {
        endpoints::of(&self.db, user).await
    }

    async fn next_push(&self, queue: Queue) -> Stored<Option<Timestamp>> {
        deliveries::next(&self.db, queue).await
    }
    async fn oldest_emergency_push(&self) -> Stored<Option<Timestamp>> {
        deliveries::oldest_emergency(&self.db).await
    }
    async fn claim_pushes(
        &self,
        queue: Queue,
        except: &[String],
        limit: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Stored<Vec<Claimed>> {
        deliveries::claim(&self.db, queue, except, limit, now, lease_until).await
    }
    async fn settle_pushes(
        &self,
        urgency: Urgency,
        settled: &[Settled],
        now: Timestamp,
    ) -> Stored<Vec<UserId>> {
        deliveries::settle(self, urgency, settled, now).await
    }
    async fn recover_pushes(&self, now: Timestamp) -> Stored<u64> {
        deliveries::recover(&self.db, now).await
    }
    async fn sweep_pushes(&self, now: Timestamp, expired: Timestamp) -> Stored<Vec<UserId>> {
        deliveries::give_up_late(&self.db, now).await?;
        endpoints::sweep(self, now, expired).await
    }
    async fn replay_pushes(&self, now: Timestamp) -> Stored<u64> {
        deliveries::replay(&self.db, now).await
    }
}
