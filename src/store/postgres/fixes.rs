//! Fixes, by day of their time, written in groups and read by device in event order.

mod days;
mod expire;
mod record;
mod trails;

pub(in crate::store) use days::Days;
pub(in crate::store) use expire::expire_fixes;
pub(in crate::store) use record::{known, record};

use super::at::At;
use super::connect::Database;
use super::failure::{read, unreadable};
use super::values::numbers;
use crate::alerts::Lane;
use crate::clock::{Clock, Timestamp};
use crate::error::{StoreError, Stored};
use crate::geo::{Fix, Point};
use crate::id::DeviceId;
use crate::tracking::{FixBatch, FixStore, NewFix, StoredFix, event_order, page_start};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

/// Fixes.
pub struct PostgresFixes {
    db: Database,
    days: std::sync::Arc<Days>,
}

/// Who writes fixes holds this shared until the commit. Who marks a device as forgotten holds it alone, so that no fix of
/// it comes after that.
const WRITING: i64 = 0x63_696d_615f_6669;
/// Fixes deleted in one transaction.
const DELETED_AT_ONCE: i64 = 2_000;

/// A query of fixes.
macro_rules! fixes {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, fixed_at, seq, received_at, lat, lon, accuracy_m, altitude_m, speed_mps, course_deg, battery
             FROM fixes ",
            $rest
        )
    };
}

impl PostgresFixes {
    pub(super) fn new(db: Database, clock: Clock) -> Self {
        {
            let _ = clock;
            Self { days: db.days.clone(), db }
        }
    }

    /// Deletes everything of these devices, and refuses what of theirs is still on its way.
    pub(super) async fn forget(&self, devices: &[DeviceId]) -> Stored<()> {
        for device in devices {
            let mut tx = self.db.begin_fixes().await?;
            tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(WRITING)).await?;
            let mark = query("INSERT INTO forgotten (device_id) VALUES ($1) ON CONFLICT DO NOTHING");
            tx.run(mark.bind(device.0)).await?;
            tx.commit().await?;
            self.forget_trails(*device).await?;
            for all in [
                "DELETE FROM fixes WHERE device_id = $1 AND (fixed_at, seq) IN
                     (SELECT fixed_at, seq FROM fixes WHERE device_id = $1 ORDER BY fixed_at, seq LIMIT $2)",
                "DELETE FROM fix_numbers WHERE device_id = $1 AND seq IN
                     (SELECT seq FROM fix_numbers WHERE device_id = $1 ORDER BY seq LIMIT $2)",
            ] {
                while self.db.write_fixes(query(all).bind(device.0).bind(DELETED_AT_ONCE)).await? > 0 {}
            }
            let stream = query("DELETE FROM streams WHERE device_id = $1").bind(device.0);
            self.db.write_fixes(stream).await?;
        }
        Ok(())
    }

    /// Fixes of one device after a place in event order and before a time.
    async fn track(
        &self,
        device: DeviceId,
        after: (Timestamp, i64),
        to: Timestamp,
        limit: u32,
    ) -> Stored<Vec<StoredFix>> {
        let fixes = query_as::<_, FixRow>(fixes!(
            "WHERE device_id = $1 AND (fixed_at, seq) > ($2, $3) AND fixed_at < $4 ORDER BY fixed_at, seq LIMIT $5"
        ));
        let fixes = fixes.bind(device.0).bind(At(after.0)).bind(after.1).bind(At(to)).bind(i64::from(limit));
        let rows = read(fixes.fetch_all(&self.db.fixes)).await?;
        rows.into_iter().map(StoredFix::try_from).collect()
    }
}

#[derive(sqlx::FromRow)]
struct FixRow {
    device_id: Uuid,
    fixed_at: At,
    seq: i64,
    received_at: At,
    lat: f64,
    lon: f64,
    accuracy_m: Option<f64>,
    altitude_m: Option<f64>,
    speed_mps: Option<f64>,
    course_deg: Option<f64>,
    battery: Option<f64>,
}

