//! Emergencies as they truly stand: raised, changed, read. A raise decides under the lock of its subject's account, a
//! change by the version it was made from.

use super::PostgresStore;
use super::at::At;
use super::connect::{Question, Statement, Tx, again};
use super::failure::{read, unreadable, unwritable};
use super::inbox::Telling;
use super::values::plain;
use crate::alerts::{
    AlertDraft, Change, Claim, Committed, Emergency, EmergencyKind, Ended, Lane, Raised, State,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{DeviceId, EmergencyId, UserId};
use sqlx::{query, query_as};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
pub(super) struct EmergencyRow {
    id: Uuid,
    subject_id: Uuid,
    device_id: Option<Uuid>,
    kind: String,
    message: Option<String>,
    state: String,
    opened_at: At,
    trail_from: At,
    active_at: Option<At>,
    countdown_until: Option<At>,
    ended_at: Option<At>,
    apparent_state: Option<String>,
    apparent_at: Option<At>,
    fix_text: Option<String>,
    version: i64,
    due_at: Option<At>,
    warned: bool,
    erased: i16,
    claims: String,
    joined: String,
}

/// A query of emergencies with their claims and the ids that joined, in order. Anything selected after them is first
/// named in `$more`.
macro_rules! emergencies {
    ($more:literal, $($rest:literal),+) => {
        concat!(
            "SELECT e.*, e.opening_fix::text AS fix_text,
                 (SELECT coalesce(json_agg(json_build_array(c.contact_id,
                      (extract(epoch FROM c.claimed_at) * 1000)::bigint,
                      (extract(epoch FROM c.dropped_at) * 1000)::bigint) ORDER BY c.place), '[]')::text
                  FROM claims c WHERE c.emergency_id = e.id) AS claims,
                 (SELECT coalesce(json_agg(i.client_id ORDER BY i.number), '[]')::text
                  FROM emergency_ids i WHERE i.emergency_id = e.id AND i.joined) AS joined ",
            $more,
            " FROM emergencies e ",
            $($rest),+
        )
    };
    ($rest:literal) => {
        emergencies!("", $rest)
    };
}
pub(super) use emergencies;

fn state(word: &str) -> Stored<State> {
    State::from_word(word).ok_or_else(|| unreadable("emergencies.state"))
}

impl TryFrom<EmergencyRow> for Emergency {
    type Error = StoreError;
    fn try_from(row: EmergencyRow) -> Stored<Self> {
        let time = |at: Option<At>| at.map(Timestamp::from);
        let claims: Vec<(Uuid, i64, Option<i64>)> =
            serde_json::from_str(&row.claims).map_err(|_| unreadable("claims"))?;
        let claim = |(contact, at, dropped_at): (Uuid, i64, Option<i64>)| Claim {
            contact: UserId(contact),
            at: Timestamp::from_unix_ms(at),
            dropped_at: dropped_at.map(Timestamp::from_unix_ms),
        };
        let joined: Vec<Uuid> = serde_json::from_str(&row.joined).map_err(|_| unreadable("emergency_ids"))?;
        let opening_fix = row.fix_text.as_deref().map(serde_json::from_str).transpose();
        let apparent = row.apparent_state.as_deref().map(state).transpose()?.zip(time(row.apparent_at));
        Ok(Self {
            id: EmergencyId(row.id),
            subject: UserId(row.subject_id),
            device: row.device_id.map(DeviceId),
            kind: EmergencyKind::from_word(&row.kind).ok_or_else(|| unreadable("emergencies.kind"))?,
            message: row.message,
            state: state(&row.state)?,
            opened_at: row.opened_at.0,
            trail_from: row.trail_from.0,
            active_at: time(row.active_at),
            countdown_until: time(row.countdown_until),
            ended_at: time(row.ended_at),
            apparent: apparent.map(|(state, at)| Ended { state, at }),
            claims: claims.into_iter().map(claim).collect(),
            joined: joined.into_iter().map(EmergencyId).collect(),
            opening_fix: opening_fix.map_err(|_| unreadable("emergencies.opening_fix"))?,
            version: row.version,
            due_at: time(row.due_at),
            warned: row.warned,
            erased: row.erased > 0,
        })
    }
}

/// Reads emergencies by the pool that only they use.
pub(super) async fn all(
    store: &PostgresStore,
    question: Question<'_, EmergencyRow>,
) -> Stored<Vec<Emergency>> {
    let rows = read(question.fetch_all(&store.db.emergency)).await?;
    rows.into_iter().map(Emergency::try_from).collect()
}

/// What can change of an emergency, bound in the order of the columns in both statements.
fn with_state<'q>(statement: Statement<'q>, e: &Emergency) -> Statement<'q> {
    let time = |at: Option<Timestamp>| at.map(At);
    statement
        .bind(e.state.word())
        .bind(time(e.active_at))
        .bind(time(e.countdown_until))
        .bind(time(e.ended_at))
        .bind(e.apparent.map(|a| a.state.word()))
        .bind(e.apparent.map(|a| At(a.at)))
        .bind(e.version)
        .bind(time(e.due_at))
        .bind(e.warned)
}

/// Finds the emergency of `client_id`, or one to join, or stores this one with its alerts.
pub(super) async fn raise(
    store: &PostgresStore,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
) -> Stored<Raised> {
    again(Lane::Emergency, || raise_once(store, emergency, client_id, alerts)).await
}

async fn raise_once(
    store: &PostgresStore,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
) -> Stored<Raised> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    lock_subject(&mut tx, emergency.subject).await?;
    let raised = raise_in(&mut tx, emergency, client_id, alerts, store.clock.now()).await?;
    if matches!(raised, Raised::Opened(_)) {
        tx.commit().await?;
    }
    Ok(raised)
}

