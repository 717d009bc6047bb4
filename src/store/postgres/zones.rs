//! Public zones: found by the box around them, measured as fences are; and who is in them.

use super::PostgresStore;
use super::at::At;
use super::connect::{Tx, again};
use super::failure::{read, unreadable, unwritable};
use super::inbox::Telling;
use super::places::ZONES_IN_BOX;
use crate::alerts::{Lane, SAME_VISIT, VisitCommit};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{Area, Point, RawShape, Shape};
use crate::id::{UserId, ZoneId};
use crate::store::CHANGES_KEPT;
use crate::store::value::Json;
use crate::tracking::{Severity, Zone, ZoneChanges, ZoneDraft, ZoneStore, ZoneVisit, nearest};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Held by whoever changes zones.
const CHANGING: i64 = 0x63_696d_615f_7a6f;

#[derive(sqlx::FromRow)]
struct ZoneRow {
    id: Uuid,
    name: String,
    shape: Json<RawShape>,
    severity: String,
    revision: i64,
    updated_at: At,
}

impl TryFrom<ZoneRow> for Zone {
    type Error = StoreError;
    fn try_from(row: ZoneRow) -> Stored<Self> {
        Ok(Self {
            id: ZoneId(row.id),
            name: row.name,
            shape: Arc::new(Shape::try_from(row.shape.0).map_err(|_| unreadable("zones.shape"))?),
            severity: Severity::from_word(&row.severity).ok_or_else(|| unreadable("zones.severity"))?,
            revision: row.revision,
            updated_at: row.updated_at.0,
        })
    }
}

/// One place of the box of a zone, or of a change.
#[derive(sqlx::FromRow)]
struct AreaRow {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

impl From<AreaRow> for Area {
    fn from(row: AreaRow) -> Self {
        Self { west: row.west, south: row.south, east: row.east, north: row.north }
    }
}

#[derive(sqlx::FromRow)]
struct ChangeRow {
    number: i64,
    oldest: i64,
    #[sqlx(flatten)]
    area: AreaRow,
}

/// Whoever changes zones does it alone: no change becomes seen before one with a lower number.
async fn lock(tx: &mut Tx) -> Stored<()> {
    tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(CHANGING)).await.map(|_| ())
}

async fn areas_of(tx: &mut Tx, ids: &[Uuid]) -> Stored<HashMap<Uuid, Area>> {
    let areas = query_as::<_, (Uuid, f64, f64, f64, f64)>(
        "SELECT id, ST_XMin(area), ST_YMin(area), ST_XMax(area), ST_YMax(area) FROM zones WHERE id = ANY ($1)",
    );
    let rows = tx.all(areas.bind(ids)).await?;
    let area = |(id, west, south, east, north)| (id, Area { west, south, east, north });
    Ok(rows.into_iter().map(area).collect())
}

async fn changed(tx: &mut Tx, areas: Vec<Area>, at: Timestamp) -> Stored<()> {
    let areas = Area::gathered(areas);
    if areas.is_empty() {
        return Ok(());
    }
    let of = |side: fn(&Area) -> f64| areas.iter().map(side).collect::<Vec<_>>();
    let insert = query(
        "INSERT INTO zone_changes (west, south, east, north, at)
         SELECT *, $5 FROM unnest($1::float8[], $2::float8[], $3::float8[], $4::float8[])",
    );
    let insert = insert.bind(of(|a| a.west)).bind(of(|a| a.south)).bind(of(|a| a.east)).bind(of(|a| a.north));
    tx.run(insert.bind(At(at))).await?;
    tx.run(query("DELETE FROM zone_changes WHERE at < $1").bind(At(at - CHANGES_KEPT))).await?;
    Ok(())
}

