//! Fences, their states and their history.

use super::PostgresStore;
use super::at::At;
use super::failure::{read, unreadable};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{DeviceId, GeofenceId, NodeId, TransitionId, UserId};
use crate::tracking::{
    DeviceTail, FenceCreated, FenceState, Geofence, Membership, StoredTransition, TrackingStore, Transition,
    Trigger,
};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct StateRow {
    geofence_id: Uuid,
    revision: i64,
    membership: String,
    since: At,
    since_seq: i64,
    dwelled: bool,
    dwell_at: Option<At>,
}

impl TryFrom<StateRow> for FenceState {
    type Error = StoreError;
    fn try_from(row: StateRow) -> Stored<Self> {
        Ok(Self {
            fence: GeofenceId(row.geofence_id),
            revision: row.revision,
            membership: Membership::from_word(&row.membership)
                .ok_or_else(|| unreadable("fence_states.membership"))?,
            since: row.since.0,
            since_seq: row.since_seq,
            dwelled: row.dwelled,
            dwell_at: row.dwell_at.map(Timestamp::from),
        })
    }
}

/// A device's place with one of its states, if it has any.
#[derive(sqlx::FromRow)]
struct TailRow {
    folded_at: At,
    folded_seq: i64,
    geofence_id: Option<Uuid>,
    revision: Option<i64>,
    membership: Option<String>,
    since: Option<At>,
    since_seq: Option<i64>,
    dwelled: Option<bool>,
    dwell_at: Option<At>,
}

impl TailRow {
    fn state(self) -> Option<Stored<FenceState>> {
        let (geofence_id, membership) = (self.geofence_id?, self.membership?);
        let row = StateRow {
            geofence_id,
            revision: self.revision?,
            membership,
            since: self.since?,
            since_seq: self.since_seq?,
            dwelled: self.dwelled?,
            dwell_at: self.dwell_at,
        };
        Some(row.try_into())
    }
}

#[derive(sqlx::FromRow)]
struct TransitionRow {
    id: Uuid,
    owner_id: Uuid,
    device_id: Uuid,
    geofence_id: Uuid,
    kind: String,
    at: At,
    seq: i64,
    initial: bool,
    late: bool,
    retracted: bool,
}

impl TryFrom<TransitionRow> for StoredTransition {
    type Error = StoreError;
    fn try_from(row: TransitionRow) -> Stored<Self> {
        let transition = Transition {
            id: TransitionId(row.id),
            owner: UserId(row.owner_id),
            device: DeviceId(row.device_id),
            fence: GeofenceId(row.geofence_id),
            kind: Trigger::from_word(&row.kind).ok_or_else(|| unreadable("transitions.kind"))?,
            at: row.at.0,
            seq: row.seq,
            initial: row.initial,
            late: row.late,
        };
        Ok(Self { transition, retracted: row.retracted })
    }
}

/// Moves a device's place forward and never back; nothing for a device that is not there.
pub(super) const MOVE_TAIL: &str = "INSERT INTO device_tails (device_id, folded_at, folded_seq)
     SELECT id, $2, $3 FROM devices WHERE id = $1 FOR KEY SHARE
     ON CONFLICT (device_id) DO UPDATE SET folded_at = excluded.folded_at, folded_seq = excluded.folded_seq
     WHERE (excluded.folded_at, excluded.folded_seq) > (device_tails.folded_at, device_tails.folded_seq)";

#[async_trait]
impl TrackingStore for PostgresStore {
    async fn create_fence(
        &self,
        fence: &Geofence,
        max_fences: u32,
        max_vertices: u32,
    ) -> Stored<FenceCreated> {
        super::fences::create(self, fence, max_fences, max_vertices).await
    }

