//! Emergencies raised and changed. A raise decides under the lock of its subject's account, a change by the version it
//! was made from.

use super::inbox::NewAlerts;
use super::row::{EmergencyRow, by_any_id, emergencies, insert, update};
use crate::alerts::{AlertDraft, Change, Committed, Emergency, Lane, Raised};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::EmergencyId;
use crate::store::Store;
use crate::store::database::Tx;
use crate::store::identity::lock;
use crate::store::sql::{query, sql};

/// Finds the emergency of `client_id`, or one to join, or stores this one with its alerts.
pub(super) async fn raise(
    store: &Store,
    emergency: &Emergency,
    client_id: EmergencyId,
    alerts: &[AlertDraft],
) -> Stored<Raised> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    // Of the raises and joins of one person each sees what the one before it stored.
    lock(&mut tx, emergency.subject).await?;
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
    if let Some(known) = tx.one::<EmergencyRow>(by_any_id(emergency.subject, client_id)).await? {
        return Ok(Raised::Repeated(known.into()));
    }
    let open = query(emergencies!(
        "WHERE e.subject_id = $1 AND e.ended_at IS NULL AND e.apparent_at IS NULL
         ORDER BY e.opened_at DESC, e.id DESC LIMIT 1"
    ));
    if let Some(open) = tx.one::<EmergencyRow>(open.bind(emergency.subject)).await? {
        return Ok(Raised::Open(open.into()));
    }
    if tx.run(insert(emergency)?).await? == 0 {
        return Ok(Raised::IdTaken);
    }
    for id in [client_id, emergency.id] {
        name(tx, emergency, id, false).await?;
    }
    let mut new = NewAlerts::at(now);
    new.tell_all(tx, alerts).await?;
    Ok(Raised::Opened(new.place(tx).await?))
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
    let mut tx = store.db.begin(Lane::Emergency).await?;
    if change.joined.is_some() {
        lock(&mut tx, change.emergency.subject).await?;
    }
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
