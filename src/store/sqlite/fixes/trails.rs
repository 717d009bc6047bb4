//! The trails of emergencies: what their windows held of the fixes that have had their time.

use super::{FixRow, SqliteFixes};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId};
use crate::store::sqlite::failure::read;
use crate::store::sqlite::retention::wipe;
use crate::tracking::{Incident, StoredFix, TrailPart, TrailStore, event_order, page_start};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

/// Fixes dropped in one transaction; others write between two of them.
const AT_ONCE: i64 = 1_000;

/// The end of statements that copy fixes of one device, `?2`, to the trail of `?1`. As `streamed` and `key_id` too.
macro_rules! copy {
    ($rest:literal) => {
        concat!(
            "INSERT INTO trails (emergency_id, device_id, fixed_at, seq, received_at, streamed, key_id, lat, lon, accuracy_m,
                 altitude_m, speed_mps, course_deg, battery)
             SELECT ?1, device_id, fixed_at, seq, received_at, streamed, key_id, lat, lon, accuracy_m, altitude_m, speed_mps,
                 course_deg, battery ",
            $rest,
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// Fixes of one device, `?1`, in the parts of trails, `?2`. A fix may be in several trails.
macro_rules! of_trails {
    ($rest:literal) => {
        concat!(
            "SELECT t.device_id, t.fixed_at, t.seq, t.received_at, t.lat, t.lon, t.accuracy_m, t.altitude_m, t.speed_mps,
                 t.course_deg, t.battery
             FROM trails t WHERE t.device_id = ?1 AND EXISTS (SELECT 1 FROM json_each(?2) p
                 WHERE t.emergency_id = unhex(p.value ->> 0) AND t.fixed_at BETWEEN p.value ->> 1 AND p.value ->> 2) ",
            $rest
        )
    };
}

fn json(parts: &[TrailPart]) -> String {
    let part =
        |p: &TrailPart| format!("[\"{}\",{},{}]", p.emergency.0.simple(), p.from.unix_ms(), p.to.unix_ms());
    format!("[{}]", parts.iter().map(part).collect::<Vec<_>>().join(","))
}

impl SqliteFixes {
    /// Deletes what trails have of the device.
    pub(super) async fn forget_trails(&self, device: DeviceId) -> Stored<()> {
        loop {
            let delete = query(
                "DELETE FROM trails WHERE device_id = ?1 AND (emergency_id, fixed_at, seq) IN
                     (SELECT emergency_id, fixed_at, seq FROM trails WHERE device_id = ?1 LIMIT ?2)",
            );
            if self.db.writer.write(Lane::Routine, delete.bind(device.0).bind(AT_ONCE)).await? == 0 {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl TrailStore for SqliteFixes {
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>> {
        let asked: Vec<String> = kept_from
            .iter()
            .map(|(device, from)| format!("[\"{}\",{}]", device.0.simple(), from.unix_ms()))
            .collect();
        let expired = query_scalar::<_, Uuid>(
            "SELECT unhex(asked.value ->> 0) FROM json_each(?) asked WHERE EXISTS (SELECT 1 FROM fixes f
                 WHERE f.device_id = unhex(asked.value ->> 0) AND f.fixed_at < asked.value ->> 1)",
        );
        let found = expired.bind(format!("[{}]", asked.join(",")));
        Ok(read(found.fetch_all(&self.db.readers)).await?.into_iter().map(DeviceId).collect())
    }

    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let last = query_as::<_, (i64, i64)>(
            "SELECT fixed_at, seq FROM fixes WHERE device_id = ? AND fixed_at < ? ORDER BY fixed_at, seq LIMIT 1 OFFSET ?",
        );
        let last = tx.one(last.bind(device.0).bind(before.unix_ms()).bind(AT_ONCE - 1)).await?;
        let (at, seq) = last.unwrap_or((before.unix_ms().saturating_sub(1), i64::MAX));
        for incident in incidents {
            let window = query(copy!(
                "FROM fixes WHERE device_id = ?2 AND (fixed_at, seq) <= (?3, ?4) AND fixed_at BETWEEN ?5 AND ?6"
            ));
            let to = incident.to.map_or(i64::MAX, Timestamp::unix_ms);
            let window = window.bind(incident.emergency.0).bind(device.0).bind(at).bind(seq);
            tx.run(window.bind(incident.from.unix_ms()).bind(to)).await?;
            if incident.to.is_none() {
                let newest = query(copy!(
                    "FROM (SELECT * FROM fixes WHERE device_id = ?2 ORDER BY fixed_at DESC, seq DESC LIMIT 1)
                     WHERE (fixed_at, seq) <= (?3, ?4)"
                ));
                tx.run(newest.bind(incident.emergency.0).bind(device.0).bind(at).bind(seq)).await?;
            }
        }
        let delete = query("DELETE FROM fixes WHERE device_id = ? AND (fixed_at, seq) <= (?, ?)");
        let dropped = tx.run(delete.bind(device.0).bind(at).bind(seq)).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    async fn trail_between(
        &self,
        devices: &[DeviceId],
        parts: &[TrailPart],
        from: Timestamp,
        to: Timestamp,
        after: Option<(Timestamp, DeviceId, i64)>,
        limit: u32,
    ) -> Stored<Vec<StoredFix>> {
        let (parts, mut found) = (json(parts), Vec::new());
        for device in devices {
            let start = page_start(*device, from, after);
            let track = query_as::<_, FixRow>(of_trails!(
                "AND (t.fixed_at, t.seq) > (?3, ?4) AND t.fixed_at < ?5
                 GROUP BY t.fixed_at, t.seq ORDER BY t.fixed_at, t.seq LIMIT ?6"
            ));
            let track = track.bind(device.0).bind(&parts).bind(start.0.unix_ms()).bind(start.1);
            let rows = track.bind(to.unix_ms()).bind(limit).fetch_all(&self.db.readers);
            for row in read(rows).await? {
                found.push(row.try_into()?);
            }
        }
        found.sort_unstable_by_key(event_order);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>> {
        let (parts, mut newest) = (json(parts), None::<StoredFix>);
        for device in devices {
            let last = query_as::<_, FixRow>(of_trails!("ORDER BY t.fixed_at DESC, t.seq DESC LIMIT 1"));
            let last = read(last.bind(device.0).bind(&parts).fetch_optional(&self.db.readers)).await?;
            let last = last.map(StoredFix::try_from).transpose()?;
            newest = newest.into_iter().chain(last).max_by_key(|s| s.fix.order());
        }
        Ok(newest)
    }

    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        let mut dropped = 0;
        loop {
            let delete = query(
                "DELETE FROM trails WHERE emergency_id = ?1 AND (device_id, fixed_at, seq) IN
                     (SELECT device_id, fixed_at, seq FROM trails WHERE emergency_id = ?1 LIMIT ?2)",
            );
            match self.db.writer.write(Lane::Routine, delete.bind(emergency.0).bind(AT_ONCE)).await? {
                0 => return Ok(dropped),
                some => dropped += some,
            }
        }
    }

    async fn wipe_fixes(&self) -> Stored<()> {
        wipe(&self.db).await
    }
}