impl PostgresStore {
    async fn put_zones_once(&self, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        lock(&mut tx).await?;
        let ids: Vec<Uuid> = zones.iter().map(|zone| zone.id.0).collect();
        let before = areas_of(&mut tx, &ids).await?;
        let (mut shapes, mut polygons) = (Vec::new(), Vec::new());
        for zone in zones {
            let shape = serde_json::to_string(zone.shape.raw()).map_err(|_| unwritable("zones.shape"))?;
            let polygon = !matches!(zone.shape.raw(), RawShape::Circle { .. });
            polygons.push(polygon.then(|| shape.clone()));
            shapes.push(shape);
        }
        let areas: Vec<Area> = zones.iter().map(|zone| Area::of(&zone.shape)).collect();
        let of = |side: fn(&Area) -> f64| areas.iter().map(side).collect::<Vec<_>>();
        let put = query_as::<_, (Uuid,)>(
            "INSERT INTO zones (id, name, shape, area, severity, revision, updated_at)
             SELECT id, name, shape::jsonb, coalesce(ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON(polygon)), 4326),
                 ST_MakeEnvelope(west, south, east, north, 4326)), severity, 1, $10
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::float8[],
                 $8::float8[], $9::text[]) AS p (id, name, shape, polygon, west, south, east, north, severity)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, shape = excluded.shape, area = excluded.area,
                 severity = excluded.severity, revision = zones.revision + 1, updated_at = excluded.updated_at
             WHERE (zones.name, zones.shape, zones.severity)
                 IS DISTINCT FROM (excluded.name, excluded.shape, excluded.severity)
             RETURNING id",
        );
        let put = put.bind(ids).bind(zones.iter().map(|zone| zone.name.as_str()).collect::<Vec<_>>());
        let put = put.bind(shapes).bind(polygons);
        let put = put.bind(of(|a| a.west)).bind(of(|a| a.south)).bind(of(|a| a.east)).bind(of(|a| a.north));
        let put = put.bind(zones.iter().map(|zone| zone.severity.word()).collect::<Vec<_>>()).bind(At(at));
        let put: HashSet<Uuid> = tx.all(put).await?.into_iter().map(|(id,)| id).collect();
        let touched = zones.iter().zip(&areas).filter(|(zone, _)| put.contains(&zone.id.0));
        let touched =
            touched.flat_map(|(zone, area)| before.get(&zone.id.0).copied().into_iter().chain([*area]));
        changed(&mut tx, touched.collect(), at).await?;
        tx.commit().await?;
        Ok(zones.iter().map(|zone| put.contains(&zone.id.0)).collect())
    }

    async fn delete_zones_once(&self, ids: &[ZoneId], at: Timestamp) -> Stored<u64> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        lock(&mut tx).await?;
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let before = areas_of(&mut tx, &ids).await?;
        let deleted = tx.run(query("DELETE FROM zones WHERE id = ANY ($1)").bind(ids)).await?;
        changed(&mut tx, before.into_values().collect(), at).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}

