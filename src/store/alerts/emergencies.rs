//! Emergencies as they truly stand, read by the connections that only they use.

use crate::alerts::{Claim, Emergency, EmergencyKind, Ended, Lane, State};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::geo::Fix;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::store::database::Database;
use crate::store::sql::{Sql, Statement, query, sql};
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

/// A query of emergencies with their claims and the ids that joined, in order. Anything selected after them is first,
/// behind `and`.
macro_rules! emergencies {
    (and $more:literal $($rest:tt)+) => {
        sql!(
            "SELECT e.*, (SELECT "
            lite "json_group_array(json_array(hex(c.contact_id), c.claimed_at, c.dropped_at) ORDER BY c.place)"
            pg "coalesce(json_agg(json_build_array(c.contact_id, (extract(epoch FROM c.claimed_at) * 1000)::bigint,
                    (extract(epoch FROM c.dropped_at) * 1000)::bigint) ORDER BY c.place), '[]')"
            " FROM claims c WHERE c.emergency_id = e.id) AS claims, (SELECT "
            lite "json_group_array(hex(i.client_id) ORDER BY i.number)"
            pg "coalesce(json_agg(i.client_id ORDER BY i.number), '[]')"
            " FROM emergency_ids i WHERE i.emergency_id = e.id AND i.joined) AS joined"
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

async fn all(db: &Database, question: Statement) -> Stored<Vec<Emergency>> {
    db.list(Lane::Emergency, question, |row: EmergencyRow| row.into()).await
}

/// A subject's emergency by any of its ids.
const BY_ANY_ID: Sql = emergencies!(
    "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2)"
);

pub(super) fn by_any_id(subject: UserId, id: EmergencyId) -> Statement {
    query(BY_ANY_ID).bind(subject).bind(id)
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
