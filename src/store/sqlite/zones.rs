//! Public zones: found by the box around them, measured as fences are; and who is in them.

use super::SqliteStore;
use super::failure::{read, unreadable, unwritable};
use super::inbox::Telling;
use super::writer::Tx;
use crate::alerts::{Lane, SAME_VISIT, VisitCommit};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{Area, Point, RawShape, Shape};
use crate::id::{UserId, ZoneId};
use crate::store::CHANGES_KEPT;
use crate::tracking::{Severity, Zone, ZoneChanges, ZoneDraft, ZoneStore, ZoneVisit, nearest};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use std::sync::Arc;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct ZoneRow {
    id: Uuid,
    name: String,
    shape: String,
    severity: String,
    revision: i64,
    updated_at: i64,
}

impl TryFrom<ZoneRow> for Zone {
    type Error = StoreError;
    fn try_from(row: ZoneRow) -> Stored<Self> {
        let raw: RawShape = serde_json::from_str(&row.shape).map_err(|_| unreadable("zones.shape"))?;
        Ok(Self {
            id: ZoneId(row.id),
            name: row.name,
            shape: Arc::new(Shape::try_from(raw).map_err(|_| unreadable("zones.shape"))?),
            severity: Severity::from_word(&row.severity).ok_or_else(|| unreadable("zones.severity"))?,
            revision: row.revision,
            updated_at: Timestamp::from_unix_ms(row.updated_at),
        })
    }
}

type AreaRow = (f64, f64, f64, f64);

fn area((west, south, east, north): AreaRow) -> Area {
    Area { west, south, east, north }
}

async fn area_of(tx: &mut Tx<'_>, id: ZoneId) -> Stored<Option<Area>> {
    let bounds = query_as::<_, AreaRow>(
        "SELECT west, south, east, north FROM zone_bounds WHERE number = (SELECT number FROM zones WHERE id = ?)",
    );
    Ok(tx.one(bounds.bind(id.0)).await?.map(area))
}

async fn changed(tx: &mut Tx<'_>, areas: Vec<Area>, at: Timestamp) -> Stored<()> {
    for area in Area::gathered(areas) {
        let change =
            query("INSERT INTO zone_changes (west, south, east, north, at) VALUES (?1, ?2, ?3, ?4, ?5)");
        let change = change.bind(area.west).bind(area.south).bind(area.east).bind(area.north);
        tx.run(change.bind(at.unix_ms())).await?;
    }
    let old =
        query("DELETE FROM zone_changes WHERE at < ? AND number < (SELECT max(number) FROM zone_changes)");
    tx.run(old.bind((at - CHANGES_KEPT).unix_ms())).await?;
    Ok(())
}

/// The place in the tree, if the zone is new or differs.
async fn put(tx: &mut Tx<'_>, zone: &ZoneDraft, at: Timestamp) -> Stored<Option<i64>> {
    let shape = serde_json::to_string(zone.shape.raw()).map_err(|_| unwritable("zones.shape"))?;
    let put = query_as::<_, (i64,)>(
        "INSERT INTO zones (id, name, shape, severity, revision, updated_at) VALUES (?, ?, ?, ?, 1, ?)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, shape = excluded.shape, severity = excluded.severity,
             revision = revision + 1, updated_at = excluded.updated_at
         WHERE (name, shape, severity) <> (excluded.name, excluded.shape, excluded.severity) RETURNING number",
    );
    let put = put.bind(zone.id.0).bind(zone.name.as_str()).bind(shape).bind(zone.severity.word());
    Ok(tx.one(put.bind(at.unix_ms())).await?.map(|(number,)| number))
}

#[async_trait]
impl ZoneStore for SqliteStore {
    async fn put_zones(&self, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let (mut differ, mut touched) = (Vec::with_capacity(zones.len()), Vec::new());
        for zone in zones {
            let before = area_of(&mut tx, zone.id).await?;
            let number = put(&mut tx, zone, at).await?;
            differ.push(number.is_some());
            let Some(number) = number else { continue };
            // The tree keeps floats, rounded outwards: a box only grows.
            let area = Area::of(&zone.shape);
            let bounds = query(
                "INSERT OR REPLACE INTO zone_bounds (number, west, east, south, north) VALUES (?, ?, ?, ?, ?)",
            );
            let bounds =
                bounds.bind(number).bind(area.west).bind(area.east).bind(area.south).bind(area.north);
            tx.run(bounds).await?;
            touched.extend(before.into_iter().chain([area]));
        }
        changed(&mut tx, touched, at).await?;
        tx.commit().await?;
        Ok(differ)
    }

