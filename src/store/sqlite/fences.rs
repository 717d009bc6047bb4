//! Geofences: kept as their owner wrote them, and checked again when they are read.

use super::SqliteStore;
use super::failure::{read, unreadable, unwritable};
use super::identity::millis;
use super::writer::{Question, Tx};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::geo::{RawShape, Shape};
use crate::id::{GeofenceId, UserId};
use crate::tracking::{FenceCreated, Geofence, Severity};
use sqlx::{query, query_as};
use std::sync::Arc;
use std::time::Duration;
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
    created_at: i64,
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
            created_at: Timestamp::from_unix_ms(row.created_at),
            revision: row.revision,
        })
    }
}

/// A duration as it was stored; the schema refuses negative ones.
fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A query of fences with the people they name.
macro_rules! fences {
    ($rest:literal) => {
        concat!(
            "SELECT g.*, (SELECT json_group_array(hex(n.user_id) ORDER BY n.place) FROM geofence_notify n
             WHERE n.geofence_id = g.id) AS notify FROM geofences g ",
            $rest
        )
    };
}

impl SqliteStore {
    async fn fences_where(&self, question: Question<'_, FenceRow>) -> Stored<Vec<Geofence>> {
        let rows = read(question.fetch_all(&self.db.readers)).await?;
        rows.into_iter().map(Geofence::try_from).collect()
    }
}

pub(super) async fn one(store: &SqliteStore, owner: UserId, id: GeofenceId) -> Stored<Option<Geofence>> {
    let fence = query_as(fences!("WHERE g.id = ? AND g.owner_id = ?"));
    Ok(store.fences_where(fence.bind(id.0).bind(owner.0)).await?.pop())
}

pub(super) async fn page(
    store: &SqliteStore,
    owner: UserId,
    after: Option<GeofenceId>,
    limit: u32,
) -> Stored<Vec<Geofence>> {
    // Every id is more than nothing.
    let after = after.map_or(Vec::new(), |id| id.0.as_bytes().to_vec());
    let fences = query_as(fences!("WHERE g.owner_id = ? AND g.id > ? ORDER BY g.id LIMIT ?"));
    store.fences_where(fences.bind(owner.0).bind(after).bind(limit)).await
}

pub(super) async fn create(
    store: &SqliteStore,
    fence: &Geofence,
    max_fences: u32,
    max_vertices: u32,
) -> Stored<FenceCreated> {
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    let owner = query_as::<_, (Uuid,)>("SELECT owner_id FROM geofences WHERE id = ?").bind(fence.id.0);
    if let Some((owner,)) = tx.one(owner).await? {
        let same = owner == fence.owner.0;
        return Ok(if same { FenceCreated::Repeated } else { FenceCreated::Conflict });
    }
    let (others, vertices) = others(&mut tx, fence).await?;
    if others >= i64::from(max_fences) || vertices > i64::from(max_vertices) {
        return Ok(FenceCreated::TooMany);
    }
    let insert = query(
        "INSERT INTO geofences
             (name, shape, vertices, triggers, dwell_ms, cooldown_ms, severity, notify_all, id, owner_id, created_at, revision)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let insert = with_content(insert, fence)?.bind(fence.id.0).bind(fence.owner.0);
    tx.run(insert.bind(fence.created_at.unix_ms()).bind(fence.revision)).await?;
    name_people(&mut tx, fence).await?;
    tx.commit().await?;
    Ok(FenceCreated::Created)
}

pub(super) async fn replace(
    store: &SqliteStore,
    fence: &Geofence,
    max_vertices: u32,
) -> Stored<Option<Result<Geofence, FenceCreated>>> {
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    let update = query(
        "UPDATE geofences SET name = ?, shape = ?, vertices = ?, triggers = ?, dwell_ms = ?, cooldown_ms = ?,
             severity = ?, notify_all = ?, revision = revision + 1
         WHERE id = ? AND owner_id = ?",
    );
    if tx.run(with_content(update, fence)?.bind(fence.id.0).bind(fence.owner.0)).await? == 0 {
        return Ok(None);
    }
    if others(&mut tx, fence).await?.1 > i64::from(max_vertices) {
        return Ok(Some(Err(FenceCreated::TooMany)));
    }
    tx.run(query("DELETE FROM geofence_notify WHERE geofence_id = ?").bind(fence.id.0)).await?;
    name_people(&mut tx, fence).await?;
    let after = query_as::<_, FenceRow>(fences!("WHERE g.id = ?")).bind(fence.id.0);
    let after = tx.one(after).await?.ok_or_else(|| unreadable("geofences"))?;
    tx.commit().await?;
    Ok(Some(Ok(Geofence::try_from(after)?)))
}

/// How many other fences the owner has, and how many vertices there are with this one's.
async fn others(tx: &mut Tx<'_>, fence: &Geofence) -> Stored<(i64, i64)> {
    let sums = query_as::<_, (i64, i64)>(
        "SELECT count(*), coalesce(sum(vertices), 0) FROM geofences WHERE owner_id = ? AND id <> ?",
    );
    let (count, vertices) = tx.one(sums.bind(fence.owner.0).bind(fence.id.0)).await?.unwrap_or_default();
    Ok((count, vertices + i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX)))
}

/// Binds what a change of a fence may change, in the order of both statements.
fn with_content<'q>(
    statement: super::writer::Statement<'q>,
    fence: &Geofence,
) -> Stored<super::writer::Statement<'q>> {
    let shape = serde_json::to_string(fence.shape.raw()).map_err(|_| unwritable("geofences.shape"))?;
    let triggers = serde_json::to_string(&fence.triggers).map_err(|_| unwritable("geofences.triggers"))?;
    Ok(statement
        .bind(fence.name.clone())
        .bind(shape)
        .bind(i64::try_from(fence.shape.vertices()).unwrap_or(i64::MAX))
        .bind(triggers)
        .bind(millis(fence.dwell))
        .bind(millis(fence.cooldown))
        .bind(fence.severity.word())
        .bind(fence.notify.is_none()))
}

async fn name_people(tx: &mut Tx<'_>, fence: &Geofence) -> Stored<()> {
    for (place, user) in (0_i64..).zip(fence.notify.iter().flatten()) {
        let name = query("INSERT INTO geofence_notify (geofence_id, place, user_id) VALUES (?, ?, ?)");
        tx.run(name.bind(fence.id.0).bind(place).bind(user.0)).await?;
    }
    Ok(())
}
