//! Forgetting a person. A call that did not come to its end can be repeated, because fixes go first and the account
//! last.

use super::accounts::retired_mark;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::store::sql::{Sql, query, sql};
use crate::store::{Store, sqlite};

/// What there can be much of is deleted in small transactions before the account, so that no emergency of others waits
/// behind a long one.
const BY_PARTS: [Sql; 5] = [
    sql!("DELETE FROM transitions WHERE id IN (SELECT id FROM transitions WHERE owner_id = $1 LIMIT 500)"),
    sql!("DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE subject_id = $1 LIMIT 500)"),
    sql!(
        "DELETE FROM deliveries WHERE recipient_id = $1
         AND alert_id IN (SELECT alert_id FROM deliveries WHERE recipient_id = $1 LIMIT 500)"
    ),
    sql!(
        "DELETE FROM inbox WHERE user_id = $1
         AND cursor < 500 + (SELECT min(cursor) FROM inbox WHERE user_id = $1)"
    ),
    sql!("DELETE FROM disclosures WHERE id IN (SELECT id FROM disclosures WHERE subject_id = $1 LIMIT 500)"),
];

/// The last step, in one transaction: what outlives the account, what names it elsewhere, and the account, which takes
/// everything else with it.
const ACCOUNT: [Sql; 5] = [
    sql!(
        "INSERT INTO revocations (kind, id, revoked_at) SELECT 'device', id, $2 FROM devices WHERE user_id = $1
         ON CONFLICT DO NOTHING"
    ),
    sql!(
        "INSERT INTO revocations (kind, id, revoked_at) SELECT 'session', id, $2 FROM sessions WHERE user_id = $1
         ON CONFLICT DO NOTHING"
    ),
    sql!(
        "UPDATE alerts SET params = " lite "json_remove(params, '$.contact')" pg "params - 'contact'"
        " WHERE subject_id IN (SELECT subject_id FROM links WHERE contact_id = $1 UNION
              SELECT e.subject_id FROM claims c JOIN emergencies e ON e.id = c.emergency_id WHERE c.contact_id = $1)
          AND params ->> 'contact' = (SELECT display_name FROM accounts WHERE id = $1) AND $2 IS NOT NULL"
    ),
    sql!("DELETE FROM geofence_notify WHERE user_id = $1 AND $2 IS NOT NULL"),
    sql!("DELETE FROM accounts WHERE id = $1 AND $2 IS NOT NULL"),
];

/// Forgets the person; the devices they had until now.
pub(super) async fn forget(store: &Store, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>> {
    let devices = query("SELECT id, removed_at FROM devices WHERE user_id = $1").bind(user);
    let devices = store.db.all::<(DeviceId, Option<Timestamp>)>(Lane::Routine, devices).await?;
    let all: Vec<DeviceId> = devices.iter().map(|(id, _)| *id).collect();
    store.fixes.forget(&all).await?;
    for part in BY_PARTS {
        store.db.write_all(|| query(part).bind(user)).await?;
    }
    store.db.again(Lane::Routine, || last_step(store, user, at)).await?;
    if let Some(files) = store.files() {
        sqlite::wipe_forgotten(files).await;
    }
    Ok(devices.into_iter().filter(|(_, removed)| removed.is_none()).map(|(id, _)| id).collect())
}

async fn last_step(store: &Store, user: UserId, at: Timestamp) -> Stored<()> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    // Nobody signs in a device that the revocations would miss.
    tx.lock(query("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE").bind(user)).await?;
    for step in ACCOUNT {
        tx.run(query(step).bind(user).bind(at)).await?;
    }
    let retire = query("INSERT INTO retired_accounts (mark) VALUES ($1) ON CONFLICT DO NOTHING");
    tx.run(retire.bind(retired_mark(user))).await?;
    if store.files().is_some() {
        tx.run(query("INSERT INTO unfinished (task) VALUES ('rewrite') ON CONFLICT DO NOTHING")).await?;
    }
    tx.commit().await
}