    async fn fence(&self, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>> {
        super::fences::one(self, owner, id).await
    }

    async fn fences(&self, owner: UserId, after: Option<GeofenceId>, limit: u32) -> Stored<Vec<Geofence>> {
        super::fences::page(self, owner, after, limit).await
    }

    async fn replace_fence(
        &self,
        fence: &Geofence,
        _max_fences: u32,
        max_vertices: u32,
    ) -> Stored<Option<Result<Geofence, FenceCreated>>> {
        super::fences::replace(self, fence, max_vertices).await
    }

    async fn delete_fence(&self, owner: UserId, id: GeofenceId) -> Stored<bool> {
        let delete = query("DELETE FROM geofences WHERE id = $1 AND owner_id = $2").bind(id.0).bind(owner.0);
        Ok(self.db.write(Lane::Routine, delete).await? > 0)
    }

    async fn device_tail(&self, device: DeviceId) -> Stored<DeviceTail> {
        // In one statement, so that the states are those of the place. Where there is a state there is a place.
        let tail = query_as::<_, TailRow>(
            "SELECT t.folded_at, t.folded_seq, s.geofence_id, s.revision, s.membership, s.since, s.since_seq, s.dwelled,
                    s.dwell_at
             FROM device_tails t LEFT JOIN fence_states s ON s.device_id = t.device_id
             WHERE t.device_id = $1 ORDER BY s.geofence_id",
        );
        let rows = read(tail.bind(device.0).fetch_all(&self.db.routine)).await?;
        let folded_to = rows.first().map(|row| (row.folded_at.0, row.folded_seq));
        let states = rows.into_iter().filter_map(TailRow::state).collect::<Stored<_>>()?;
        Ok(DeviceTail { states, folded_to })
    }

    async fn tracked_device(&self, user: UserId) -> Stored<Option<DeviceId>> {
        let tracked = query_scalar::<_, Uuid>("SELECT id FROM devices WHERE user_id = $1 AND tracked");
        Ok(read(tracked.bind(user.0).fetch_optional(&self.db.routine)).await?.map(DeviceId))
    }

    async fn devices_of(&self, user: UserId) -> Stored<Vec<DeviceId>> {
        let devices = query_scalar::<_, Uuid>(
            "SELECT id FROM devices WHERE user_id = $1 AND removed_at IS NULL ORDER BY tracked DESC, id",
        );
        let ids = read(devices.bind(user.0).fetch_all(&self.db.routine)).await?;
        Ok(ids.into_iter().map(DeviceId).collect())
    }

    async fn zones_of(&self, owner: UserId, device: DeviceId) -> Stored<Vec<(GeofenceId, String)>> {
        let zones = query_as::<_, (Uuid, String)>(
            "SELECT g.id, g.name FROM geofences g
             JOIN fence_states s ON s.geofence_id = g.id AND s.revision = g.revision
             WHERE g.owner_id = $1 AND s.device_id = $2 AND s.membership = 'inside' ORDER BY g.id",
        );
        let rows = read(zones.bind(owner.0).bind(device.0).fetch_all(&self.db.routine)).await?;
        Ok(rows.into_iter().map(|(id, name)| (GeofenceId(id), name)).collect())
    }

    async fn transitions_since(&self, device: DeviceId, from: Timestamp) -> Stored<Vec<StoredTransition>> {
        let history = query_as::<_, TransitionRow>(
            "SELECT id, owner_id, device_id, geofence_id, kind, at, seq, initial, late, retracted FROM transitions
             WHERE device_id = $1 AND at >= $2 ORDER BY at, seq, number",
        );
        let rows = read(history.bind(device.0).bind(At(from)).fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(StoredTransition::try_from).collect()
    }

    async fn due_dwells(
        &self,
        now: Timestamp,
        node: NodeId,
        others: Timestamp,
        limit: u32,
    ) -> Stored<Vec<(UserId, DeviceId)>> {
        let due = query_as::<_, (Uuid, Uuid)>(
            "SELECT DISTINCT d.user_id, d.id FROM fence_states s
             JOIN devices d ON d.id = s.device_id AND d.tracked
             LEFT JOIN folds f ON f.device_id = d.id
             WHERE s.dwell_at <= $1 AND (f.node IS NULL OR f.node = $2 OR s.dwell_at <= $3) LIMIT $4",
        );
        let due = due.bind(At(now)).bind(node.0).bind(At(others)).bind(i64::from(limit));
        let rows = read(due.fetch_all(&self.db.routine)).await?;
        Ok(rows.into_iter().map(|(user, device)| (UserId(user), DeviceId(device))).collect())
    }

    async fn states_before(&self, device: DeviceId, before: (Timestamp, i64)) -> Stored<Vec<FenceState>> {
        // The last enter or exit of each fence, if it was of the shape that the fence has now. A dwell or a cross
        // changes no membership.
        let states = query_as::<_, StateRow>(
            "SELECT geofence_id, revision, CASE kind WHEN 'enter' THEN 'inside' ELSE 'outside' END AS membership, at AS since,
                    seq AS since_seq, NULL::timestamptz AS dwell_at,
                    EXISTS (SELECT 1 FROM transitions d
                            WHERE d.device_id = n.device_id AND d.geofence_id = n.geofence_id AND d.kind = 'dwell'
                              AND d.seq = n.seq AND NOT d.retracted AND (d.at, d.seq) < ($2, $3)) AS dwelled
             FROM (SELECT t.*, row_number() OVER (PARTITION BY t.geofence_id ORDER BY t.at DESC, t.seq DESC) AS newest
                   FROM transitions t JOIN geofences g ON g.id = t.geofence_id AND g.revision = t.revision
                   WHERE t.device_id = $1 AND NOT t.retracted AND t.kind IN ('enter', 'exit') AND (t.at, t.seq) < ($2, $3)) n
             WHERE newest = 1 ORDER BY geofence_id",
        );
        let states = states.bind(device.0).bind(At(before.0)).bind(before.1);
        let rows = read(states.fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(FenceState::try_from).collect()
    }
}
