//! Geofences: kept as their owner wrote them, and checked again when they are read. Limits are kept among many writers by
//! the lock of the owner's account.

use super::PostgresStore;
use super::at::At;
use super::connect::{Question, Statement, Tx};
use super::failure::{read, unreadable, unwritable};
use super::values::{duration, millis};
use crate::alerts::Lane;
use crate::error::{StoreError, Stored};
use crate::geo::{RawShape, Shape};
use crate::id::{GeofenceId, UserId};
use crate::tracking::{FenceCreated, Geofence, Severity};
use sqlx::{query, query_as};
use std::sync::Arc;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct FenceRow {
    id: Uuid,
    owner_id: Uuid,
    name: String,
    shape: String,
    triggers: String,
    dwell_ms: i64,
    cooldown_ms: i64,
    severity: String,
    notify_all: bool,
    notify: String,
    created_at: At,
    revision: i64,
}

impl TryFrom<FenceRow> for Geofence {
    type Error = StoreError;
    fn try_from(row: FenceRow) -> Stored<Self> {
        let raw: RawShape = serde_json::from_str(&row.shape).map_err(|_| unreadable("geofences.shape"))?;
        let shape = Shape::try_from(raw).map_err(|_| unreadable("geofences.shape"))?;
        let named: Vec<Uuid> =
            serde_json::from_str(&row.notify).map_err(|_| unreadable("geofence_notify"))?;
        Ok(Self {
            id: GeofenceId(row.id),
            owner: UserId(row.owner_id),
            name: row.name,
            shape: Arc::new(shape),
            triggers: serde_json::from_str(&row.triggers).map_err(|_| unreadable("geofences.triggers"))?,
            dwell: duration(row.dwell_ms),
            cooldown: duration(row.cooldown_ms),
            severity: Severity::from_word(&row.severity).ok_or_else(|| unreadable("geofences.severity"))?,
            notify: (!row.notify_all).then(|| named.into_iter().map(UserId).collect()),
            created_at: row.created_at.0,
            revision: row.revision,
        })
    }
}

/// A query of fences with the people they name.
macro_rules! fences {
    ($rest:literal) => {
        concat!(
            "SELECT g.id, g.owner_id, g.name, g.shape::text AS shape, g.triggers::text AS triggers, g.dwell_ms,
                 g.cooldown_ms, g.severity, g.notify_all, g.created_at, g.revision,
                 (SELECT coalesce(json_agg(n.user_id ORDER BY n.place), '[]')::text FROM geofence_notify n
                  WHERE n.geofence_id = g.id) AS notify
             FROM geofences g ",
            $rest
        )
    };
}

