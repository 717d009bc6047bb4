//! What a device is in, as of how far its fixes were evaluated.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, GeofenceId, NodeId, UserId};
use crate::store::database::Database;
use crate::store::sql::{Sql, query, sql};
use crate::tracking::{DeviceTail, FenceState, Membership};

/// A state, all of it absent where a device has none.
#[derive(sqlx::FromRow)]
pub(super) struct StateRow {
    geofence_id: Option<GeofenceId>,
    revision: Option<i64>,
    membership: Option<Membership>,
    since: Option<Timestamp>,
    since_seq: Option<i64>,
    dwelled: Option<bool>,
    dwell_at: Option<Timestamp>,
}

impl StateRow {
    pub(super) fn state(self) -> Option<FenceState> {
        Some(FenceState {
            fence: self.geofence_id?,
            revision: self.revision?,
            membership: self.membership?,
            since: self.since?,
            since_seq: self.since_seq?,
            dwelled: self.dwelled?,
            dwell_at: self.dwell_at,
        })
    }
}

#[derive(sqlx::FromRow)]
struct TailRow {
    folded_at: Timestamp,
    folded_seq: i64,
    #[sqlx(flatten)]
    state: StateRow,
}

/// Moves a device's place forward and never back; nothing for a device that is not there.
pub(in crate::store) const MOVE_TAIL: Sql = sql!(
    "INSERT INTO device_tails (device_id, folded_at, folded_seq)
     SELECT id, $2, $3 FROM devices WHERE id = $1" pg " FOR KEY SHARE"
    " ON CONFLICT (device_id) DO UPDATE SET folded_at = excluded.folded_at, folded_seq = excluded.folded_seq
      WHERE (excluded.folded_at, excluded.folded_seq) > (device_tails.folded_at, device_tails.folded_seq)"
);

pub(super) async fn tail(db: &Database, device: DeviceId) -> Stored<DeviceTail> {
    // In one statement, so that the states are those of the place. Where there is a state there is a place.
    let tail = query(
        "SELECT t.folded_at, t.folded_seq, s.geofence_id, s.revision, s.membership, s.since, s.since_seq, s.dwelled,
                s.dwell_at
         FROM device_tails t LEFT JOIN fence_states s ON s.device_id = t.device_id
         WHERE t.device_id = $1 ORDER BY s.geofence_id",
    );
    let rows = db.all::<TailRow>(Lane::Routine, tail.bind(device)).await?;
    let folded_to = rows.first().map(|row| (row.folded_at, row.folded_seq));
    Ok(DeviceTail { states: rows.into_iter().filter_map(|row| row.state.state()).collect(), folded_to })
}

/// Ids and names of the fences that a device is in, as they are now.
pub(super) async fn names_inside(
    db: &Database,
    owner: UserId,
    device: DeviceId,
) -> Stored<Vec<(GeofenceId, String)>> {
    let inside = query(
        "SELECT g.id, g.name FROM geofences g
         JOIN fence_states s ON s.geofence_id = g.id AND s.revision = g.revision
         WHERE g.owner_id = $1 AND s.device_id = $2 AND s.membership = 'inside' ORDER BY g.id",
    );
    db.all(Lane::Routine, inside.bind(owner).bind(device)).await
}

/// Devices whose stay somewhere has lasted long enough. Where several nodes may own them: those of `node` and of none,
/// and others' from `others` on.
pub(super) async fn due_dwells(
    db: &Database,
    now: Timestamp,
    node: NodeId,
    others: Timestamp,
    limit: u32,
) -> Stored<Vec<(UserId, DeviceId)>> {
    let due = query(sql!(
        "SELECT DISTINCT d.user_id, d.id FROM fence_states s
         JOIN devices d ON d.id = s.device_id AND d.tracked" lite " = 1" pg " LEFT JOIN folds f ON f.device_id = d.id"
        " WHERE s.dwell_at <= $1" pg " AND (f.node IS NULL OR f.node = $2 OR s.dwell_at <= $3)" " LIMIT $4"
    ));
    db.all(Lane::Routine, due.bind(now).bind(node).bind(others).bind(limit)).await
}
