//! The history of transitions.

use super::states::StateRow;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::database::Database;
use crate::store::sql::{query, sql};
use crate::tracking::{FenceState, StoredTransition, Transition};

pub(super) async fn since(db: &Database, device: DeviceId, from: Timestamp) -> Stored<Vec<StoredTransition>> {
    let history = query(sql!(
        "SELECT id, owner_id, device_id, geofence_id, kind, at, seq, initial, late, retracted FROM transitions
         WHERE device_id = $1 AND at >= $2 ORDER BY at, seq, " lite "rowid" pg "number"
    ));
    let stored = |(id, owner, device, fence, kind, at, seq, initial, late, retracted)| {
        let transition = Transition { id, owner, device, fence, kind, at, seq, initial, late };
        StoredTransition { transition, retracted }
    };
    db.list(Lane::Routine, history.bind(device).bind(from), stored).await
}

pub(super) async fn states_before(
    db: &Database,
    device: DeviceId,
    before: (Timestamp, i64),
) -> Stored<Vec<FenceState>> {
    // The last enter or exit of each fence, if it was of the shape that the fence has now. A dwell or a cross
    // changes no membership.
    let states = query(sql!(
        "SELECT geofence_id, revision, CASE kind WHEN 'enter' THEN 'inside' ELSE 'outside' END AS membership, at AS since,
                seq AS since_seq, NULL" pg "::timestamptz" " AS dwell_at,
                EXISTS (SELECT 1 FROM transitions d
                        WHERE d.device_id = n.device_id AND d.geofence_id = n.geofence_id AND d.kind = 'dwell'
                          AND d.seq = n.seq AND NOT d.retracted AND (d.at, d.seq) < ($2, $3)) AS dwelled
         FROM (SELECT t.*, row_number() OVER (PARTITION BY t.geofence_id ORDER BY t.at DESC, t.seq DESC) AS newest
               FROM transitions t JOIN geofences g ON g.id = t.geofence_id AND g.revision = t.revision
               WHERE t.device_id = $1 AND NOT t.retracted AND t.kind IN ('enter', 'exit') AND (t.at, t.seq) < ($2, $3)) n
         WHERE newest = 1 ORDER BY geofence_id"
    ));
    let rows = db.all::<StateRow>(Lane::Routine, states.bind(device).bind(before.0).bind(before.1)).await?;
    Ok(rows.into_iter().filter_map(StateRow::state).collect())
}
