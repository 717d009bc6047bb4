//! Emergencies as they truly stand, read by the connections that only they use.

use super::row::{EmergencyRow, emergencies};
use crate::alerts::{Emergency, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{EmergencyId, UserId};
use crate::store::database::Database;
use crate::store::sql::{Statement, query, sql};

async fn all(db: &Database, question: Statement) -> Stored<Vec<Emergency>> {
    db.list(Lane::Emergency, question, |row: EmergencyRow| row.into()).await
}

/// A subject's emergency by any of its ids.
pub(super) fn by_any_id(subject: UserId, id: EmergencyId) -> Statement {
    query(emergencies!(
        "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2)"
    ))
    .bind(subject)
    .bind(id)
}

pub(super) async fn one_of(db: &Database, subject: UserId, id: EmergencyId) -> Stored<Option<Emergency>> {
    Ok(all(db, by_any_id(subject, id)).await?.pop())
}

pub(super) async fn one(db: &Database, id: EmergencyId) -> Stored<Option<Emergency>> {
    Ok(all(db, query(emergencies!("WHERE e.id = $1")).bind(id)).await?.pop())
}

pub(super) async fn open_of(db: &Database, subject: UserId) -> Stored<Vec<Emergency>> {
    let open =
        query(emergencies!("WHERE e.subject_id = $1 AND e.ended_at IS NULL ORDER BY e.opened_at, e.id"));
    all(db, open.bind(subject)).await
}

pub(super) async fn open(db: &Database) -> Stored<Vec<Emergency>> {
    all(db, query(emergencies!("WHERE e.ended_at IS NULL ORDER BY e.opened_at, e.id"))).await
}

pub(super) async fn openings_since(db: &Database, subject: UserId, since: Timestamp) -> Stored<u32> {
    let count = query("SELECT count(*) FROM emergencies WHERE subject_id = $1 AND opened_at >= $2");
    let count = db.one::<(i64,)>(Lane::Emergency, count.bind(subject).bind(since)).await?;
    Ok(count.map_or(0, |(count,)| u32::try_from(count).unwrap_or(u32::MAX)))
}

pub(super) async fn next_due(db: &Database) -> Stored<Option<Timestamp>> {
    let due = query("SELECT min(due_at) FROM emergencies WHERE due_at IS NOT NULL");
    Ok(db.one::<(Option<Timestamp>,)>(Lane::Emergency, due).await?.and_then(|(at,)| at))
}

pub(super) async fn due(db: &Database, now: Timestamp) -> Stored<Vec<Emergency>> {
    all(db, query(emergencies!("WHERE e.due_at <= $1 ORDER BY e.due_at, e.id")).bind(now)).await
}