    async fn delete_zones(&self, ids: &[ZoneId], at: Timestamp) -> Stored<u64> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let (mut deleted, mut touched) = (0, Vec::new());
        for id in ids {
            touched.extend(area_of(&mut tx, *id).await?);
            let bounds =
                query("DELETE FROM zone_bounds WHERE number = (SELECT number FROM zones WHERE id = ?)");
            tx.run(bounds.bind(id.0)).await?;
            deleted += tx.run(query("DELETE FROM zones WHERE id = ?").bind(id.0)).await?;
        }
        changed(&mut tx, touched, at).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    async fn zones(&self, after: Option<ZoneId>, limit: u32) -> Stored<Vec<Zone>> {
        let zones = query_as::<_, ZoneRow>(
            "SELECT id, name, shape, severity, revision, updated_at FROM zones
             WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
        );
        let zones = zones.bind(after.map(|id| id.0)).bind(limit).fetch_all(&self.db.readers);
        read(zones).await?.into_iter().map(Zone::try_from).collect()
    }

    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>> {
        let area = Area::around(point, radius_m);
        let zones = query_as::<_, ZoneRow>(
            "SELECT z.id, z.name, z.shape, z.severity, z.revision, z.updated_at
             FROM zone_bounds b JOIN zones z ON z.number = b.number
             WHERE b.east >= ? AND b.north >= ? AND b.west <= ? AND b.south <= ?",
        );
        let zones = zones.bind(area.west).bind(area.south).bind(area.east).bind(area.north);
        let zones = read(zones.fetch_all(&self.db.readers)).await?;
        let zones = zones.into_iter().map(Zone::try_from).collect::<Stored<_>>()?;
        Ok(nearest(zones, point, radius_m, limit))
    }

    async fn zones_inside(&self, user: UserId) -> Stored<Vec<ZoneVisit>> {
        let visits = query_as::<_, (Uuid, i64)>(
            "SELECT zone_id, revision FROM zone_visits WHERE user_id = ? AND left_at IS NULL ORDER BY zone_id",
        );
        let rows = read(visits.bind(user.0).fetch_all(&self.db.readers)).await?;
        Ok(rows.into_iter().map(|(zone, revision)| ZoneVisit { zone: ZoneId(zone), revision }).collect())
    }

    async fn zone_changes(&self, after: Option<i64>, limit: u32) -> Stored<ZoneChanges> {
        let Some(after) = after else {
            let head = query_scalar::<_, Option<i64>>("SELECT max(number) FROM zone_changes");
            let to = read(head.fetch_one(&self.db.readers)).await?.unwrap_or(0);
            return Ok(ZoneChanges { to, ..ZoneChanges::default() });
        };
        let changes = query_as::<_, (i64, i64, f64, f64, f64, f64)>(
            "SELECT number, (SELECT min(number) FROM zone_changes) AS oldest, west, south, east, north FROM zone_changes
             WHERE number > ? ORDER BY number LIMIT ?",
        );
        let rows = read(changes.bind(after).bind(limit).fetch_all(&self.db.readers)).await?;
        Ok(ZoneChanges {
            to: rows.last().map_or(after, |row| row.0),
            some_lost: rows.first().is_some_and(|row| after + 1 < row.1),
            areas: rows
                .into_iter()
                .map(|(_, _, west, south, east, north)| area((west, south, east, north)))
                .collect(),
        })
    }
}

/// Stores entries with their alerts, and exits. Whose inboxes got something.
pub(super) async fn commit_visits(store: &SqliteStore, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    let mut telling = Telling::at(store.clock.now());
    for commit in commits {
        let user = commit.user.0;
        for (entry, alert) in &commit.entered {
            // The zone may have changed or gone, and the person too.
            let enter = query(
                "INSERT INTO zone_visits (user_id, zone_id, revision, entered_at)
                 SELECT a.id, z.id, z.revision, ?4 FROM zones z, accounts a
                 WHERE a.id = ?1 AND z.id = ?2 AND z.revision = ?3
                 ON CONFLICT (user_id, zone_id) DO UPDATE
                 SET revision = excluded.revision, entered_at = excluded.entered_at, left_at = NULL
                 WHERE revision <> excluded.revision OR left_at < ?5",
            );
            let enter = enter.bind(user).bind(entry.zone.0).bind(entry.revision);
            let enter = enter.bind(entry.at.unix_ms()).bind((entry.at - SAME_VISIT).unix_ms());
            if tx.run(enter).await? > 0 {
                telling.tell(&mut tx, alert).await?;
                continue;
            }
            let resume = query(
                "UPDATE zone_visits SET left_at = NULL
                 WHERE user_id = ? AND zone_id = ? AND revision = ? AND left_at <= ?",
            );
            let resume = resume.bind(user).bind(entry.zone.0).bind(entry.revision);
            tx.run(resume.bind(entry.at.unix_ms())).await?;
        }
        for exit in &commit.left {
            let leave = query(
                "UPDATE zone_visits SET left_at = ?4
                 WHERE user_id = ?1 AND zone_id = ?2 AND revision = ?3 AND left_at IS NULL AND entered_at <= ?4",
            );
            let leave = leave.bind(user).bind(exit.zone.0).bind(exit.revision).bind(exit.at.unix_ms());
            tx.run(leave).await?;
        }
    }
    tx.commit().await?;
    Ok(telling.committed().told)
}
