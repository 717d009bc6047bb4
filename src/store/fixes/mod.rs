//! Fixes, written in groups and read by device in event order, and the trails of emergencies.

mod trails;

use super::database::Database;
use super::failure::unreadable;
use super::sql::{Statement, query, sql};
use super::{postgres, sqlite};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{Fix, Point};
use crate::id::DeviceId;
use crate::tracking::{
    Bounds, FixBatch, FixStore, NewFix, Reading, StoredFix, TrackPage, last_of, newest_of,
};
use async_trait::async_trait;

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

/// Fixes deleted in one transaction; others write between two of them.
const DELETED_AT_ONCE: i64 = 2_000;

/// Fixes, and the trails of emergencies: in a file of their own on SQLite, by day on PostgreSQL.
pub struct Fixes {
    db: Database,
}

impl Fixes {
    pub(super) fn new(db: Database) -> Self {
        Self { db }
    }

    pub(super) fn database(&self) -> &Database {
        &self.db
    }

    /// Whether the store can take fixes now.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn healthy(&self) -> Stored<()> {
        self.db.healthy().await
    }
    /// What decides whether an answer is on the disk, as live connections have it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settings(&self) -> Stored<Vec<(String, String)>> {
        self.db.settings().await
    }
    /// Stops taking calls and leaves everything whole.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Deletes everything of these devices, and refuses what of theirs is still on its way.
    pub(super) async fn forget(&self, devices: &[DeviceId]) -> Stored<()> {
        for &device in devices {
            match &self.db {
                Database::Lite(db) => sqlite::refuse_fixes(db, device).await?,
                Database::Pg(db) => postgres::refuse_fixes(db, device).await?,
            }
            self.forget_trails(device).await?;
            let some = || {
                query(
                    "DELETE FROM fixes WHERE device_id = $1 AND (fixed_at, seq) IN
                         (SELECT fixed_at, seq FROM fixes WHERE device_id = $1 ORDER BY fixed_at, seq LIMIT $2)",
                )
                .bind(device)
                .bind(DELETED_AT_ONCE)
            };
            self.db.write_all(some).await?;
            if let Database::Pg(_) = &self.db {
                let numbers = || {
                    query(
                        "DELETE FROM fix_numbers WHERE device_id = $1 AND seq IN
                             (SELECT seq FROM fix_numbers WHERE device_id = $1 ORDER BY seq LIMIT $2)",
                    )
                    .bind(device)
                    .bind(DELETED_AT_ONCE)
                };
                self.db.write_all(numbers).await?;
            }
            let stream = || query("DELETE FROM streams WHERE device_id = $1").bind(device);
            self.db.write(Lane::Routine, stream).await?;
        }
        Ok(())
    }

    /// One device's part of a page.
    async fn part(&self, device: DeviceId, page: &TrackPage) -> Stored<Vec<StoredFix>> {
        let fixes = query(match page.reading {
            // The times alone are named beside the places: by them PostgreSQL knows which days it need not look at.
            Reading::Forwards => fixes!(
                "WHERE device_id = $1 AND (fixed_at, seq) > ($2, $3) AND (fixed_at, seq) < ($4, $5)
                     AND fixed_at BETWEEN $2 AND $4 AND (fixed_at >= $7 OR received_at >= $7)
                 ORDER BY fixed_at, seq LIMIT $6"
            ),
            Reading::Backwards => fixes!(
                "WHERE device_id = $1 AND (fixed_at, seq) > ($2, $3) AND (fixed_at, seq) < ($4, $5)
                     AND fixed_at BETWEEN $2 AND $4 AND (fixed_at >= $7 OR received_at >= $7)
                 ORDER BY fixed_at DESC, seq DESC LIMIT $6"
            ),
        });
        let Bounds { low, high } = page.bounds(device);
        let fixes = fixes
            .bind(device)
            .bind(low.0)
            .bind(low.1)
            .bind(high.0)
            .bind(high.1)
            .bind(page.limit)
            .bind(page.since);
        let rows = self.db.all::<FixRow>(Lane::Routine, fixes).await?;
        rows.into_iter().map(StoredFix::try_from).collect()
    }

    /// By which connections the newest position is read: on PostgreSQL those that emergencies use, on SQLite those of
    /// everybody, since the file has no others that could stand in front.
    fn newest_lane(&self) -> Lane {
        match self.db {
            Database::Lite(_) => Lane::Routine,
            Database::Pg(_) => Lane::Emergency,
        }
    }

    async fn fix(&self, lane: Lane, question: Statement) -> Stored<Option<StoredFix>> {
        self.db.one::<FixRow>(lane, question).await?.map(StoredFix::try_from).transpose()
    }
}

#[derive(sqlx::FromRow)]
struct FixRow {
    device_id: DeviceId,
    fixed_at: Timestamp,
    seq: i64,
    received_at: Timestamp,
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
            fixed_at: row.fixed_at,
            accuracy_m: row.accuracy_m,
            altitude_m: row.altitude_m,
            speed_mps: row.speed_mps,
            course_deg: row.course_deg,
            battery: row.battery,
        };
        Ok(Self { device: row.device_id, fix, received_at: row.received_at })
    }
}

