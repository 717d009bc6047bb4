//! Public zones: found by the box around them, measured as fences are; and who is in them.

mod changes;
mod visits;

pub(in crate::store) use visits::commit_visits;

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::{Area, Point, RawShape, Shape};
use crate::id::{UserId, ZoneId};
use crate::store::database::Database;
use crate::store::failure::unreadable;
use crate::store::sql::{Sql, Statement, query, sql};
use crate::store::value::Json;
use crate::store::{Store, postgres};
use crate::tracking::{Zone, ZoneChanges, ZoneDraft, ZoneStore, ZoneVisit, nearest};
use async_trait::async_trait;
use std::sync::Arc;

/// The zones whose box meets the box from `$1` (west) and `$2` (south) to `$3` (east) and `$4` (north).
const IN_BOX: Sql = Sql {
    lite: "SELECT z.id, z.name, z.shape, z.severity, z.revision, z.updated_at
           FROM zone_bounds b JOIN zones z ON z.number = b.number
           WHERE b.east >= $1 AND b.north >= $2 AND b.west <= $3 AND b.south <= $4",
    pg: postgres::ZONES_IN_BOX,
};

/// The box of a zone, or of changes.
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

async fn all(db: &Database, zones: Statement) -> Stored<Vec<Zone>> {
    let zone = |(id, name, shape, severity, revision, updated_at): (_, _, Json<RawShape>, _, _, _)| {
        let shape = Arc::new(Shape::try_from(shape.0).map_err(|_| unreadable("zones.shape"))?);
        Ok(Zone { id, name, shape, severity, revision, updated_at })
    };
    db.all(Lane::Routine, zones).await?.into_iter().map(zone).collect()
}

#[async_trait]
impl ZoneStore for Store {
    async fn put_zones(&self, zones: &[ZoneDraft], at: Timestamp) -> Stored<Vec<bool>> {
        self.db.again(Lane::Routine, || changes::put(&self.db, zones, at)).await
    }

    async fn delete_zones(&self, ids: &[ZoneId], at: Timestamp) -> Stored<u64> {
        self.db.again(Lane::Routine, || changes::delete(&self.db, ids, at)).await
    }

    async fn zones(&self, after: Option<ZoneId>, limit: u32) -> Stored<Vec<Zone>> {
        let zones = query(sql!(
            "SELECT id, name, shape, severity, revision, updated_at FROM zones WHERE " past "id" "$1" " ORDER BY id LIMIT $2"
        ));
        all(&self.db, zones.bind(after).bind(limit)).await
    }

    async fn zones_near(&self, point: Point, radius_m: f64, limit: u32) -> Stored<Vec<Zone>> {
        let area = Area::around(point, radius_m);
        let zones = query(IN_BOX).bind(area.west).bind(area.south).bind(area.east).bind(area.north);
        Ok(nearest(all(&self.db, zones).await?, point, radius_m, limit))
    }

    async fn zones_inside(&self, user: UserId) -> Stored<Vec<ZoneVisit>> {
        let visits = query(
            "SELECT zone_id, revision FROM zone_visits WHERE user_id = $1 AND left_at IS NULL ORDER BY zone_id",
        );
        let visit = |(zone, revision)| ZoneVisit { zone, revision };
        self.db.list(Lane::Routine, visits.bind(user), visit).await
    }

    async fn zone_changes(&self, after: Option<i64>, limit: u32) -> Stored<ZoneChanges> {
        let Some(after) = after else {
            let newest = query("SELECT max(number) FROM zone_changes");
            let newest = self.db.one::<(Option<i64>,)>(Lane::Routine, newest).await?;
            let to = newest.and_then(|(number,)| number).unwrap_or(0);
            return Ok(ZoneChanges { to, ..ZoneChanges::default() });
        };
        let changes = query(
            "SELECT number, (SELECT min(number) FROM zone_changes) AS oldest, west, south, east, north FROM zone_changes
             WHERE number > $1 ORDER BY number LIMIT $2",
        );
        let rows = self.db.all::<ChangeRow>(Lane::Routine, changes.bind(after).bind(limit)).await?;
        Ok(ZoneChanges {
            to: rows.last().map_or(after, |row| row.number),
            some_lost: rows.first().is_some_and(|row| after + 1 < row.oldest),
            areas: rows.into_iter().map(|row| row.area.into()).collect(),
        })
    }
}
