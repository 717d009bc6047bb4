//! The trails of emergencies: what their windows held of the fixes that have had their time.

use super::{FixRow, PostgresFixes};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId};
use crate::store::postgres::at::At;
use crate::store::postgres::connect::again;
use crate::store::postgres::failure::read;
use crate::tracking::{Incident, StoredFix, TrailPart, TrailStore, event_order, page_start};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

/// Fixes dropped in one transaction.
const AT_ONCE: i64 = 1_000;

/// Drops fixes with their numbers, and in the same statement copies them to the trails that they belong to.
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

/// Fixes of one device, `$1`, in the parts of trails, `$2` to `$4`. A fix may be in several trails.
macro_rules! of_trails {
    ($select:literal, $rest:literal) => {
        concat!(
            $select,
            " t.device_id, t.fixed_at, t.seq, t.received_at, t.lat, t.lon, t.accuracy_m, t.altitude_m, t.speed_mps,
                 t.course_deg, t.battery
             FROM trails t WHERE t.device_id = $1 AND EXISTS
                 (SELECT 1 FROM unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[]) p (id, starts, ends)
                  WHERE t.emergency_id = p.id AND t.fixed_at BETWEEN p.starts AND p.ends) ",
            $rest
        )
    };
}

fn columns(parts: &[TrailPart]) -> (Vec<Uuid>, Vec<At>, Vec<At>) {
    let ids = parts.iter().map(|p| p.emergency.0).collect();
    (ids, parts.iter().map(|p| At(p.from)).collect(), parts.iter().map(|p| At(p.to)).collect())
}

impl PostgresFixes {
    /// Deletes what trails have of the device.
    pub(super) async fn forget_trails(&self, device: DeviceId) -> Stored<()> {
        let some = "DELETE FROM trails WHERE device_id = $1 AND (emergency_id, fixed_at, seq) IN
             (SELECT emergency_id, fixed_at, seq FROM trails WHERE device_id = $1 LIMIT $2)";
        while self.db.write_fixes(query(some).bind(device.0).bind(AT_ONCE)).await? > 0 {}
        Ok(())
    }

    async fn expire_some(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        let mut tx = self.db.begin_fixes().await?;
        let expire = query_as::<_, (i64,)>(EXPIRE)
            .bind(device.0)
            .bind(At(before))
            .bind(AT_ONCE)
            .bind(incidents.iter().map(|i| i.emergency.0).collect::<Vec<_>>())
            .bind(incidents.iter().map(|i| At(i.from)).collect::<Vec<_>>())
            .bind(incidents.iter().map(|i| i.to.map(At)).collect::<Vec<_>>());
        let dropped = tx.one(expire).await?.map_or(0, |(gone,)| gone.unsigned_abs());
        tx.commit().await?;
        Ok(dropped)
    }
}

#[async_trait]
impl TrailStore for PostgresFixes {
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>> {
        let expired = query_scalar::<_, Uuid>(
            "SELECT a.id FROM unnest($1::uuid[], $2::timestamptz[]) a (id, kept_from)
             WHERE EXISTS (SELECT 1 FROM fixes f WHERE f.device_id = a.id AND f.fixed_at < a.kept_from)",
        );
        let expired = expired
            .bind(kept_from.iter().map(|(device, _)| device.0).collect::<Vec<_>>())
            .bind(kept_from.iter().map(|(_, from)| At(*from)).collect::<Vec<_>>());
        Ok(read(expired.fetch_all(&self.db.fixes)).await?.into_iter().map(DeviceId).collect())
    }

    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        again(Lane::Routine, || self.expire_some(device, before, incidents)).await
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
        let ((ids, starts, ends), mut found) = (columns(parts), Vec::new());
        for device in devices {
            let start = page_start(*device, from, after);
            let track = query_as::<_, FixRow>(of_trails!(
                "SELECT DISTINCT ON (t.fixed_at, t.seq)",
                "AND (t.fixed_at, t.seq) > ($5, $6) AND t.fixed_at < $7 ORDER BY t.fixed_at, t.seq LIMIT $8"
            ));
            let track = track.bind(device.0).bind(&ids).bind(&starts).bind(&ends);
            let track = track.bind(At(start.0)).bind(start.1).bind(At(to)).bind(i64::from(limit));
            for row in read(track.fetch_all(&self.db.fixes)).await? {
                found.push(row.try_into()?);
            }
        }
        found.sort_unstable_by_key(event_order);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>> {
        let ((ids, starts, ends), mut newest) = (columns(parts), None::<StoredFix>);
        for device in devices {
            let last =
                query_as::<_, FixRow>(of_trails!("SELECT", "ORDER BY t.fixed_at DESC, t.seq DESC LIMIT 1"));
            let last = last.bind(device.0).bind(&ids).bind(&starts).bind(&ends);
            let last =
                read(last.fetch_optional(&self.db.emergency)).await?.map(StoredFix::try_from).transpose()?;
            newest = newest.into_iter().chain(last).max_by_key(|s| s.fix.order());
        }
        Ok(newest)
    }

    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        let some = "DELETE FROM trails WHERE emergency_id = $1 AND (device_id, fixed_at, seq) IN
             (SELECT device_id, fixed_at, seq FROM trails WHERE emergency_id = $1 LIMIT $2)";
        let mut dropped = 0;
        loop {
            match self.db.write_fixes(query(some).bind(emergency.0).bind(AT_ONCE)).await? {
                0 => return Ok(dropped),
                some => dropped += some,
            }
        }
    }

    /// The server reuses the space of what was deleted; a day that has nothing left goes.
    async fn wipe_fixes(&self) -> Stored<()> {
        self.days.drop_empty(&self.db).await
    }
}
