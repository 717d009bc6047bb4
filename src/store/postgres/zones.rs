//! Public zones: found by the box around them, measured as fences are.

use super::PostgresStore;
use super::at::At;
use super::failure::{read, unreadable, unwritable};
use crate::alerts::Lane;
use crate::error::{StoreError, Stored};
use crate::geo::{Area, Point, RawShape, Shape};
use crate::id::ZoneId;
use crate::tracking::{Severity, Zone, ZoneStore, nearest};
use async_trait::async_trait;
use sqlx::{query, query_as};
use std::sync::Arc;
use uuid::Uuid;

/// The zones whose box meets the box from `$1` (west) and `$2` (south) to `$3` (east) and `$4` (north).
pub const ZONES_IN_BOX: &str =
    "SELECT id, name, shape::text AS shape, severity, revision, updated_at FROM zones
     WHERE area && ST_MakeEnvelope($1, $2, $3, $4, 4326)";

#[derive(sqlx::FromRow)]
struct ZoneRow {
    id: Uuid,
    name: String,
    shape: String,
    severity: String,
    revision: i64,
    updated_at: At,
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
            updated_at: row.updated_at.0,
        })
    }
}

#[async_trait]
impl ZoneStore for PostgresStore {
    async fn put_zone(&self, zone: &Zone) -> Stored<bool> {
        let shape = serde_json::to_string(zone.shape.raw()).map_err(|_| unwritable("zones.shape"))?;
        let polygon = !matches!(zone.shape.raw(), RawShape::Circle { .. });
        let area = Area::of(&zone.shape);
        let put = query(
            "INSERT INTO zones (id, name, shape, area, severity, revision, updated_at)
             VALUES ($1, $2, $3::jsonb, coalesce(ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON($4::text)), 4326),
                 ST_MakeEnvelope($5, $6, $7, $8, 4326)), $9, $10, $11)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, shape = excluded.shape, area = excluded.area,
                 severity = excluded.severity, revision = excluded.revision, updated_at = excluded.updated_at
             WHERE excluded.revision > zones.revision",
        );
        let put = put
            .bind(zone.id.0)
            .bind(zone.name.as_str())
            .bind(shape.as_str())
            .bind(polygon.then_some(shape.as_str()))
            .bind(area.west)
            .bind(area.south)
            .bind(area.east)
            .bind(area.north)
            .bind(zone.severity.word())
            .bind(zone.revision)
            .bind(At(zone.updated_at));
        Ok(self.db.write(Lane::Routine, put).await? > 0)
    }

    async fn delete_zone(&self, id: ZoneId) -> Stored<bool> {
        let delete = query("DELETE FROM zones WHERE id = $1").bind(id.0);
        Ok(self.db.write(Lane::Routine, delete).await? > 0)
    }

    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>> {
        let area = Area::around(point, radius_m);
        let zones = query_as::<_, ZoneRow>(ZONES_IN_BOX).bind(area.west).bind(area.south);
        let zones = zones.bind(area.east).bind(area.north).fetch_all(&self.db.routine);
        let zones = read(zones).await?.into_iter().map(Zone::try_from).collect::<Stored<_>>()?;
        Ok(nearest(zones, point, radius_m, limit))
    }
}
