//! Who keeps fixes, how long, and for which emergencies.

use super::PostgresStore;
use super::at::At;
use super::failure::read;
use super::values::duration;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::tracking::{Incident, Keeper, RetentionStore};
use async_trait::async_trait;
use sqlx::{query_as, query_scalar};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct KeeperRow {
    id: Uuid,
    user_id: Uuid,
    retention_ms: Option<i64>,
    held_from: Option<At>,
}

#[derive(sqlx::FromRow)]
struct IncidentRow {
    id: Uuid,
    trail_from: At,
    ended_at: Option<At>,
    shown_to: Option<At>,
}

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn keepers(&self, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Keeper>> {
        let devices = query_as::<_, KeeperRow>(
            "SELECT d.id, d.user_id, a.retention_ms, (SELECT min(c.set_at) FROM check_ins c
                 WHERE c.subject_id = d.user_id AND (c.state <> 'waiting') = false) AS held_from
             FROM devices d JOIN accounts a ON a.id = d.user_id WHERE $1::uuid IS NULL OR d.id > $1 ORDER BY d.id LIMIT $2",
        );
        let after = after.map(|id| id.0);
        let rows = read(devices.bind(after).bind(i64::from(limit)).fetch_all(&self.db.routine)).await?;
        let keeper = |row: KeeperRow| Keeper {
            device: DeviceId(row.id),
            user: UserId(row.user_id),
            retention: row.retention_ms.map(duration),
            held_from: row.held_from.map(Timestamp::from),
        };
        Ok(rows.into_iter().map(keeper).collect())
    }

    async fn incidents(&self, user: UserId, since: Timestamp) -> Stored<Vec<Incident>> {
        let incidents = query_as::<_, IncidentRow>(
            "SELECT id, trail_from, ended_at, coalesce(apparent_at, ended_at) AS shown_to FROM emergencies
             WHERE subject_id = $1 AND (ended_at IS NULL OR ended_at >= $2) ORDER BY opened_at, id",
        );
        let rows = incidents.bind(user.0).bind(At(since)).fetch_all(&self.db.routine);
        let incident = |row: IncidentRow| Incident {
            emergency: EmergencyId(row.id),
            from: row.trail_from.0,
            to: row.ended_at.map(Timestamp::from),
            shown_to: row.shown_to.map(Timestamp::from),
        };
        Ok(read(rows).await?.into_iter().map(incident).collect())
    }

    async fn every_device_of(&self, user: UserId) -> Stored<Vec<DeviceId>> {
        let devices = query_scalar::<_, Uuid>("SELECT id FROM devices WHERE user_id = $1 ORDER BY id");
        let ids = read(devices.bind(user.0).fetch_all(&self.db.routine)).await?;
        Ok(ids.into_iter().map(DeviceId).collect())
    }
}
