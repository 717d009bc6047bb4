//! An emergency as a row: read, inserted and updated. A new column is added here, and nowhere else in the store.

use crate::alerts::{Claim, Emergency, EmergencyKind, Ended, State};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::Fix;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::store::database::Database;
use crate::store::failure::unwritable;
use crate::store::pool::Pool;
use crate::store::sql::{Statement, query, sql};
use crate::store::value::Json;

#[derive(sqlx::FromRow)]
pub(super) struct EmergencyRow {
    id: EmergencyId,
    subject_id: UserId,
    device_id: Option<DeviceId>,
    kind: EmergencyKind,
    message: Option<String>,
    state: State,
    opened_at: Timestamp,
    trail_from: Timestamp,
    active_at: Option<Timestamp>,
    countdown_until: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    apparent_state: Option<State>,
    apparent_at: Option<Timestamp>,
    opening_fix: Option<Json<Fix>>,
    version: i64,
    due_at: Option<Timestamp>,
    warned: bool,
    erased: i16,
    claims: Json<Vec<(UserId, i64, Option<i64>)>>,
    joined: Json<Vec<EmergencyId>>,
}

/// A query of emergencies with their claims and the newest hundred ids that joined, in order; every id resolves for ever, and a
/// phone that raises in a loop makes no change of its emergency slow. Anything selected after them is first,
/// behind `and`.
macro_rules! emergencies {
    (and $more:literal $($rest:tt)+) => {
        sql!(
            "SELECT e.id, e.subject_id, e.device_id, e.kind, e.message, e.state, e.opened_at, e.trail_from, e.active_at,
                 e.countdown_until, e.ended_at, e.apparent_state, e.apparent_at, e.opening_fix, e.version, e.due_at, e.warned,
                 e.erased, (SELECT "
            lite "json_group_array(json_array(hex(c.contact_id), c.claimed_at, c.dropped_at) ORDER BY c.place)"
            pg "coalesce(json_agg(json_build_array(c.contact_id, (extract(epoch FROM c.claimed_at) * 1000)::bigint,
                    (extract(epoch FROM c.dropped_at) * 1000)::bigint) ORDER BY c.place), '[]')"
            " FROM claims c WHERE c.emergency_id = e.id) AS claims, (SELECT "
            lite "json_group_array(hex(i.client_id) ORDER BY i.number)"
            pg "coalesce(json_agg(i.client_id ORDER BY i.number), '[]')"
            " FROM (SELECT j.number, j.client_id FROM emergency_ids j WHERE j.emergency_id = e.id AND j.joined
                    ORDER BY j.number DESC LIMIT 100) i) AS joined"
            $more " FROM emergencies e " $($rest)+
        )
    };
    ($($rest:tt)+) => {
        emergencies!(and "" $($rest)+)
    };
}
pub(super) use emergencies;

impl From<EmergencyRow> for Emergency {
    fn from(row: EmergencyRow) -> Self {
        let claim = |(contact, at, dropped_at): (UserId, i64, Option<i64>)| Claim {
            contact,
            at: Timestamp::from_unix_ms(at),
            dropped_at: dropped_at.map(Timestamp::from_unix_ms),
        };
        Self {
            id: row.id,
            subject: row.subject_id,
            device: row.device_id,
            kind: row.kind,
            message: row.message,
            state: row.state,
            opened_at: row.opened_at,
            trail_from: row.trail_from,
            active_at: row.active_at,
            countdown_until: row.countdown_until,
            ended_at: row.ended_at,
            apparent: row.apparent_state.zip(row.apparent_at).map(|(state, at)| Ended { state, at }),
            claims: row.claims.0.into_iter().map(claim).collect(),
            joined: row.joined.0,
            opening_fix: row.opening_fix.map(|fix| fix.0),
            version: row.version,
            due_at: row.due_at,
            warned: row.warned,
            erased: row.erased > 0,
        }
    }
}

/// What can change of an emergency, bound in the order of the columns in both statements.
fn with_state(statement: Statement, e: &Emergency) -> Stored<Statement> {
    let fix = e.opening_fix.as_ref().map(serde_json::to_string).transpose();
    Ok(statement
        .bind(e.state)
        .bind(e.active_at)
        .bind(e.countdown_until)
        .bind(e.ended_at)
        .bind(e.apparent.map(|a| a.state))
        .bind(e.apparent.map(|a| a.at))
        .bind(e.version)
        .bind(e.due_at)
        .bind(e.warned)
        .bind(e.message.as_deref())
        .bind(fix.map_err(|_| unwritable("emergencies.opening_fix"))?))
}

/// Stores a new one; changes no row if the id is taken. PostgreSQL says in the same answer how many others its subject opened
/// since a time that is bound after it.
pub(super) fn insert(e: &Emergency) -> Stored<Statement> {
    let insert = query(sql!(
        "INSERT INTO emergencies (state, active_at, countdown_until, ended_at, apparent_state, apparent_at, version, due_at,
             warned, message, opening_fix, id, subject_id, device_id, kind, opened_at, trail_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12, $13, $14, $15, $16, $17)
         ON CONFLICT (id) DO NOTHING"
        pg " RETURNING (SELECT count(*) FROM emergencies o WHERE o.subject_id = $13 AND o.opened_at >= $18 AND o.id <> $12)"
    ));
    Ok(with_state(insert, e)?
        .bind(e.id)
        .bind(e.subject)
        .bind(e.device)
        .bind(e.kind)
        .bind(e.opened_at)
        .bind(e.trail_from))
}

/// Stores a change; changes no row if the version is not the one it was made from.
pub(super) fn update(e: &Emergency) -> Stored<Statement> {
    let update = query(
        "UPDATE emergencies SET state = $1, active_at = $2, countdown_until = $3, ended_at = $4, apparent_state = $5,
             apparent_at = $6, version = $7, due_at = $8, warned = $9, message = $10, opening_fix = $11::jsonb, device_id = $12
         WHERE id = $13 AND version = $14",
    );
    Ok(with_state(update, e)?.bind(e.device).bind(e.id).bind(e.version - 1))
}

/// A subject's emergency by any of its ids.
pub(super) fn by_any_id(subject: UserId, id: EmergencyId) -> Statement {
    query(emergencies!(
        "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2)"
    ))
    .bind(subject)
    .bind(id)
}

/// Reads emergencies by the connections that only they use.
pub(super) async fn all(db: &Database, question: Statement) -> Stored<Vec<Emergency>> {
    read(db, Pool::Emergency, question).await
}

/// Reads emergencies.
pub(super) async fn read(db: &Database, pool: Pool, question: Statement) -> Stored<Vec<Emergency>> {
    db.list(pool, question, |row: EmergencyRow| row.into()).await
}