/// Of the raises and joins of one person each sees what the one before it stored.
pub(super) async fn lock_subject(tx: &mut Tx, subject: UserId) -> Stored<()> {
    tx.run(query("SELECT 1 FROM accounts WHERE id = $1 FOR NO KEY UPDATE").bind(subject.0)).await.map(|_| ())
}

/// Raises in a transaction that holds the lock of [`lock_subject`] and that its owner commits if the emergency was
/// opened.
pub(super) async fn raise_in(
    tx: &mut Tx,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
    now: Timestamp,
) -> Stored<Raised> {
    let by_id = query_as::<_, EmergencyRow>(emergencies!(
        "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2)"
    ));
    if let Some(known) = tx.one(by_id.bind(emergency.subject.0).bind(client_id.0)).await? {
        return Ok(Raised::Repeated(known.try_into()?));
    }
    let open = query_as::<_, EmergencyRow>(emergencies!(
        "WHERE e.subject_id = $1 AND e.ended_at IS NULL AND e.apparent_at IS NULL ORDER BY e.opened_at DESC, e.id DESC LIMIT 1"
    ));
    if let Some(open) = tx.one(open.bind(emergency.subject.0)).await? {
        return Ok(Raised::Open(open.try_into()?));
    }
    if !insert(tx, emergency).await? {
        return Ok(Raised::IdTaken);
    }
    for id in [client_id, emergency.id] {
        name(tx, emergency, id, false).await?;
    }
    let mut telling = Telling::at(now);
    for alert in alerts {
        telling.tell(tx, alert).await?;
    }
    Ok(Raised::Opened(telling.place(tx).await?))
}

/// `false` if the id is taken.
async fn insert(tx: &mut Tx, e: &Emergency) -> Stored<bool> {
    let insert = query(
        "INSERT INTO emergencies (state, active_at, countdown_until, ended_at, apparent_state, apparent_at, version, due_at,
             warned, id, subject_id, device_id, kind, message, opened_at, trail_from, opening_fix)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::jsonb) ON CONFLICT (id) DO NOTHING",
    );
    let insert = with_state(insert, e)
        .bind(e.id.0)
        .bind(e.subject.0)
        .bind(e.device.map(|d| d.0))
        .bind(e.kind.word())
        .bind(e.message.as_deref().map(plain))
        .bind(At(e.opened_at))
        .bind(At(e.trail_from))
        .bind(fix_text(e)?);
    Ok(tx.run(insert).await? > 0)
}

/// From now on this id of the subject's resolves to the emergency.
async fn name(tx: &mut Tx, e: &Emergency, id: EmergencyId, joined: bool) -> Stored<()> {
    let name = query(
        "INSERT INTO emergency_ids (subject_id, client_id, emergency_id, joined) VALUES ($1, $2, $3, $4)
         ON CONFLICT (subject_id, client_id) DO NOTHING",
    );
    tx.run(name.bind(e.subject.0).bind(id.0).bind(e.id.0).bind(joined)).await.map(|_| ())
}

/// Stores a change if the version is still the one it was made from.
pub(super) async fn change(store: &PostgresStore, change: Change<'_>) -> Stored<Option<Committed>> {
    again(Lane::Emergency, || change_once(store, &change)).await
}

async fn change_once(store: &PostgresStore, change: &Change<'_>) -> Stored<Option<Committed>> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    if change.joined.is_some() {
        lock_subject(&mut tx, change.emergency.subject).await?;
    }
    let committed = change_in(&mut tx, change, store.clock.now()).await?;
    if committed.is_some() {
        tx.commit().await?;
    }
    Ok(committed)
}

fn fix_text(e: &Emergency) -> Stored<Option<String>> {
    let text = e.opening_fix.as_ref().map(serde_json::to_string).transpose();
    text.map_err(|_| unwritable("emergencies.opening_fix"))
}

/// Changes in a transaction that, for a join, holds the lock of [`lock_subject`], and that its owner commits if something was changed.
pub(super) async fn change_in(tx: &mut Tx, change: &Change<'_>, now: Timestamp) -> Stored<Option<Committed>> {
    let e = change.emergency;
    let update = query(
        "UPDATE emergencies SET state = $1, active_at = $2, countdown_until = $3, ended_at = $4, apparent_state = $5,
             apparent_at = $6, version = $7, due_at = $8, warned = $9, message = $10, opening_fix = $11::jsonb
         WHERE id = $12 AND version = $13",
    );
    let update = with_state(update, e)
        .bind(e.message.as_deref().map(|text| plain(text).into_owned()))
        .bind(fix_text(e)?);
    if tx.run(update.bind(e.id.0).bind(e.version - 1)).await? == 0 {
        return Ok(None);
    }
    tx.run(query("DELETE FROM claims WHERE emergency_id = $1").bind(e.id.0)).await?;
    for (place, claim) in (0_i32..).zip(&e.claims) {
        // A contact who was forgotten since it was read claims nothing any more.
        let keep = query(
            "INSERT INTO claims (emergency_id, place, contact_id, claimed_at, dropped_at)
             SELECT $1, $2, id, $3, $4 FROM accounts WHERE id = $5 FOR KEY SHARE",
        );
        let keep = keep
            .bind(e.id.0)
            .bind(place)
            .bind(At(claim.at))
            .bind(claim.dropped_at.map(At))
            .bind(claim.contact.0);
        tx.run(keep).await?;
    }
    if let Some(joined) = change.joined {
        name(tx, e, joined, true).await?;
    }
    let mut telling = Telling::at(now);
    for alert in change.alerts {
        telling.tell(tx, alert).await?;
    }
    Ok(Some(telling.place(tx).await?))
}
