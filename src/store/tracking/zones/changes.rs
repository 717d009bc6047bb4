//! Putting zones and deleting them, and telling where. Zones come by the hundred and are given to a statement as one JSON
//! list.

use super::AreaRow;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::{Area, RawShape};
use crate::id::ZoneId;
use crate::store::CHANGES_KEPT;
use crate::store::database::{Database, Tx};
use crate::store::failure::unwritable;
use crate::store::sql::{query, sql};
use crate::tracking::ZoneDraft;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Held by whoever changes zones.
const CHANGING: i64 = 0x63_696d_615f_7a6f;

/// The elements of the list `$1`, each as `value`.
macro_rules! elements {
    (lite) => {
        "json_each($1)"
    };
    (pg) => {
        "jsonb_array_elements($1::jsonb)"
    };
}

#[derive(sqlx::FromRow)]
struct PlacedRow {
    id: ZoneId,
    #[sqlx(flatten)]
    area: AreaRow,
}

/// A transaction of one who changes zones, with the areas of these as they were. One at a time does: no change becomes
/// seen before one with a lower number.
async fn begin<'d>(db: &'d Database, ids: &[ZoneId]) -> Stored<(Tx<'d>, HashMap<ZoneId, Area>)> {
    let mut tx = db.begin(Lane::Routine).await?;
    tx.lock(query("SELECT pg_advisory_xact_lock($1)").bind(CHANGING)).await?;
    let areas = query(sql!(
        "SELECT id, " lite "west, south, east, north FROM zones JOIN zone_bounds USING (number)"
        pg "ST_XMin(area) AS west, ST_YMin(area) AS south, ST_XMax(area) AS east, ST_YMax(area) AS north FROM zones"
        " WHERE id " among "$1"
    ));
    let rows = tx.all::<PlacedRow>(areas.bind(ids)).await?;
    Ok((tx, rows.into_iter().map(|row| (row.id, row.area.into())).collect()))
}

/// Tells those who follow zones where some changed.
async fn changed(tx: &mut Tx<'_>, areas: Vec<Area>, at: Timestamp) -> Stored<()> {
    let areas = Area::gathered(areas);
    if areas.is_empty() {
        return Ok(());
    }
    let areas: Value =
        areas.iter().map(|area| json!([area.west, area.south, area.east, area.north])).collect();
    let insert = query(sql!(
        "INSERT INTO zone_changes (west, south, east, north, at)
         SELECT CAST(value ->> 0 AS double precision), CAST(value ->> 1 AS double precision),
             CAST(value ->> 2 AS double precision), CAST(value ->> 3 AS double precision), $2 FROM " elements!
    ));
    tx.run(insert.bind(areas.to_string()).bind(at)).await?;
    tx.run(query("DELETE FROM zone_changes WHERE at < $1").bind(at - CHANGES_KEPT)).await?;
    Ok(())
}

fn element(zone: &ZoneDraft, area: &Area) -> Stored<Value> {
    Ok(json!({
        "id": zone.id,
        "name": zone.name,
        // As text, which stays as it is letter by letter.
        "shape": serde_json::to_string(zone.shape.raw()).map_err(|_| unwritable("zones.shape"))?,
        "severity": zone.severity.word(),
        "round": matches!(zone.shape.raw(), RawShape::Circle { .. }),
        "west": area.west,
        "south": area.south,
        "east": area.east,
        "north": area.north,
    }))
}

/// The area of a circle is the box around it.
pub(super) async fn put(db: &Database, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>> {
    let areas: Vec<Area> = zones.iter().map(|zone| Area::of(&zone.shape)).collect();
    let list: Value =
        zones.iter().zip(&areas).map(|(zone, area)| element(zone, area)).collect::<Stored<_>>()?;
    let ids: Vec<ZoneId> = zones.iter().map(|zone| zone.id).collect();
    let (mut tx, before) = begin(db, &ids).await?;
    let put = query(sql!(
        "INSERT INTO zones (" pg "area, " "id, name, shape, severity, revision, updated_at)
         SELECT "
        pg "CASE WHEN CAST(value ->> 'round' AS boolean)
                THEN ST_MakeEnvelope(CAST(value ->> 'west' AS float8), CAST(value ->> 'south' AS float8),
                    CAST(value ->> 'east' AS float8), CAST(value ->> 'north' AS float8), 4326)
                ELSE ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON(value ->> 'shape')), 4326) END,
            CAST(value ->> 'id' AS uuid), value ->> 'name', CAST(value ->> 'shape' AS jsonb)"
        lite "unhex(value ->> 'id', '-'), value ->> 'name', value ->> 'shape'"
        ", value ->> 'severity', 1, $2 FROM " elements! " WHERE true
         ON CONFLICT (id) DO UPDATE SET " pg "area = excluded.area, " "name = excluded.name, shape = excluded.shape,
             severity = excluded.severity, revision = zones.revision + 1, updated_at = excluded.updated_at
         WHERE (zones.name, zones.shape, zones.severity) <> (excluded.name, excluded.shape, excluded.severity)
         RETURNING id"
    ));
    let put = tx.all::<(ZoneId,)>(put.bind(list.to_string()).bind(at)).await?;
    let put: HashSet<ZoneId> = put.into_iter().map(|(id,)| id).collect();
    let mut touched = Vec::new();
    for (zone, area) in zones.iter().zip(areas).filter(|(zone, _)| put.contains(&zone.id)) {
        if let Tx::Lite(_) = tx {
            // The tree keeps floats, rounded outwards: a box only grows.
            let bounds = query(
                "INSERT OR REPLACE INTO zone_bounds (number, west, south, east, north)
                 SELECT number, $2, $3, $4, $5 FROM zones WHERE id = $1",
            );
            let bounds = bounds.bind(zone.id).bind(area.west).bind(area.south);
            tx.run(bounds.bind(area.east).bind(area.north)).await?;
        }
        touched.extend(before.get(&zone.id).copied().into_iter().chain([area]));
    }
    changed(&mut tx, touched, at).await?;
    tx.commit().await?;
    Ok(ids.iter().map(|id| put.contains(id)).collect())
}

pub(super) async fn delete(db: &Database, ids: &[ZoneId], at: Timestamp) -> Stored<u64> {
    let (mut tx, before) = begin(db, ids).await?;
    if let Tx::Lite(_) = tx {
        let bounds = query(sql!(
            "DELETE FROM zone_bounds WHERE number IN (SELECT number FROM zones WHERE id " among "$1" ")"
        ));
        tx.run(bounds.bind(ids)).await?;
    }
    let deleted = tx.run(query(sql!("DELETE FROM zones WHERE id " among "$1")).bind(ids)).await?;
    changed(&mut tx, before.into_values().collect(), at).await?;
    tx.commit().await?;
    Ok(deleted)
}
