//! `fixes.db`: the fixes, written in groups by one fast path and read by device in event order.

mod expire;
mod record;
mod trails;

pub(in crate::store) use expire::expire_fixes;
pub(in crate::store) use record::{known, record};

use super::connect::Database;
use super::failure::{read, unreadable};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{Fix, Point};
use crate::id::DeviceId;
use crate::tracking::{FixBatch, FixStore, NewFix, StoredFix, event_order, page_start};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

/// `fixes.db`.
pub struct SqliteFixes {
    pub(super) db: std::sync::Arc<Database>,
}

/// Fixes deleted in one transaction; others write between two of them.
const DELETED_AT_ONCE: i64 = 2_000;

impl SqliteFixes {
    pub(super) fn new(db: std::sync::Arc<Database>) -> Self {
        Self { db }
    }
    /// Whether the store can take fixes now; answers within half a second.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn healthy(&self) -> Stored<()> {
        self.db.healthy().await
    }
    /// Stops taking calls, moves the log into the file and closes it.
    pub async fn close(&self) {
        self.db.close().await;
    }
    /// What the live writer connection says of `journal_mode`, `synchronous`, `secure_delete` and `foreign_keys`.
    ///
    /// # Errors
    /// When the store is not there.
    pub async fn pragma_report(&self) -> Stored<Vec<(String, String)>> {
        self.db.pragma_report().await
    }

    /// Deletes everything of these devices, and refuses what of theirs is still on its way.
    pub(super) async fn forget(&self, devices: &[DeviceId]) -> Stored<()> {
        for device in devices {
            let mark =
                query("INSERT INTO forgotten (device_id) VALUES (?) ON CONFLICT DO NOTHING").bind(device.0);
            self.db.writer.write(Lane::Routine, mark).await?;
            self.forget_trails(*device).await?;
            loop {
                let delete = query(
                    "DELETE FROM fixes WHERE device_id = ?1 AND seq IN
                         (SELECT seq FROM fixes WHERE device_id = ?1 ORDER BY fixed_at, seq LIMIT ?2)",
                );
                let deleted =
                    self.db.writer.write(Lane::Routine, delete.bind(device.0).bind(DELETED_AT_ONCE)).await?;
                if deleted == 0 {
                    break;
                }
            }
            let stream = query("DELETE FROM streams WHERE device_id = ?").bind(device.0);
            self.db.writer.write(Lane::Routine, stream).await?;
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
        let fixes = query_as::<_, FixRow>(
            "SELECT device_id, fixed_at, seq, received_at, lat, lon, accuracy_m, altitude_m, speed_mps, course_deg, battery
             FROM fixes WHERE device_id = ? AND (fixed_at, seq) > (?, ?) AND fixed_at < ? ORDER BY fixed_at, seq LIMIT ?",
        );
        let fixes = fixes.bind(device.0).bind(after.0.unix_ms()).bind(after.1).bind(to.unix_ms()).bind(limit);
        let rows = read(fixes.fetch_all(&self.db.readers)).await?;
        rows.into_iter().map(StoredFix::try_from).collect()
    }
}

#[derive(sqlx::FromRow)]
struct FixRow {
    device_id: Uuid,
    fixed_at: i64,
    seq: i64,
    received_at: i64,
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
            fixed_at: Timestamp::from_unix_ms(row.fixed_at),
            accuracy_m: row.accuracy_m,
            altitude_m: row.altitude_m,
            speed_mps: row.speed_mps,
            course_deg: row.course_deg,
            battery: row.battery,
        };
        Ok(Self {
            device: DeviceId(row.device_id),
            fix,
            received_at: Timestamp::from_unix_ms(row.received_at),
        })
    }
}

#[async_trait]
impl FixStore for SqliteFixes {
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        record(&self.db.writer, fixes).await
    }

    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
        let known =
            query_as::<_, (Uuid, i64, i64)>(record::KNOWN).bind(record::numbers(asked.iter().copied()));
        let rows = read(known.fetch_all(&self.db.readers)).await?;
        Ok(rows.into_iter().map(|(id, seq, at)| (DeviceId(id), seq, Timestamp::from_unix_ms(at))).collect())
    }

    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let highest = query_as::<_, (String, i64)>(
            "SELECT asked.value, (SELECT max(seq) FROM fixes WHERE device_id = unhex(asked.value)) AS highest
             FROM json_each(?) asked WHERE highest IS NOT NULL",
        );
        let asked: Vec<String> = devices.iter().map(|device| format!("\"{}\"", device.0.simple())).collect();
        let rows = read(highest.bind(format!("[{}]", asked.join(","))).fetch_all(&self.db.readers)).await?;
        rows.into_iter()
            .map(|(id, seq)| Ok((DeviceId(Uuid::parse_str(&id).map_err(|_| unreadable("devices"))?), seq)))
            .collect()
    }

    async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        let last = query_scalar("SELECT last_seq FROM streams WHERE device_id = ?").bind(device.0);
        Ok(read(last.fetch_optional(&self.db.readers)).await?.unwrap_or(0))
    }

    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>> {
        let mut newest: Option<StoredFix> = None;
        for device in devices {
            let last = query_as::<_, FixRow>(
                "SELECT device_id, fixed_at, seq, received_at, lat, lon, accuracy_m, altitude_m, speed_mps, course_deg, battery
                 FROM fixes WHERE device_id = ? ORDER BY fixed_at DESC, seq DESC LIMIT 1",
            );
            let last = read(last.bind(device.0).fetch_optional(&self.db.readers)).await?;
            let last = last.map(StoredFix::try_from).transpose()?;
            newest = newest.into_iter().chain(last).max_by_key(|s| s.fix.order());
        }
        Ok(newest)
    }

    async fn at_or_before(&self, device: DeviceId, at: (Timestamp, i64)) -> Stored<Option<StoredFix>> {
        let last = query_as::<_, FixRow>(
            "SELECT device_id, fixed_at, seq, received_at, lat, lon, accuracy_m, altitude_m, speed_mps, course_deg, battery
             FROM fixes WHERE device_id = ? AND (fixed_at, seq) <= (?, ?) ORDER BY fixed_at DESC, seq DESC LIMIT 1",
        );
        let last = last.bind(device.0).bind(at.0.unix_ms()).bind(at.1);
        read(last.fetch_optional(&self.db.readers)).await?.map(StoredFix::try_from).transpose()
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

/// Refuses what is still on its way of a device, and deletes what trails have of it.
pub(in crate::store) async fn refuse_fixes(db: &Database, device: DeviceId) -> Stored<()> {
    let mark = query("INSERT INTO forgotten (device_id) VALUES (?) ON CONFLICT DO NOTHING").bind(device.0);
    db.writer.write(Lane::Routine, mark).await.map(|_| ())
}