impl PostgresStore {
    async fn fences_where(&self, question: Question<'_, FenceRow>) -> Stored<Vec<Geofence>> {
        let rows = read(question.fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(Geofence::try_from).collect()
    }
}

pub(super) async fn one(store: &PostgresStore, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>> {
    let fence = query_as(fences!("WHERE g.id = $1 AND g.owner_id = $2"));
    Ok(store.fences_where(fence.bind(id.0).bind(owner.0)).await?.pop())
}

pub(super) async fn page(
    store: &PostgresStore,
    owner: UserId,
    after: Option<GeofenceId>,
    limit: u32,
) -> Stored<Vec<Geofence>> {
    let fences =
        query_as(fences!("WHERE g.owner_id = $1 AND ($2::uuid IS NULL OR g.id > $2) ORDER BY g.id LIMIT $3"));
    let fences = fences.bind(owner.0).bind(after.map(|id| id.0)).bind(i64::from(limit));
    store.fences_where(fences).await
}

/// Only one at a time changes what a person has.
async fn lock_owner(tx: &mut Tx, owner: UserId) -> Stored<()> {
    tx.run(query("SELECT 1 FROM accounts WHERE id = $1 FOR NO KEY UPDATE").bind(owner.0)).await.map(|_| ())
}

pub(super) async fn create(
    store: &PostgresStore,
    fence: &Geofence,
    max_fences: u32,
    max_vertices: u32,
) -> Stored<FenceCreated> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    lock_owner(&mut tx, fence.owner).await?;
    let insert = query(
        "INSERT INTO geofences (name, shape, area, centre, radius_m, vertices, triggers, dwell_ms, cooldown_ms, severity,
             notify_all, id, owner_id, created_at, revision)
         VALUES ($1, $2::jsonb, ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON($3::text)), 4326),
             ST_SetSRID(ST_MakePoint($4, $5), 4326)::geography, $6, $7, $8::jsonb, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT (id) DO NOTHING",
    );
    let insert = with_content(insert, fence)?.bind(fence.id.0).bind(fence.owner.0);
    if tx.run(insert.bind(At(fence.created_at)).bind(fence.revision)).await? == 0 {
        let owner = query_as::<_, (Uuid,)>("SELECT owner_id FROM geofences WHERE id = $1").bind(fence.id.0);
        return match tx.one(owner).await? {
            Some((owner,)) if owner == fence.owner.0 => Ok(FenceCreated::Repeated),
            Some(_) => Ok(FenceCreated::Conflict),
            None => {
                Err(StoreError::new(crate::error::Fault::Conflict, "a fence of this id was deleted just now"))
            }
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
    store: &PostgresStore,
    fence: &Geofence,
    max_vertices: u32,
) -> Stored<Option<Result<Geofence, FenceCreated>>> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    lock_owner(&mut tx, fence.owner).await?;
    let update = query(
        "UPDATE geofences SET name = $1, shape = $2::jsonb,
             area = ST_SetSRID(ST_Force2D(ST_GeomFromGeoJSON($3::text)), 4326),
             centre = ST_SetSRID(ST_MakePoint($4, $5), 4326)::geography, radius_m = $6, vertices = $7,
             triggers = $8::jsonb, dwell_ms = $9, cooldown_ms = $10, severity = $11, notify_all = $12,
             revision = revision + 1
         WHERE id = $13 AND owner_id = $14",
    );
    if tx.run(with_content(update, fence)?.bind(fence.id.0).bind(fence.owner.0)).await? == 0 {
        return Ok(None);
    }
    if others(&mut tx, fence).await?.1 > i64::from(max_vertices) {
        return Ok(Some(Err(FenceCreated::TooMany)));
    }
    tx.run(query("DELETE FROM geofence_notify WHERE geofence_id = $1").bind(fence.id.0)).await?;
    name_people(&mut tx, fence).await?;
    let after = query_as::<_, FenceRow>(fences!("WHERE g.id = $1")).bind(fence.id.0);
    let after = tx.one(after).await?.ok_or_else(|| unreadable("geofences"))?;
    tx.commit().await?;
    Ok(Some(Ok(Geofence::try_from(after)?)))
}

/// How many other fences the owner has, and how many vertices there are with this one's.
async fn others(tx: &mut Tx, fence: &Geofence) -> Stored<(i64, i64)> {
    let sums = query_as::<_, (i64, i64)>(
        "SELECT count(*), coalesce(sum(vertices), 0)::bigint FROM geofences WHERE owner_id = $1 AND id <> $2",
    );
    let (count, vertices) = tx.one(sums.bind(fence.owner.0).bind(fence.id.0)).await?.unwrap_or_default();
    Ok((count, vertices + i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX)))
}

/// Binds what a change of a fence may change, in the order of both statements.
fn with_content<'q>(statement: Statement<'q>, fence: &Geofence) -> Stored<Statement<'q>> {
    let shape = serde_json::to_string(fence.shape.raw()).map_err(|_| unwritable("geofences.shape"))?;
    let triggers = serde_json::to_string(&fence.triggers).map_err(|_| unwritable("geofences.triggers"))?;
    let (area, circle) = match fence.shape.raw() {
        RawShape::Circle { center, radius_m } => (None, Some((center, *radius_m))),
        RawShape::Polygon { .. } | RawShape::MultiPolygon { .. } => (Some(shape.clone()), None),
    };
    Ok(statement
        .bind(fence.name.clone())
        .bind(shape)
        .bind(area)
        .bind(circle.and_then(|(center, _)| center.first().copied()))
        .bind(circle.and_then(|(center, _)| center.get(1).copied()))
        .bind(circle.map(|(_, radius_m)| radius_m))
        .bind(i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX))
        .bind(triggers)
        .bind(millis(fence.dwell))
        .bind(millis(fence.cooldown))
        .bind(fence.severity.word())
        .bind(fence.notify.is_none()))
}

async fn name_people(tx: &mut Tx, fence: &Geofence) -> Stored<()> {
    for (place, user) in (0_i32..).zip(fence.notify.iter().flatten()) {
        let name = query("INSERT INTO geofence_notify (geofence_id, place, user_id) VALUES ($1, $2, $3)");
        tx.run(name.bind(fence.id.0).bind(place).bind(user.0)).await?;
    }
    Ok(())
}
