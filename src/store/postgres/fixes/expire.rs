//! Dropping fixes that have had their time, with their numbers, once the trails have what they keep of them.

use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::pool::Pool;
use crate::store::postgres::connect::{Database, again};
use crate::tracking::Incident;
use sqlx::query_as;

/// Drops and copies in the same statement.
const EXPIRE: &str = "
    WITH newest AS (
        SELECT fixed_at, seq FROM fixes WHERE device_id = $1 ORDER BY fixed_at DESC, seq DESC LIMIT 1),
    gone AS (
        DELETE FROM fixes WHERE device_id = $1 AND (fixed_at, seq) IN
            (SELECT fixed_at, seq FROM fixes WHERE device_id = $1 AND fixed_at < $2 ORDER BY fixed_at, seq LIMIT $3)
        RETURNING *),
    numbers AS (
        DELETE FROM fix_numbers WHERE device_id = $1 AND seq IN (SELECT seq FROM gone)),
    kept AS (
        INSERT INTO trails (emergency_id, device_id, fixed_at, seq, received_at, streamed, key_id, lat, lon, accuracy_m,
            altitude_m, speed_mps, course_deg, battery)
        SELECT i.id, g.device_id, g.fixed_at, g.seq, g.received_at, g.streamed, g.key_id, g.lat, g.lon, g.accuracy_m,
            g.altitude_m, g.speed_mps, g.course_deg, g.battery
        FROM gone g JOIN unnest($4::uuid[], $5::timestamptz[], $6::timestamptz[]) i (id, starts, ends)
            ON (g.fixed_at >= i.starts AND (i.ends IS NULL OR g.fixed_at <= i.ends))
            OR (i.ends IS NULL AND (g.fixed_at, g.seq) = (SELECT fixed_at, seq FROM newest))
        ON CONFLICT DO NOTHING)
    SELECT count(*) FROM gone";

/// Drops at most `limit` of the device's oldest fixes before `before`; how many.
pub(in crate::store) async fn expire_fixes(
    db: &Database,
    device: DeviceId,
    before: Timestamp,
    incidents: &[Incident],
    limit: i64,
) -> Stored<u64> {
    let some = || async {
        let mut tx = db.begin(Pool::Routine).await?;
        let expire = query_as::<_, (i64,)>(EXPIRE)
            .bind(device.0)
            .bind(before)
            .bind(limit)
            .bind(incidents.iter().map(|i| i.emergency.0).collect::<Vec<_>>())
            .bind(incidents.iter().map(|i| i.from).collect::<Vec<_>>())
            .bind(incidents.iter().map(|i| i.to).collect::<Vec<_>>());
        let dropped = tx.one(expire).await?.map_or(0, |(gone,)| gone.unsigned_abs());
        tx.commit().await?;
        Ok(dropped)
    };
    again(Pool::Routine, some).await
}
