//! Forgetting a person, in a way that leaves no coordinate of theirs in the files.
//!
//! `secure_delete` zeroes what is deleted, but a B-tree that was rebalanced keeps stale copies of rows in the unused
//! middle of its pages, and the log keeps old pages. So the files are rewritten and the logs emptied. A call that did not
//! come to its end can be repeated, because fixes go first and the account last; and once the account is gone, the next
//! opening finishes what is left.

use super::SqliteStore;
use super::connect::Database;
use super::failure::{by, read};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::store::retired_mark;
use sqlx::{query, query_as};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Rewriting a file may take so long.
const REWRITE: Duration = Duration::from_secs(60);

/// What there can be much of is deleted in small transactions before the account, so that no emergency of others waits
/// behind a long one.
const BY_PARTS: [&str; 5] = [
    "DELETE FROM transitions WHERE rowid IN (SELECT rowid FROM transitions WHERE owner_id = ? LIMIT 500)",
    "DELETE FROM alerts WHERE rowid IN (SELECT rowid FROM alerts WHERE subject_id = ? LIMIT 500)",
    "DELETE FROM deliveries WHERE recipient_id = ?1
         AND alert_id IN (SELECT alert_id FROM deliveries WHERE recipient_id = ?1 LIMIT 500)",
    "DELETE FROM inbox WHERE user_id = ?1
         AND cursor < 500 + (SELECT min(cursor) FROM inbox WHERE user_id = ?1)",
    "DELETE FROM disclosures WHERE id IN (SELECT id FROM disclosures WHERE subject_id = ? LIMIT 500)",
];

/// The last step, in one transaction: what outlives the account, what names it elsewhere, and the account, which takes
/// everything else with it.
const ACCOUNT: [&str; 5] = [
    "INSERT INTO revocations (kind, id, revoked_at) SELECT 'device', id, ?2 FROM devices WHERE user_id = ?1
         ON CONFLICT DO NOTHING",
    "INSERT INTO revocations (kind, id, revoked_at) SELECT 'session', id, ?2 FROM sessions WHERE user_id = ?1
         ON CONFLICT DO NOTHING",
    "UPDATE alerts SET params = json_remove(params, '$.contact')
         WHERE subject_id IN (SELECT subject_id FROM links WHERE contact_id = ?1 UNION
             SELECT e.subject_id FROM claims c JOIN emergencies e ON e.id = c.emergency_id WHERE c.contact_id = ?1)
         AND params ->> '$.contact' = (SELECT display_name FROM accounts WHERE id = ?1) AND ?2 NOTNULL",
    "DELETE FROM geofence_notify WHERE user_id = ?1 AND ?2 NOTNULL",
    "DELETE FROM accounts WHERE id = ?1 AND ?2 NOTNULL",
];

/// Bytes that take a fraction of a second to write anew.
const SMALL: i64 = 64 * 1024 * 1024;

/// Forgets the person; the devices they had until now.
pub(super) async fn forget(store: &SqliteStore, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>> {
    let devices = query_as::<_, (Uuid, Option<i64>)>("SELECT id, removed_at FROM devices WHERE user_id = ?");
    let devices = read(devices.bind(user.0).fetch_all(&store.db.readers)).await?;
    let all: Vec<DeviceId> = devices.iter().map(|(id, _)| DeviceId(*id)).collect();
    store.fixes.forget(&all).await?;
    for part in BY_PARTS {
        while store.db.writer.write(Lane::Routine, query(part).bind(user.0)).await? > 0 {}
    }
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    for step in ACCOUNT {
        tx.run(query(step).bind(user.0).bind(at.unix_ms())).await?;
    }
    let retire = query("INSERT INTO retired_accounts (mark) VALUES (?) ON CONFLICT DO NOTHING");
    tx.run(retire.bind(retired_mark(user).to_vec())).await?;
    tx.run(query("INSERT INTO unfinished (task) VALUES ('rewrite') ON CONFLICT DO NOTHING")).await?;
    tx.commit().await?;
    // Forgotten is forgotten from here on: what is left of them in the gaps of a file must not fail the call, and
    // rewriting a large file must not stand before an emergency. Then the next opening does it.
    if is_small(&store.fixes.db).await? && is_small(&store.db).await? {
        if let Err(error) = finish(store).await {
            tracing::warn!(%error, "the files are rewritten at the next opening");
        }
    } else {
        tracing::info!("the files are large: they are rewritten at the next opening");
    }
    Ok(devices.into_iter().filter(|(_, removed)| removed.is_none()).map(|(id, _)| DeviceId(id)).collect())
}

/// Rewrites the files of somebody who was forgotten: from the commit on they are forgotten, so what is left of them in
/// the gaps of a file must not fail the call, and rewriting a large file must not stand before an emergency. Then the
/// next opening does it.
pub(in crate::store) async fn wipe_forgotten((main, fixes): (&Database, &Database)) -> Stored<()> {
    if is_small(fixes).await? && is_small(main).await? {
        if let Err(error) = finish_files(main, fixes).await {
            tracing::warn!(%error, "the files are rewritten at the next opening");
        }
    } else {
        tracing::info!("the files are large: they are rewritten at the next opening");
    }
    Ok(())
}

/// Rewrites the files if somebody was forgotten since they were last rewritten.
pub(in crate::store) async fn finish_files(main: &Database, fixes: &Database) -> Stored<()> {
    let due = query_as::<_, (String,)>("SELECT task FROM unfinished");
    if read(due.fetch_optional(&main.readers)).await?.is_none() {
        return Ok(());
    }
    rewrite(fixes, REWRITE).await?;
    rewrite(main, REWRITE).await?;
    main.writer.write(Lane::Routine, query("DELETE FROM unfinished")).await.map(|_| ())
}

/// Whether a file is rewritten well within the patience of an emergency that waits for its writer.
async fn is_small(db: &Database) -> Stored<bool> {
    let bytes =
        query_as::<_, (i64,)>("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
    Ok(read(bytes.fetch_one(&db.readers)).await?.0 <= SMALL)
}

/// Rewrites the files if somebody was forgotten since they were last rewritten.
pub(super) async fn finish(store: &SqliteStore) -> Stored<()> {
    let due = query_as::<_, (String,)>("SELECT task FROM unfinished");
    if read(due.fetch_optional(&store.db.readers)).await?.is_none() {
        return Ok(());
    }
    rewrite(&store.fixes.db, REWRITE).await?;
    rewrite(&store.db, REWRITE).await?;
    store.db.writer.write(Lane::Routine, query("DELETE FROM unfinished")).await.map(|_| ())
}

/// Writes the file anew without what is deleted, and empties its log.
pub(super) async fn rewrite(db: &Database, within: Duration) -> Stored<()> {
    let mut locked = db.writer.alone(within).await?;
    by(Instant::now() + within, query("VACUUM").execute(locked.connection()?)).await?;
    drop(locked);
    db.writer.empty_log(within).await
}