impl TryFrom<FixRow> for StoredFix {
    type Error = StoreError;
    fn try_from(row: FixRow) -> Stored<Self> {
        let fix = Fix {
            seq: row.seq,
            point: Point::new(row.lat, row.lon).ok_or_else(|| unreadable("fixes.lat"))?,
            fixed_at: row.fixed_at.0,
            accuracy_m: row.accuracy_m,
            altitude_m: row.altitude_m,
            speed_mps: row.speed_mps,
            course_deg: row.course_deg,
            battery: row.battery,
        };
        Ok(Self { device: DeviceId(row.device_id), fix, received_at: row.received_at.0 })
    }
}

#[async_trait]
impl FixStore for PostgresFixes {
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        record(&self.db.for_fixes(), fixes).await
    }

    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
        let (devices, seqs) = numbers(asked.iter().copied());
        let known = query_as::<_, (Uuid, i64, At)>(record::KNOWN).bind(devices).bind(seqs);
        let rows = read(known.fetch_all(&self.db.fixes)).await?;
        Ok(rows.into_iter().map(|(id, seq, at)| (DeviceId(id), seq, at.0)).collect())
    }

    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let highest = query_as::<_, (Uuid, i64)>(
            "SELECT asked.id, last.seq FROM unnest($1::uuid[]) asked (id) CROSS JOIN LATERAL
                 (SELECT seq FROM fix_numbers WHERE device_id = asked.id ORDER BY seq DESC LIMIT 1) last",
        );
        let devices: Vec<Uuid> = devices.iter().map(|device| device.0).collect();
        let rows = read(highest.bind(devices).fetch_all(&self.db.fixes)).await?;
        Ok(rows.into_iter().map(|(id, seq)| (DeviceId(id), seq)).collect())
    }

    async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        let last = query_scalar("SELECT last_seq FROM streams WHERE device_id = $1").bind(device.0);
        Ok(read(last.fetch_optional(&self.db.fixes)).await?.unwrap_or(0))
    }

    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>> {
        let mut newest: Option<StoredFix> = None;
        for device in devices {
            let last = query_as::<_, FixRow>(fixes!(
                "WHERE device_id = $1 ORDER BY fixed_at DESC, seq DESC LIMIT 1"
            ));
            let last = read(last.bind(device.0).fetch_optional(&self.db.emergency)).await?;
            let last = last.map(StoredFix::try_from).transpose()?;
            newest = newest.into_iter().chain(last).max_by_key(|s| s.fix.order());
        }
        Ok(newest)
    }

    async fn at_or_before(&self, device: DeviceId, at: (Timestamp, i64)) -> Stored<Option<StoredFix>> {
        let last = query_as::<_, FixRow>(fixes!(
            "WHERE device_id = $1 AND (fixed_at, seq) <= ($2, $3) ORDER BY fixed_at DESC, seq DESC LIMIT 1"
        ));
        let last = last.bind(device.0).bind(At(at.0)).bind(at.1);
        read(last.fetch_optional(&self.db.fixes)).await?.map(StoredFix::try_from).transpose()
    }

    async fn between(
        &self,
        devices: &[DeviceId],
        from: Timestamp,
        to: Timestamp,
        after: Option<(Timestamp, DeviceId, i64)>,
        limit: u32,
    ) -> Stored<Vec<StoredFix>> {
        let mut found = Vec::new();
        for device in devices {
            let start = page_start(*device, from, after);
            found.extend(self.track(*device, start, to, limit).await?);
        }
        found.sort_unstable_by_key(event_order);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn after(&self, device: DeviceId, after: (Timestamp, i64), limit: u32) -> Stored<Vec<StoredFix>> {
        self.track(device, after, Timestamp::from_unix_ms(i64::MAX), limit).await
    }
}

/// Refuses what is still on its way of a device.
pub(in crate::store) async fn refuse_fixes(db: &Database, device: DeviceId) -> Stored<()> {
    let mut tx = db.begin(Lane::Routine).await?;
    tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(WRITING)).await?;
    let mark = query("INSERT INTO forgotten (device_id) VALUES ($1) ON CONFLICT DO NOTHING");
    tx.run(mark.bind(device.0)).await?;
    tx.commit().await
}
