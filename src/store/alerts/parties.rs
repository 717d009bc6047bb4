//! Whose emergencies are whose to see.

use super::row::{EmergencyRow, emergencies};
use crate::alerts::{Names, Party, State};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::store::database::Database;
use crate::store::pool::Pool;
use crate::store::sql::{Sql, Statement, query, sql};
use crate::trust::LinkRole;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct PartyRow {
    #[sqlx(flatten)]
    emergency: EmergencyRow,
    hears_duress: bool,
}

impl From<PartyRow> for Party {
    fn from(row: PartyRow) -> Self {
        Self { emergency: row.emergency.into(), hears_duress: row.hears_duress }
    }
}

/// The emergencies that a contact has part in: told to contacts (never a countdown), by a link in force with `alerts`
/// or `emergency_location` that was accepted before the emergency ended, truly or in its subject's eyes. Who does not hear of
/// duress has none in one that was ended under it before contacts were told.
macro_rules! parts {
    ($($rest:tt)+) => {
        emergencies!(and ", l.hears_duress"
            "JOIN links l ON l.subject_id = e.subject_id
             WHERE l.contact_id = $1 AND (l.expires_at IS NULL OR l.expires_at > $2) AND l.scopes & 3 <> 0
             AND e.active_at IS NOT NULL AND l.accepted_at IS NOT NULL
             AND coalesce(l.accepted_at < coalesce(e.apparent_at, e.ended_at), true)
             AND (l.hears_duress OR coalesce(e.active_at < e.apparent_at, true)) "
            $($rest)+
        )
    };
}

/// A page of those that show one state, the newest first.
macro_rules! page {
    ($dialect:ident) => {
        " AND ($4::uuid IS NULL OR (e.opened_at, e.id) < (SELECT opened_at, id FROM emergencies WHERE id = $4))
         ORDER BY e.opened_at DESC, e.id DESC LIMIT $5"
    };
}

const AS_SUBJECT: Sql = emergencies!(and ", false AS hears_duress"
    "WHERE e.subject_id = $1 AND $2::timestamptz IS NOT NULL
     AND ($3::text IS NULL OR coalesce(e.apparent_state, e.state) = $3)" page!
);
const AS_CONTACT: Sql = parts!(
    "AND ($3::text IS NULL OR coalesce(CASE WHEN NOT l.hears_duress THEN e.apparent_state END, e.state) = $3)" page!
);

/// An emergency, if the contact has part in it.
pub(super) async fn one(
    db: &Database,
    contact: UserId,
    id: EmergencyId,
    now: Timestamp,
) -> Stored<Option<Party>> {
    let part = query(parts!("AND e.id = $3")).bind(contact).bind(now).bind(id);
    Ok(db.one::<PartyRow>(Pool::told(), part).await?.map(Party::from))
}

/// A person's emergencies in one role.
pub(super) async fn page(
    db: &Database,
    user: UserId,
    role: LinkRole,
    state: Option<State>,
    after: Option<EmergencyId>,
    limit: u32,
    now: Timestamp,
) -> Stored<Vec<Party>> {
    let found = query(match role {
        LinkRole::Subject => AS_SUBJECT,
        LinkRole::Contact => AS_CONTACT,
    });
    let found = found.bind(user).bind(now).bind(state).bind(after).bind(limit);
    db.list(Pool::told(), found, |row: PartyRow| row.into()).await
}

/// What people and devices are called.
pub(super) async fn names(db: &Database, people: &[UserId], devices: &[DeviceId]) -> Stored<Names> {
    let ids: Vec<_> = people.iter().map(|id| id.0).chain(devices.iter().map(|id| id.0)).collect();
    if ids.is_empty() {
        return Ok(Names::default());
    }
    let names = query(sql!(
        "SELECT id, display_name, true AS is_person FROM accounts WHERE id " among "$1"
        " UNION ALL SELECT id, name, false FROM devices WHERE id " among "$1"
    ));
    read_names(db, names.bind(ids)).await
}

/// What a person and their devices are called.
pub(super) async fn names_of(db: &Database, person: UserId) -> Stored<Names> {
    let names = query(
        "SELECT id, display_name, true AS is_person FROM accounts WHERE id = $1
         UNION ALL SELECT id, name, false FROM devices WHERE user_id = $1",
    );
    read_names(db, names.bind(person)).await
}

async fn read_names(db: &Database, names: Statement) -> Stored<Names> {
    let mut found = Names::default();
    for (id, name, is_person) in db.all::<(Uuid, String, bool)>(Pool::told(), names).await? {
        if is_person {
            found.people.insert(UserId(id), name);
        } else {
            found.devices.insert(DeviceId(id), name);
        }
    }
    Ok(found)
}
