//! Geofences: kept as their owner wrote them, and checked again when they are read. Limits are kept among many writers by
//! the lock of the owner's account.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::geo::{RawShape, Shape};
use crate::id::{GeofenceId, UserId};
use crate::store::database::{Database, Tx};
use crate::store::failure::{unreadable, unwritable};
use crate::store::sql::{Statement, query, sql};
use crate::store::value::{Json, Millis};
use crate::tracking::{FenceCreated, Geofence, Severity, Trigger};
use std::sync::Arc;

#[derive(sqlx::FromRow)]
struct FenceRow {
    id: GeofenceId,
    owner_id: UserId,
    name: String,
    shape: Json<RawShape>,
    triggers: Json<Vec<Trigger>>,
    dwell_ms: Millis,
    cooldown_ms: Millis,
    severity: Severity,
    notify_all: bool,
    notify: Json<Vec<UserId>>,
    created_at: Timestamp,
    revision: i64,
}

impl TryFrom<FenceRow> for Geofence {
    type Error = StoreError;
    fn try_from(row: FenceRow) -> Stored<Self> {
        Ok(Self {
            id: row.id,
            owner: row.owner_id,
            name: row.name,
            shape: Arc::new(Shape::try_from(row.shape.0).map_err(|_| unreadable("geofences.shape"))?),
            triggers: row.triggers.0,
            dwell: row.dwell_ms.0,
            cooldown: row.cooldown_ms.0,
            severity: row.severity,
            notify: (!row.notify_all).then_some(row.notify.0),
            created_at: row.created_at,
            revision: row.revision,
        })
    }
}

