//! Who keeps fixes, how long, and for which emergencies.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::store::Store;
use crate::store::sql::{query, sql};
use crate::store::value::Millis;
use crate::tracking::{Incident, Keeper, RetentionStore};
use async_trait::async_trait;

#[async_trait]
impl RetentionStore for Store {
    async fn keepers(&self, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Keeper>> {
        let devices = query(sql!(
            "SELECT d.id, d.user_id, a.retention_ms, (SELECT min(c.set_at) FROM check_ins c
                 WHERE c.subject_id = d.user_id AND (c.state <> 'waiting') = " lite "0" pg "false" ") AS held_from
             FROM devices d JOIN accounts a ON a.id = d.user_id WHERE " past "d.id" "$1" " ORDER BY d.id LIMIT $2"
        ));
        let keeper = |(device, user, retention, held_from): (_, _, Option<Millis>, _)| Keeper {
            device,
            user,
            retention: retention.map(|ms| ms.0),
            held_from,
        };
        self.db.list(Lane::Routine, devices.bind(after).bind(limit), keeper).await
    }

    async fn incidents(&self, user: UserId, since: Timestamp) -> Stored<Vec<Incident>> {
        let incidents = query(
            "SELECT id, trail_from, ended_at, coalesce(apparent_at, ended_at) AS shown_to FROM emergencies
             WHERE subject_id = $1 AND (ended_at IS NULL OR ended_at >= $2) ORDER BY opened_at, id",
        );
        let incident = |(emergency, from, to, shown_to)| Incident { emergency, from, to, shown_to };
        self.db.list(Lane::Routine, incidents.bind(user).bind(since), incident).await
    }

    async fn every_device_of(&self, user: UserId) -> Stored<Vec<DeviceId>> {
        let devices = query("SELECT id FROM devices WHERE user_id = $1 ORDER BY id").bind(user);
        self.db.list(Lane::Routine, devices, |(id,)| id).await
    }
}
