//! Forgetting a person. A call that did not come to its end can be repeated, because fixes go first and the account
//! last.

use super::PostgresStore;
use super::at::At;
use super::connect::again;
use super::failure::read;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::store::retired_mark;
use sqlx::{query, query_as};
use uuid::Uuid;

/// What there can be much of is deleted in small transactions before the account, so that no emergency of others waits
/// behind a long one.
const BY_PARTS: [&str; 5] = [
    "DELETE FROM transitions WHERE id IN (SELECT id FROM transitions WHERE owner_id = $1 LIMIT 500)",
    "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE subject_id = $1 LIMIT 500)",
    "DELETE FROM deliveries WHERE recipient_id = $1
         AND alert_id IN (SELECT alert_id FROM deliveries WHERE recipient_id = $1 LIMIT 500)",
    "DELETE FROM inbox WHERE user_id = $1
         AND cursor < 500 + (SELECT min(cursor) FROM inbox WHERE user_id = $1)",
    "DELETE FROM disclosures WHERE id IN (SELECT id FROM disclosures WHERE subject_id = $1 LIMIT 500)",
];

/// The last step, in one transaction: what outlives the account, what names it elsewhere, and the account, which takes
/// everything else with it.
const ACCOUNT: [&str; 5] = [
    "INSERT INTO revocations (kind, id, revoked_at) SELECT 'device', id, $2 FROM devices WHERE user_id = $1
         ON CONFLICT DO NOTHING",
    "INSERT INTO revocations (kind, id, revoked_at) SELECT 'session', id, $2 FROM sessions WHERE user_id = $1
         ON CONFLICT DO NOTHING",
    "UPDATE alerts SET params = params - 'contact'
         WHERE subject_id IN (SELECT subject_id FROM links WHERE contact_id = $1 UNION
             SELECT e.subject_id FROM claims c JOIN emergencies e ON e.id = c.emergency_id WHERE c.contact_id = $1)
         AND params ->> 'contact' = (SELECT display_name FROM accounts WHERE id = $1) AND $2::timestamptz IS NOT NULL",
    "DELETE FROM geofence_notify WHERE user_id = $1 AND $2::timestamptz IS NOT NULL",
    "DELETE FROM accounts WHERE id = $1 AND $2::timestamptz IS NOT NULL",
];

/// Forgets the person; the devices they had until now.
pub(super) async fn forget(store: &PostgresStore, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>> {
    let devices = query_as::<_, (Uuid, Option<At>)>("SELECT id, removed_at FROM devices WHERE user_id = $1");
    let devices = read(devices.bind(user.0).fetch_all(&store.db.routine)).await?;
    let all: Vec<DeviceId> = devices.iter().map(|(id, _)| DeviceId(*id)).collect();
    store.fixes.forget(&all).await?;
    for part in BY_PARTS {
        let some = || store.db.write(Lane::Routine, query(part).bind(user.0));
        while again(Lane::Routine, some).await? > 0 {}
    }
    again(Lane::Routine, || last_step(store, user, at)).await?;
    Ok(devices.into_iter().filter(|(_, removed)| removed.is_none()).map(|(id, _)| DeviceId(id)).collect())
}

async fn last_step(store: &PostgresStore, user: UserId, at: Timestamp) -> Stored<()> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    // Nobody signs in a device that the revocations would miss.
    tx.run(query("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE").bind(user.0)).await?;
    for step in ACCOUNT {
        tx.run(query(step).bind(user.0).bind(At(at))).await?;
    }
    let retire = query("INSERT INTO retired_accounts (mark) VALUES ($1) ON CONFLICT DO NOTHING");
    tx.run(retire.bind(retired_mark(user).to_vec())).await?;
    tx.commit().await
}