#[async_trait]
impl FixStore for Fixes {
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        match &self.db {
            Database::Lite(db) => sqlite::record(&db.writer, fixes).await,
            Database::Pg(db) => postgres::record(db, fixes).await,
        }
    }

    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
        match &self.db {
            Database::Lite(db) => sqlite::known(db, asked).await,
            Database::Pg(db) => postgres::known(db, asked).await,
        }
    }

    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let highest = query(sql!(
            lite "SELECT unhex(asked.value), (SELECT max(seq) FROM fixes WHERE device_id = unhex(asked.value)) AS highest
                  FROM json_each($1) asked WHERE highest IS NOT NULL"
            pg "SELECT asked.id, last.seq FROM unnest($1::uuid[]) asked (id) CROSS JOIN LATERAL
                    (SELECT seq FROM fix_numbers WHERE device_id = asked.id ORDER BY seq DESC LIMIT 1) last"
        ));
        self.db.all(Lane::Routine, highest.bind(devices)).await
    }

    async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        let last = query(sql!(
            "SELECT coalesce(max(seq), 0) FROM (SELECT last_seq AS seq FROM streams WHERE device_id = $1 UNION ALL
                 SELECT max(seq) FROM " lite "fixes" pg "fix_numbers" " WHERE device_id = $1 AND seq > 0) AS kept"
        ));
        Ok(self.db.one::<(i64,)>(Lane::Routine, last.bind(device)).await?.map_or(0, |(seq,)| seq))
    }

    async fn latest(&self, device: DeviceId) -> Stored<Option<StoredFix>> {
        // The highest number that the phone gave, and the highest that was made here.
        let latest = query(match self.db {
            Database::Lite(_) => fixes!(
                "WHERE device_id = $1 AND seq IN (
                     (SELECT max(seq) FROM fixes WHERE device_id = $1 AND seq > 0),
                     (SELECT max(seq) FROM fixes WHERE device_id = $1 AND seq < 0))"
            ),
            // Of each its day is looked up first, so that no other is read.
            Database::Pg(_) => concat!(
                fixes!(
                    "WHERE device_id = $1 AND (fixed_at, seq) = (SELECT fixed_at, seq FROM fix_numbers
                         WHERE device_id = $1 AND seq > 0 ORDER BY seq DESC LIMIT 1)"
                ),
                " UNION ALL ",
                fixes!(
                    "WHERE device_id = $1 AND (fixed_at, seq) = (SELECT fixed_at, seq FROM fix_numbers
                         WHERE device_id = $1 AND seq < 0 ORDER BY seq DESC LIMIT 1)"
                ),
            ),
        });
        let rows = self.db.all::<FixRow>(self.newest_lane(), latest.bind(device)).await?;
        let found: Vec<StoredFix> = rows.into_iter().map(StoredFix::try_from).collect::<Stored<_>>()?;
        Ok(last_of(found))
    }

    async fn at(&self, device: DeviceId, times: &[Timestamp]) -> Stored<Vec<StoredFix>> {
        let at = query(match self.db {
            Database::Lite(_) => {
                fixes!("WHERE device_id = $1 AND fixed_at IN (SELECT value FROM json_each($2))")
            }
            Database::Pg(_) => fixes!("WHERE device_id = $1 AND fixed_at = ANY ($2)"),
        });
        let rows = self.db.all::<FixRow>(Lane::Routine, at.bind(device).bind(times.to_vec())).await?;
        rows.into_iter().map(StoredFix::try_from).collect()
    }

    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>> {
        let mut newest = None;
        for device in devices {
            let last = query(fixes!("WHERE device_id = $1 ORDER BY fixed_at DESC, seq DESC LIMIT 1"));
            let last = self.fix(self.newest_lane(), last.bind(*device)).await?;
            newest = newest_of(newest.into_iter().chain(last));
        }
        Ok(newest)
    }

    async fn at_or_before(&self, device: DeviceId, at: (Timestamp, i64)) -> Stored<Option<StoredFix>> {
        let last = query(fixes!(
            "WHERE device_id = $1 AND (fixed_at, seq) <= ($2, $3) ORDER BY fixed_at DESC, seq DESC LIMIT 1"
        ));
        self.fix(Lane::Routine, last.bind(device).bind(at.0).bind(at.1)).await
    }

    async fn page(&self, devices: &[DeviceId], page: TrackPage) -> Stored<Vec<StoredFix>> {
        let mut found = Vec::new();
        for device in devices {
            found.extend(self.part(*device, &page).await?);
        }
        Ok(page.first_of(found))
    }

    async fn after(&self, device: DeviceId, after: (Timestamp, i64), limit: u32) -> Stored<Vec<StoredFix>> {
        self.part(device, &TrackPage::forwards(Some((after.0, device, after.1)), limit)).await
    }
}
