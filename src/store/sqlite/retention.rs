//! What has had its time: found by a reader, deleted in short transactions.

use super::SqliteStore;
use super::connect::Database;
use super::failure::read;
use super::forget::rewrite;
use super::identity::millis;
use crate::alerts::{ExpiryStore, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::tracking::{Incident, Keeper, RetentionStore};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use std::time::Duration;
use uuid::Uuid;

/// Rows deleted in one transaction.
const AT_ONCE: i64 = 500;
/// A file up to this size is written anew in a moment; in a larger one the unused middle of pages that are still in use
/// may keep copies until those are used again. When a person is forgotten a larger one is rewritten too, by `forget`.
const QUICKLY_REWRITTEN: i64 = 32 << 20;
/// For wiping: beyond, the next sweep tries again.
const WIPE: Duration = Duration::from_secs(5);

/// Leaves nothing in the file and its log of what was deleted, as far as that is quick.
pub(super) async fn wipe(db: &Database) -> Stored<()> {
    let size =
        query_scalar::<_, i64>("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()");
    if read(size.fetch_one(&db.readers)).await? <= QUICKLY_REWRITTEN {
        rewrite(db, WIPE).await
    } else {
        db.writer.empty_log(WIPE).await
    }
}

fn json(rows: &[i64]) -> String {
    let rows: Vec<String> = rows.iter().map(i64::to_string).collect();
    format!("[{}]", rows.join(","))
}

/// Deletes disclosures that were last added to before then.
pub(super) async fn expire_disclosures(store: &SqliteStore, before: Timestamp) -> Stored<u64> {
    let mut deleted = 0;
    loop {
        let old = query_scalar::<_, i64>("SELECT id FROM disclosures WHERE last_at < ? LIMIT ?");
        let old = old.bind(before.unix_ms()).bind(AT_ONCE);
        let old = read(old.fetch_all(&store.db.readers)).await?;
        // One of them may have been added to since.
        let delete =
            query("DELETE FROM disclosures WHERE id IN (SELECT value FROM json_each(?)) AND last_at < ?");
        if !old.is_empty() {
            let delete = delete.bind(json(&old)).bind(before.unix_ms());
            deleted += store.db.writer.write(Lane::Routine, delete).await?;
        }
        if old.len() < AT_ONCE as usize {
            return Ok(deleted);
        }
    }
}

#[derive(sqlx::FromRow)]
struct TransitionRow {
    row: i64,
    at: i64,
    goes: bool,
}

#[async_trait]
impl ExpiryStore for SqliteStore {
    async fn expire_alerts(&self, before: Timestamp) -> Stored<u64> {
        let mut deleted = 0;
        loop {
            let old = query_scalar::<_, i64>(
                "SELECT a.rowid FROM alerts a WHERE a.stored_at < ? AND NOT EXISTS
                     (SELECT 1 FROM emergencies e WHERE e.id = a.emergency_id
                      AND e.ended_at IS NULL AND e.apparent_at IS NULL)
                 LIMIT ?",
            );
            let old = old.bind(before.unix_ms()).bind(AT_ONCE);
            let old = read(old.fetch_all(&self.db.readers)).await?;
            if old.is_empty() {
                return Ok(deleted);
            }
            let delete = query("DELETE FROM alerts WHERE rowid IN (SELECT value FROM json_each(?))");
            deleted += self.db.writer.write(Lane::Routine, delete.bind(json(&old))).await?;
        }
    }

    async fn expire_zone_visits(&self, before: Timestamp) -> Stored<u64> {
        let mut deleted = 0;
        loop {
            let delete = query(
                "DELETE FROM zone_visits WHERE (user_id, zone_id) IN
                     (SELECT user_id, zone_id FROM zone_visits WHERE entered_at < ? LIMIT ?)",
            );
            let delete = delete.bind(before.unix_ms()).bind(AT_ONCE);
            match self.db.writer.write(Lane::Routine, delete).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
        }
    }

    async fn expire_transitions(&self, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64> {
        let (mut deleted, mut after) = (0, (i64::MIN, i64::MIN));
        loop {
            // What the state at a fence follows from has no later edge of that fence, as it is now, before `before`.
            let old = query_as::<_, TransitionRow>(
                "SELECT t.rowid AS row, t.at, t.at < ?2 - coalesce(a.retention_ms, ?3)
                     AND (t.retracted = 1 OR t.kind = 'cross'
                          OR NOT EXISTS (SELECT 1 FROM geofences g WHERE g.id = t.geofence_id AND g.revision = t.revision)
                          OR EXISTS (SELECT 1 FROM transitions l WHERE l.device_id = t.device_id
                                     AND (l.at, l.seq) > (t.at, t.seq) AND l.at < ?1 AND l.geofence_id = t.geofence_id
                                     AND l.kind IN ('enter', 'exit') AND l.retracted = 0)) AS goes
                 FROM transitions t JOIN accounts a ON a.id = t.owner_id
                 WHERE t.at < ?1 AND (t.at, t.rowid) > (?4, ?5) ORDER BY t.at, t.rowid LIMIT ?6",
            );
            let old = old.bind(before.unix_ms()).bind(now.unix_ms()).bind(millis(fixes));
            let old = old.bind(after.0).bind(after.1).bind(AT_ONCE);
            let old = read(old.fetch_all(&self.db.readers)).await?;
            let rows: Vec<i64> = old.iter().filter(|t| t.goes).map(|t| t.row).collect();
            if !rows.is_empty() {
                let delete = query("DELETE FROM transitions WHERE rowid IN (SELECT value FROM json_each(?))");
                deleted += self.db.writer.write(Lane::Routine, delete.bind(json(&rows))).await?;
            }
            match old.last() {
                Some(last) if old.len() == AT_ONCE as usize => after = (last.at, last.row),
                _ => return Ok(deleted),
            }
        }
    }

    async fn bare_emergencies(&self, before: Timestamp) -> Stored<u64> {
        let mut marked = 0;
        loop {
            let mark = query(
                "UPDATE emergencies SET erased = 1 WHERE rowid IN
                     (SELECT rowid FROM emergencies WHERE erased = 0 AND coalesce(apparent_at, ended_at) < ? LIMIT ?)",
            );
            match self.db.writer.write(Lane::Routine, mark.bind(before.unix_ms()).bind(AT_ONCE)).await? {
                0 => return Ok(marked),
                some => marked += some,
            }
        }
    }

    async fn past_emergencies(&self, before: Timestamp, limit: u32) -> Stored<Vec<EmergencyId>> {
        let past =
            query_scalar::<_, Uuid>("SELECT id FROM emergencies WHERE erased < 2 AND ended_at < ? LIMIT ?");
        let past = past.bind(before.unix_ms()).bind(limit);
        Ok(read(past.fetch_all(&self.db.readers)).await?.into_iter().map(EmergencyId).collect())
    }

    async fn erase_emergency(&self, id: EmergencyId) -> Stored<()> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let erase = query(
            "UPDATE emergencies SET message = NULL, opening_fix = NULL, erased = 2 WHERE id = ? AND ended_at IS NOT NULL",
        );
        if tx.run(erase.bind(id.0)).await? > 0 {
            tx.run(query("DELETE FROM claims WHERE emergency_id = ?").bind(id.0)).await?;
        }
        tx.commit().await
    }

    async fn wipe(&self) -> Stored<()> {
        wipe(&self.db).await
    }
}

#[derive(sqlx::FromRow)]
struct KeeperRow {
    id: Uuid,
    user_id: Uuid,
    retention_ms: Option<i64>,
    held_from: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct IncidentRow {
    id: Uuid,
    trail_from: i64,
    ended_at: Option<i64>,
    shown_to: Option<i64>,
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn keepers(&self, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Keeper>> {
        let devices = query_as::<_, KeeperRow>(
            "SELECT d.id, d.user_id, a.retention_ms, (SELECT min(c.set_at) FROM check_ins c
                 WHERE c.subject_id = d.user_id AND (c.state <> 'waiting') = 0) AS held_from
             FROM devices d JOIN accounts a ON a.id = d.user_id WHERE d.id > ? ORDER BY d.id LIMIT ?",
        );
        // Every id is more than nothing.
        let after = after.map_or(Vec::new(), |id| id.0.as_bytes().to_vec());
        let rows = read(devices.bind(after).bind(limit).fetch_all(&self.db.readers)).await?;
        let keeper = |row: KeeperRow| Keeper {
            device: DeviceId(row.id),
            user: UserId(row.user_id),
            // The schema refuses negative ones.
            retention: row.retention_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            held_from: row.held_from.map(Timestamp::from_unix_ms),
        };
        Ok(rows.into_iter().map(keeper).collect())
    }

    async fn incidents(&self, user: UserId, since: Timestamp) -> Stored<Vec<Incident>> {
        let incidents = query_as::<_, IncidentRow>(
            "SELECT id, trail_from, ended_at, coalesce(apparent_at, ended_at) AS shown_to FROM emergencies
             WHERE subject_id = ? AND (ended_at IS NULL OR ended_at >= ?) ORDER BY opened_at, id",
        );
        let rows = incidents.bind(user.0).bind(since.unix_ms()).fetch_all(&self.db.readers);
        let incident = |row: IncidentRow| Incident {
            emergency: EmergencyId(row.id),
            from: Timestamp::from_unix_ms(row.trail_from),
            to: row.ended_at.map(Timestamp::from_unix_ms),
            shown_to: row.shown_to.map(Timestamp::from_unix_ms),
        };
        Ok(read(rows).await?.into_iter().map(incident).collect())
    }

    async fn every_device_of(&self, user: UserId) -> Stored<Vec<DeviceId>> {
        let devices = query_scalar::<_, Uuid>("SELECT id FROM devices WHERE user_id = ? ORDER BY id");
        let ids = read(devices.bind(user.0).fetch_all(&self.db.readers)).await?;
        Ok(ids.into_iter().map(DeviceId).collect())
    }
}