#[async_trait]
impl ZoneStore for PostgresStore {
    async fn put_zones(&self, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>> {
        again(Lane::Routine, || self.put_zones_once(zones, at)).await
    }

    async fn delete_zones(&self, ids: &[ZoneId], at: Timestamp) -> Stored<u64> {
        again(Lane::Routine, || self.delete_zones_once(ids, at)).await
    }

    async fn zones(&self, after: Option<ZoneId>, limit: u32) -> Stored<Vec<Zone>> {
        let zones = query_as::<_, ZoneRow>(
            "SELECT id, name, shape, severity, revision, updated_at FROM zones
             WHERE $1 IS NULL OR id > $1 ORDER BY id LIMIT $2",
        );
        let zones = zones.bind(after.map(|id| id.0)).bind(i64::from(limit)).fetch_all(&self.db.routine);
        read(zones).await?.into_iter().map(Zone::try_from).collect()
    }

    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>> {
        let area = Area::around(point, radius_m);
        let zones = query_as::<_, ZoneRow>(ZONES_IN_BOX).bind(area.west).bind(area.south);
        let zones = zones.bind(area.east).bind(area.north).fetch_all(&self.db.routine);
        let zones = read(zones).await?.into_iter().map(Zone::try_from).collect::<Stored<_>>()?;
        Ok(nearest(zones, point, radius_m, limit))
    }

    async fn zones_inside(&self, user: UserId) -> Stored<Vec<ZoneVisit>> {
        let visits = query_as::<_, (Uuid, i64)>(
            "SELECT zone_id, revision FROM zone_visits WHERE user_id = $1 AND left_at IS NULL ORDER BY zone_id",
        );
        let rows = read(visits.bind(user.0).fetch_all(&self.db.routine)).await?;
        Ok(rows.into_iter().map(|(zone, revision)| ZoneVisit { zone: ZoneId(zone), revision }).collect())
    }

    async fn zone_changes(&self, after: Option<i64>, limit: u32) -> Stored<ZoneChanges> {
        let Some(after) = after else {
            let head = query_scalar::<_, Option<i64>>("SELECT max(number) FROM zone_changes");
            let to = read(head.fetch_one(&self.db.routine)).await?.unwrap_or(0);
            return Ok(ZoneChanges { to, ..ZoneChanges::default() });
        };
        let changes = query_as::<_, ChangeRow>(
            "SELECT number, (SELECT min(number) FROM zone_changes) AS oldest, west, south, east, north FROM zone_changes
             WHERE number > $1 ORDER BY number LIMIT $2",
        );
        let rows = read(changes.bind(after).bind(i64::from(limit)).fetch_all(&self.db.routine)).await?;
        Ok(ZoneChanges {
            to: rows.last().map_or(after, |row| row.number),
            some_lost: rows.first().is_some_and(|row| after + 1 < row.oldest),
            areas: rows.into_iter().map(|row| row.area.into()).collect(),
        })
    }
}

/// Stores entries with their alerts, and exits. Whose inboxes got something.
pub(super) async fn commit_visits(store: &PostgresStore, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
    again(Lane::Routine, || commit_visits_once(store, commits)).await
}

async fn commit_visits_once(store: &PostgresStore, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let mut telling = Telling::at(store.clock.now());
    for commit in commits {
        let user = commit.user.0;
        for (entry, alert) in &commit.entered {
            // The zone may have changed or gone, and the person too.
            let enter = query(
                "INSERT INTO zone_visits (user_id, zone_id, revision, entered_at)
                 SELECT a.id, z.id, z.revision, $4 FROM zones z, accounts a
                 WHERE a.id = $1 AND z.id = $2 AND z.revision = $3 FOR KEY SHARE
                 ON CONFLICT (user_id, zone_id) DO UPDATE
                 SET revision = excluded.revision, entered_at = excluded.entered_at, left_at = NULL
                 WHERE zone_visits.revision <> excluded.revision OR zone_visits.left_at < $5",
            );
            let enter = enter.bind(user).bind(entry.zone.0).bind(entry.revision);
            let enter = enter.bind(At(entry.at)).bind(At(entry.at - SAME_VISIT));
            if tx.run(enter).await? > 0 {
                telling.tell(&mut tx, alert).await?;
                continue;
            }
            let resume = query(
                "UPDATE zone_visits SET left_at = NULL
                 WHERE user_id = $1 AND zone_id = $2 AND revision = $3 AND left_at <= $4",
            );
            tx.run(resume.bind(user).bind(entry.zone.0).bind(entry.revision).bind(At(entry.at))).await?;
        }
        for exit in &commit.left {
            let leave = query(
                "UPDATE zone_visits SET left_at = $4
                 WHERE user_id = $1 AND zone_id = $2 AND revision = $3 AND left_at IS NULL AND entered_at <= $4",
            );
            let leave = leave.bind(user).bind(exit.zone.0).bind(exit.revision).bind(At(exit.at));
            tx.run(leave).await?;
        }
    }
    let told = telling.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(told)
}
