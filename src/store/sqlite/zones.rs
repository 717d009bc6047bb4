//! Public zones: found by the box around them, measured as fences are.

use super::SqliteStore;
use super::failure::{read, unreadable, unwritable};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{Area, Point, RawShape, Shape};
use crate::id::ZoneId;
use crate::tracking::{Severity, Zone, ZoneStore, nearest};
use async_trait::async_trait;
use sqlx::{query, query_as};
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

#[async_trait]
impl ZoneStore for SqliteStore {
    async fn put_zone(&self, zone: &Zone) -> Stored<bool> {
        let shape = serde_json::to_string(zone.shape.raw()).map_err(|_| unwritable("zones.shape"))?;
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let put = query_as::<_, (i64,)>(
            "INSERT INTO zones (id, name, shape, severity, revision, updated_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, shape = excluded.shape, severity = excluded.severity,
                 revision = excluded.revision, updated_at = excluded.updated_at
             WHERE excluded.revision > revision RETURNING number",
        );
        let put = put
            .bind(zone.id.0)
            .bind(zone.name.as_str())
            .bind(shape)
            .bind(zone.severity.word())
            .bind(zone.revision)
            .bind(zone.updated_at.unix_ms());
        let Some((number,)) = tx.one(put).await? else { return Ok(false) };
        // The tree keeps floats, rounded outwards: a box only grows.
        let area = Area::of(&zone.shape);
        let bounds = query(
            "INSERT OR REPLACE INTO zone_bounds (number, west, east, south, north) VALUES (?, ?, ?, ?, ?)",
        );
        let bounds = bounds.bind(number).bind(area.west).bind(area.east).bind(area.south).bind(area.north);
        tx.run(bounds).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn delete_zone(&self, id: ZoneId) -> Stored<bool> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let bounds = query("DELETE FROM zone_bounds WHERE number = (SELECT number FROM zones WHERE id = ?)");
        tx.run(bounds.bind(id.0)).await?;
        let deleted = tx.run(query("DELETE FROM zones WHERE id = ?").bind(id.0)).await?;
        tx.commit().await?;
        Ok(deleted > 0)
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
}
