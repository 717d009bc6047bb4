//! Fences, what devices are in, who owns a device, public zones, retention.

mod fences;
mod history;
mod owners;
mod retention;
mod states;
pub(super) mod zones;

pub(super) use owners::Owners;
pub(super) use states::MOVE_TAIL;

use super::Store;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, GeofenceId, NodeId, UserId};
use crate::store::identity::tracked;
use crate::store::sql::query;
use crate::tracking::{DeviceTail, FenceCreated, FenceState, Geofence, StoredTransition, TrackingStore};
use async_trait::async_trait;

#[async_trait]
impl TrackingStore for Store {
    async fn create_fence(
        &self,
        fence: &Geofence,
        max_fences: u32,
        max_vertices: u32,
    ) -> Stored<FenceCreated> {
        self.db.again(Lane::Routine, || fences::create(&self.db, fence, max_fences, max_vertices)).await
    }
    async fn fence(&self, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>> {
        fences::one(&self.db, owner, id).await
    }
    async fn fences(&self, owner: UserId, after: Option<GeofenceId>, limit: u32) -> Stored<Vec<Geofence>> {
        fences::page(&self.db, owner, after, limit).await
    }
    async fn replace_fence(
        &self,
        fence: &Geofence,
        _max_fences: u32,
        max_vertices: u32,
    ) -> Stored<Option<Result<Geofence, FenceCreated>>> {
        fences::replace(&self.db, fence, max_vertices).await
    }
    async fn delete_fence(&self, owner: UserId, id: GeofenceId) -> Stored<bool> {
        let delete = || query("DELETE FROM geofences WHERE id = $1 AND owner_id = $2").bind(id).bind(owner);
        Ok(self.db.write(Lane::Routine, delete).await? > 0)
    }

    async fn device_tail(&self, device: DeviceId) -> Stored<DeviceTail> {
        states::tail(&self.db, device).await
    }
    async fn tracked_device(&self, user: UserId) -> Stored<Option<DeviceId>> {
        tracked(&self.db, user).await
    }
    async fn devices_of(&self, user: UserId) -> Stored<Vec<DeviceId>> {
        let devices = query(
            "SELECT id FROM devices WHERE user_id = $1 AND removed_at IS NULL ORDER BY tracked DESC, id",
        );
        self.db.list(Lane::Routine, devices.bind(user), |(id,)| id).await
    }
    async fn fences_inside(&self, owner: UserId, device: DeviceId) -> Stored<Vec<(GeofenceId, String)>> {
        states::names_inside(&self.db, owner, device).await
    }
    async fn transitions_since(&self, device: DeviceId, from: Timestamp) -> Stored<Vec<StoredTransition>> {
        history::since(&self.db, device, from).await
    }
    async fn due_dwells(
        &self,
        now: Timestamp,
        node: NodeId,
        others: Timestamp,
        limit: u32,
    ) -> Stored<Vec<(UserId, DeviceId)>> {
        states::due_dwells(&self.db, now, node, others, limit).await
    }
    async fn states_before(&self, device: DeviceId, before: (Timestamp, i64)) -> Stored<Vec<FenceState>> {
        history::states_before(&self.db, device, before).await
    }
}
