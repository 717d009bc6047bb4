//! Emergencies raised and changed. A raise decides under the lock of its subject's account, a change by the version it
//! was made from. Somebody waits for each statement of a raise to cross a network twice, so there are few.

use super::inbox::NewAlerts;
use super::row::{EmergencyRow, emergencies, insert, update};
use crate::alerts::{AlertDraft, Change, Committed, Emergency, Lane, OPENINGS_AN_HOUR, Raised};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::EmergencyId;
use crate::store::Store;
use crate::store::database::Tx;
use crate::store::sql::{query, sql};
use std::time::Duration;

/// Finds the emergency of `client_id`, or one to join, or stores this one with its alerts.
pub(super) async fn raise(
    store: &Store,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
) -> Stored<Raised> {
    // Of the raises and joins of one person each sees what the one before it stored.
    let mut tx = store.db.begin_with(Lane::Emergency, emergency.subject).await?;
    let raised = raise_in(&mut tx, emergency, client_id, alerts, store.clock.now()).await?;
    if matches!(raised, Raised::Opened(_)) {
        tx.commit().await?;
    }
    Ok(raised)
}

/// Raises in a transaction that holds the lock of the subject's account and that its owner commits if the emergency was
/// opened.
pub(super) async fn raise_in(
    tx: &mut Tx<'_>,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
    now: Timestamp,
) -> Stored<Raised> {
    let known = query(emergencies!(
        and ", coalesce(e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2), false) AS repeated"
        "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = $1 AND client_id = $2)
             OR (e.subject_id = $1 AND e.ended_at IS NULL AND e.apparent_at IS NULL)
         ORDER BY repeated DESC, e.opened_at DESC, e.id DESC LIMIT 1"
    ));
    match tx.one::<KnownRow>(known.bind(emergency.subject).bind(client_id)).await? {
        Some(KnownRow { emergency, repeated: true }) => return Ok(Raised::Repeated(emergency.into())),
        Some(KnownRow { emergency, repeated: false }) => return Ok(Raised::Open(emergency.into())),
        None => {}
    }
    let Some(others) = store_new(tx, emergency).await? else { return Ok(Raised::IdTaken) };
    name(tx, emergency, client_id, false).await?;
    if client_id != emergency.id {
        name(tx, emergency, emergency.id, false).await?;
    }
    let mut new = NewAlerts::at(now);
    if others >= i64::from(OPENINGS_AN_HOUR) {
        let coalesced: Vec<AlertDraft> = alerts.iter().cloned().map(AlertDraft::coalesced).collect();
        new.tell_all(tx, &coalesced).await?;
    } else {
        new.tell_all(tx, alerts).await?;
    }
    Ok(Raised::Opened(new.place(tx).await?))
}

/// An emergency that a raise finds.
#[derive(sqlx::FromRow)]
struct KnownRow {
    #[sqlx(flatten)]
    emergency: EmergencyRow,
    /// It has this id already. If not, it is open.
    repeated: bool,
}

/// Stores a new emergency. How many others its subject opened in the hour before it; `None` if its id is taken.
async fn store_new(tx: &mut Tx<'_>, e: &Emergency) -> Stored<Option<i64>> {
    let since = e.opened_at - Duration::from_secs(3600);
    if matches!(tx, Tx::Pg(_)) {
        return Ok(tx.one::<(i64,)>(insert(e)?.bind(since)).await?.map(|(others,)| others));
    }
    if tx.run(insert(e)?).await? == 0 {
        return Ok(None);
    }
    let others =
        query("SELECT count(*) FROM emergencies WHERE subject_id = $1 AND opened_at >= $2 AND id <> $3");
    let others = tx.one::<(i64,)>(others.bind(e.subject).bind(since).bind(e.id)).await?;
    Ok(others.map(|(others,)| others))
}

/// From now on this id of the subject's resolves to the emergency.
async fn name(tx: &mut Tx<'_>, e: &Emergency, id: EmergencyId, joined: bool) -> Stored<()> {
    let name = query(
        "INSERT INTO emergency_ids (subject_id, client_id, emergency_id, joined) VALUES ($1, $2, $3, $4)
         ON CONFLICT (subject_id, client_id) DO NOTHING",
    );
    tx.run(name.bind(e.subject).bind(id).bind(e.id).bind(joined)).await.map(|_| ())
}

/// Stores a change if the version is still the one it was made from.
pub(super) async fn change(store: &Store, change: &Change<'_>) -> Stored<Option<Committed>> {
    let mut tx = match change.joined {
        Some(_) => store.db.begin_with(Lane::Emergency, change.emergency.subject).await?,
        None => store.db.begin(Lane::Emergency).await?,
    };
    let committed = change_in(&mut tx, change, store.clock.now()).await?;
    if committed.is_some() {
        tx.commit().await?;
    }
    Ok(committed)
}

/// Changes in a transaction that, for a join, holds the lock of the subject's account, and that its owner commits if
/// something was changed.
pub(super) async fn change_in(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    now: Timestamp,
) -> Stored<Option<Committed>> {
    let e = change.emergency;
    if tx.run(update(e)?).await? == 0 {
        return Ok(None);
    }
    tx.run(query("DELETE FROM claims WHERE emergency_id = $1").bind(e.id)).await?;
    for (place, claim) in (0_i64..).zip(&e.claims) {
        // A contact who was forgotten since it was read claims nothing any more.
        let keep = query(sql!(
            "INSERT INTO claims (emergency_id, place, contact_id, claimed_at, dropped_at)
             SELECT $1, $2, id, $3, $4 FROM accounts WHERE id = $5" pg " FOR KEY SHARE"
        ));
        let keep = keep.bind(e.id).bind(place).bind(claim.at).bind(claim.dropped_at).bind(claim.contact);
        tx.run(keep).await?;
    }
    if let Some(joined) = change.joined {
        name(tx, e, joined, true).await?;
    }
    let mut new = NewAlerts::at(now);
    new.tell_all(tx, change.alerts).await?;
    new.place(tx).await.map(Some)
}
