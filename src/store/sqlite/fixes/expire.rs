//! Dropping fixes that have had their time, once the trails have what they keep of them.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::sqlite::connect::Database;
use crate::tracking::Incident;
use sqlx::{query, query_as};

/// The end of statements that copy fixes of one device, `$2`, to the trail of `$1`. As `streamed` and `key_id` too.
macro_rules! copy {
    ($rest:literal) => {
        concat!(
            "INSERT INTO trails (emergency_id, device_id, fixed_at, seq, received_at, streamed, key_id, lat, lon, accuracy_m,
                 altitude_m, speed_mps, course_deg, battery)
             SELECT $1, device_id, fixed_at, seq, received_at, streamed, key_id, lat, lon, accuracy_m, altitude_m, speed_mps,
                 course_deg, battery ",
            $rest,
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// Drops at most `limit` of the device's oldest fixes before `before`; how many.
pub(in crate::store) async fn expire_fixes(
    db: &Database,
    device: DeviceId,
    before: Timestamp,
    incidents: &[Incident],
    limit: i64,
) -> Stored<u64> {
    let mut tx = db.writer.begin(Lane::Routine).await?;
    let last = query_as::<_, (Timestamp, i64)>(
        "SELECT fixed_at, seq FROM fixes WHERE device_id = $1 AND fixed_at < $2
         ORDER BY fixed_at, seq LIMIT 1 OFFSET $3",
    );
    let last = tx.one(last.bind(device.0).bind(before).bind(limit - 1)).await?;
    let before = Timestamp::from_unix_ms(before.unix_ms().saturating_sub(1));
    let (at, seq) = last.unwrap_or((before, i64::MAX));
    for incident in incidents {
        let window = query(copy!(
            "FROM fixes WHERE device_id = $2 AND (fixed_at, seq) <= ($3, $4) AND fixed_at BETWEEN $5 AND $6"
        ));
        let to = incident.to.unwrap_or(Timestamp::from_unix_ms(i64::MAX));
        let window = window.bind(incident.emergency.0).bind(device.0).bind(at).bind(seq);
        tx.run(window.bind(incident.from).bind(to)).await?;
        if incident.to.is_none() {
            let newest = query(copy!(
                "FROM (SELECT * FROM fixes WHERE device_id = $2 ORDER BY fixed_at DESC, seq DESC LIMIT 1)
                 WHERE (fixed_at, seq) <= ($3, $4)"
            ));
            tx.run(newest.bind(incident.emergency.0).bind(device.0).bind(at).bind(seq)).await?;
        }
    }
    let delete = query("DELETE FROM fixes WHERE device_id = $1 AND (fixed_at, seq) <= ($2, $3)");
    let dropped = tx.run(delete.bind(device.0).bind(at).bind(seq)).await?;
    tx.commit().await?;
    Ok(dropped)
}