/// A query of fences with the people they name.
macro_rules! fences {
    ($($rest:tt)+) => {
        sql!(
            "SELECT g.id, g.owner_id, g.name, g.shape, g.triggers, g.dwell_ms, g.cooldown_ms, g.severity, g.notify_all,
                 g.created_at, g.revision,
                 (SELECT " lite "json_group_array(hex(n.user_id) ORDER BY n.place)"
                 pg "coalesce(json_agg(n.user_id ORDER BY n.place), '[]')"
                 " FROM geofence_notify n WHERE n.geofence_id = g.id) AS notify
             FROM geofences g " $($rest)+
        )
    };
}

async fn read(db: &Database, question: Statement) -> Stored<Vec<Geofence>> {
    let rows = db.all::<FenceRow>(Lane::Routine, question).await?;
    rows.into_iter().map(Geofence::try_from).collect()
}

pub(super) async fn one(db: &Database, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>> {
    let fence = query(fences!("WHERE g.id = $1 AND g.owner_id = $2"));
    Ok(read(db, fence.bind(id).bind(owner)).await?.pop())
}

pub(super) async fn page(
    db: &Database,
    owner: UserId,
    after: Option<GeofenceId>,
    limit: u32,
) -> Stored<Vec<Geofence>> {
    let fences = query(fences!("WHERE g.owner_id = $1 AND " past "g.id" "$2" " ORDER BY g.id LIMIT $3"));
    read(db, fences.bind(owner).bind(after).bind(limit)).await
}

pub(super) async fn create(
    db: &Database,
    fence: &Geofence,
    max_fences: u32,
    max_vertices: u32,
) -> Stored<FenceCreated> {
    let mut tx = db.begin_with(Lane::Routine, fence.owner).await?;
    let insert = query(sql!(
        "INSERT INTO geofences (name, shape, " pg "area, centre, radius_m, "
        "vertices, triggers, dwell_ms, cooldown_ms, severity, notify_all, id, owner_id, created_at, revision)
         VALUES ($1, $2::jsonb, "
        pg "ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON($3::text)), 4326),
             ST_SetSRID(ST_MakePoint($4, $5), 4326)::geography, $6, "
        "$7, $8::jsonb, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (id) DO NOTHING"
    ));
    let insert = with_content(insert, fence)?.bind(fence.id).bind(fence.owner);
    if tx.run(insert.bind(fence.created_at).bind(fence.revision)).await? == 0 {
        let owner = query("SELECT owner_id FROM geofences WHERE id = $1").bind(fence.id);
        return match tx.one::<(UserId,)>(owner).await? {
            Some((owner,)) if owner == fence.owner => Ok(FenceCreated::Repeated),
            Some(_) => Ok(FenceCreated::Conflict),
            None => Err(StoreError::new(Fault::Conflict, "a fence of this id was deleted just now")),
        };
    }
    let (others, vertices) = others(&mut tx, fence).await?;
    if others >= i64::from(max_fences) || vertices > i64::from(max_vertices) {
        return Ok(FenceCreated::TooMany);
    }
    name_people(&mut tx, fence).await?;
    tx.commit().await?;
    Ok(FenceCreated::Created)
}

pub(super) async fn replace(
    db: &Database,
    fence: &Geofence,
    max_vertices: u32,
) -> Stored<Option<Result<Geofence, FenceCreated>>> {
    let mut tx = db.begin_with(Lane::Routine, fence.owner).await?;
    let update = query(sql!(
        "UPDATE geofences SET name = $1, shape = $2::jsonb, "
        pg "area = ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON($3::text)), 4326),
             centre = ST_SetSRID(ST_MakePoint($4, $5), 4326)::geography, radius_m = $6, "
        "vertices = $7, triggers = $8::jsonb, dwell_ms = $9, cooldown_ms = $10, severity = $11, notify_all = $12,
             revision = revision + 1
         WHERE id = $13 AND owner_id = $14"
    ));
    if tx.run(with_content(update, fence)?.bind(fence.id).bind(fence.owner)).await? == 0 {
        return Ok(None);
    }
    if others(&mut tx, fence).await?.1 > i64::from(max_vertices) {
        return Ok(Some(Err(FenceCreated::TooMany)));
    }
    tx.run(query("DELETE FROM geofence_notify WHERE geofence_id = $1").bind(fence.id)).await?;
    name_people(&mut tx, fence).await?;
    let after = tx.one::<FenceRow>(query(fences!("WHERE g.id = $1")).bind(fence.id)).await?;
    tx.commit().await?;
    Ok(Some(Ok(after.ok_or_else(|| unreadable("geofences"))?.try_into()?)))
}

/// How many other fences the owner has, and how many vertices there are with this one's.
async fn others(tx: &mut Tx<'_>, fence: &Geofence) -> Stored<(i64, i64)> {
    let sums = query(sql!(
        "SELECT count(*), coalesce(sum(vertices), 0)" pg "::bigint" " FROM geofences WHERE owner_id = $1 AND id <> $2"
    ));
    let sums = tx.one::<(i64, i64)>(sums.bind(fence.owner).bind(fence.id)).await?;
    let (count, vertices) = sums.unwrap_or_default();
    Ok((count, vertices + i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX)))
}

/// Binds what a change of a fence may change, in the order of both statements: `$1` to `$12`, of which `$3` to `$6` are
/// the shape as PostGIS has it.
fn with_content(statement: Statement, fence: &Geofence) -> Stored<Statement> {
    let shape = serde_json::to_string(fence.shape.raw()).map_err(|_| unwritable("geofences.shape"))?;
    let triggers = serde_json::to_string(&fence.triggers).map_err(|_| unwritable("geofences.triggers"))?;
    let (area, circle) = match fence.shape.raw() {
        RawShape::Circle { center, radius_m } => (None, Some((center, *radius_m))),
        RawShape::Polygon { .. } | RawShape::MultiPolygon { .. } => (Some(shape.clone()), None),
    };
    Ok(statement
        .bind(&fence.name)
        .bind(shape)
        .bind(area)
        .bind(circle.and_then(|(center, _)| center.first().copied()))
        .bind(circle.and_then(|(center, _)| center.get(1).copied()))
        .bind(circle.map(|(_, radius_m)| radius_m))
        .bind(i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX))
        .bind(triggers)
        .bind(Millis(fence.dwell))
        .bind(Millis(fence.cooldown))
        .bind(fence.severity)
        .bind(fence.notify.is_none()))
}

async fn name_people(tx: &mut Tx<'_>, fence: &Geofence) -> Stored<()> {
    for (place, user) in (0_i64..).zip(fence.notify.iter().flatten()) {
        let name = query("INSERT INTO geofence_notify (geofence_id, place, user_id) VALUES ($1, $2, $3)");
        tx.run(name.bind(fence.id).bind(place).bind(*user)).await?;
    }
    Ok(())
}
