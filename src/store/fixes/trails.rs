//! The trails of emergencies: what their windows held of the fixes that have had their time.

use super::{FixRow, Fixes};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId};
use crate::store::database::Database;
use crate::store::sql::{Statement, query, sql};
use crate::store::{postgres, sqlite};
use crate::tracking::{Bounds, Incident, Reading, StoredFix, TrackPage, TrailPart, TrailStore, newest_of};
use async_trait::async_trait;

/// Fixes dropped in one transaction; others write between two of them.
const AT_ONCE: i64 = 1_000;

/// Fixes of one device, `$1`, in the parts of trails, `$2` to `$4`. A fix may be in several trails: with `each
/// once` it comes once, in the order of its key.
macro_rules! of_trails {
    (each once $($rest:tt)+) => {
        of_trails!(@ (pg "DISTINCT ON (t.fixed_at, t.seq) ") $($rest)+)
    };
    (@ ($($distinct:tt)*) $($rest:tt)+) => {
        sql!(
            "SELECT " $($distinct)* "t.device_id, t.fixed_at, t.seq, t.received_at, t.lat, t.lon, t.accuracy_m, t.altitude_m, t.speed_mps,
                 t.course_deg, t.battery
             FROM trails t WHERE t.device_id = $1 AND EXISTS "
            lite "(SELECT 1 FROM json_each($2) p
                   WHERE t.emergency_id = unhex(p.value) AND t.fixed_at BETWEEN $3 ->> p.key AND $4 ->> p.key) "
            pg "(SELECT 1 FROM unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[]) p (id, starts, ends)
                 WHERE t.emergency_id = p.id AND t.fixed_at BETWEEN p.starts AND p.ends) "
            $($rest)+
        )
    };
    ($($rest:tt)+) => {
        of_trails!(@ () $($rest)+)
    };
}

fn of_parts(statement: Statement, device: DeviceId, parts: &[TrailPart]) -> Statement {
    statement
        .bind(device)
        .bind(parts.iter().map(|part| part.emergency.0).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| part.from).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| part.to).collect::<Vec<_>>())
}

impl Fixes {
    /// Deletes what trails have of the device.
    pub(super) async fn forget_trails(&self, device: DeviceId) -> Stored<()> {
        let some = || {
            query(
                "DELETE FROM trails WHERE device_id = $1 AND (emergency_id, fixed_at, seq) IN
                     (SELECT emergency_id, fixed_at, seq FROM trails WHERE device_id = $1 LIMIT $2)",
            )
            .bind(device)
            .bind(AT_ONCE)
        };
        self.db.write_all(some).await.map(|_| ())
    }
}

#[async_trait]
impl TrailStore for Fixes {
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>> {
        let expired = query(sql!(
            lite "SELECT unhex(a.value) FROM json_each($1) a WHERE EXISTS (SELECT 1 FROM fixes f
                      WHERE f.device_id = unhex(a.value) AND f.fixed_at < $2 ->> a.key)"
            pg "SELECT a.id FROM unnest($1::uuid[], $2::timestamptz[]) a (id, kept_from)
                WHERE EXISTS (SELECT 1 FROM fixes f WHERE f.device_id = a.id AND f.fixed_at < a.kept_from)"
        ));
        let expired = expired
            .bind(kept_from.iter().map(|(device, _)| device.0).collect::<Vec<_>>())
            .bind(kept_from.iter().map(|(_, from)| *from).collect::<Vec<_>>());
        self.db.list(Lane::Routine, expired, |(device,)| device).await
    }

    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        match &self.db {
            Database::Lite(db) => sqlite::expire_fixes(db, device, before, incidents, AT_ONCE).await,
            Database::Pg(db) => postgres::expire_fixes(db, device, before, incidents, AT_ONCE).await,
        }
    }

    async fn trail_page(
        &self,
        devices: &[DeviceId],
        parts: &[TrailPart],
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>> {
        let mut found = Vec::new();
        for device in devices {
            let track = query(match page.reading {
                Reading::Forwards => of_trails!(
                    each once "AND (t.fixed_at, t.seq) > ($5, $6) AND (t.fixed_at, t.seq) < ($7, $8)
                     AND (t.fixed_at >= $10 OR t.received_at >= $10) "
                    lite "GROUP BY t.fixed_at, t.seq " "ORDER BY t.fixed_at, t.seq LIMIT $9"
                ),
                Reading::Backwards => of_trails!(
                    each once "AND (t.fixed_at, t.seq) > ($5, $6) AND (t.fixed_at, t.seq) < ($7, $8)
                     AND (t.fixed_at >= $10 OR t.received_at >= $10) "
                    lite "GROUP BY t.fixed_at, t.seq " "ORDER BY t.fixed_at DESC, t.seq DESC LIMIT $9"
                ),
            });
            let Bounds { low, high } = page.bounds(*device);
            let track = of_parts(track, *device, parts);
            let track =
                track.bind(low.0).bind(low.1).bind(high.0).bind(high.1).bind(page.limit).bind(page.since);
            for row in self.db.all::<FixRow>(Lane::Routine, track).await? {
                found.push(row.try_into()?);
            }
        }
        Ok(page.first_of(found))
    }

    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>> {
        let mut newest = None;
        for device in devices {
            let last = query(of_trails!("ORDER BY t.fixed_at DESC, t.seq DESC LIMIT 1"));
            let last = self.fix(self.newest_lane(), of_parts(last, *device, parts)).await?;
            newest = newest_of(newest.into_iter().chain(last));
        }
        Ok(newest)
    }

    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        let some = || {
            query(
                "DELETE FROM trails WHERE emergency_id = $1 AND (device_id, fixed_at, seq) IN
                     (SELECT device_id, fixed_at, seq FROM trails WHERE emergency_id = $1 LIMIT $2)",
            )
            .bind(emergency)
            .bind(AT_ONCE)
        };
        self.db.write_all(some).await
    }

    /// PostgreSQL reuses the space of what was deleted; a day that has nothing left goes.
    async fn wipe_fixes(&self) -> Stored<()> {
        match &self.db {
            Database::Lite(db) => sqlite::wipe(db).await,
            Database::Pg(db) => db.days.drop_empty(db).await,
        }
    }
}
