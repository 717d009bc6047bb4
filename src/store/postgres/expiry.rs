//! What has had its time, deleted in short transactions. Several nodes may sweep at once: none waits for a row that
//! another one has in hand.

use super::PostgresStore;
use super::at::At;
use super::connect::again;
use super::failure::read;
use super::values::millis;
use crate::alerts::{ExpiryStore, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::EmergencyId;
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use std::time::Duration;
use uuid::Uuid;

/// Rows deleted in one transaction.
const AT_ONCE: i64 = 500;

#[derive(sqlx::FromRow)]
struct TransitionRow {
    id: Uuid,
    at: At,
    number: i64,
    goes: bool,
}

/// Deletes disclosures that were last added to before then.
pub(super) async fn disclosures(store: &PostgresStore, before: Timestamp) -> Stored<u64> {
    let mut deleted = 0;
    loop {
        let delete = query(
            "DELETE FROM disclosures WHERE id IN
                 (SELECT id FROM disclosures WHERE last_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        );
        match store.db.write(Lane::Routine, delete.bind(At(before)).bind(AT_ONCE)).await? {
            0 => return Ok(deleted),
            some => deleted += some,
        }
    }
}

#[async_trait]
impl ExpiryStore for PostgresStore {
    async fn expire_alerts(&self, before: Timestamp) -> Stored<u64> {
        let some = || async {
            let delete = query(
                "DELETE FROM alerts WHERE id IN (
                     SELECT a.id FROM alerts a WHERE a.stored_at < $1 AND NOT EXISTS
                         (SELECT 1 FROM emergencies e WHERE e.id = a.emergency_id
                          AND e.ended_at IS NULL AND e.apparent_at IS NULL)
                     LIMIT $2 FOR UPDATE OF a SKIP LOCKED)",
            );
            self.db.write(Lane::Routine, delete.bind(At(before)).bind(AT_ONCE)).await
        };
        let mut deleted = 0;
        loop {
            match again(Lane::Routine, some).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
        }
    }

    async fn expire_zone_visits(&self, before: Timestamp) -> Stored<u64> {
        let mut deleted = 0;
        loop {
            let delete = query(
                "DELETE FROM zone_visits WHERE (user_id, zone_id) IN
                     (SELECT user_id, zone_id FROM zone_visits WHERE entered_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
            );
            match self.db.write(Lane::Routine, delete.bind(At(before)).bind(AT_ONCE)).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
        }
    }

    async fn expire_transitions(&self, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64> {
        let (mut deleted, mut after) = (0, (Timestamp::from_unix_ms(i64::MIN), i64::MIN));
        loop {
            // What the state at a fence follows from has no later edge of that fence, as it is now, before `before`.
            // Nobody keeps anything longer than a thousand years.
            let old = query_as::<_, TransitionRow>(
                "SELECT t.id, t.at, t.number,
                     t.at < $2 - least(coalesce(a.retention_ms, $3), 31556952000000) * interval '1 millisecond'
                     AND (t.retracted OR t.kind = 'cross'
                          OR NOT EXISTS (SELECT 1 FROM geofences g WHERE g.id = t.geofence_id AND g.revision = t.revision)
                          OR EXISTS (SELECT 1 FROM transitions l WHERE l.device_id = t.device_id
                                     AND (l.at, l.seq) > (t.at, t.seq) AND l.at < $1 AND l.geofence_id = t.geofence_id
                                     AND l.kind IN ('enter', 'exit') AND NOT l.retracted)) AS goes
                 FROM transitions t JOIN accounts a ON a.id = t.owner_id
                 WHERE t.at < $1 AND (t.at, t.number) > ($4, $5) ORDER BY t.at, t.number LIMIT $6",
            );
            let old = old.bind(At(before)).bind(At(now)).bind(millis(fixes));
            let old = old.bind(At(after.0)).bind(after.1).bind(AT_ONCE);
            let old = read(old.fetch_all(&self.db.routine)).await?;
            let rows: Vec<Uuid> = old.iter().filter(|t| t.goes).map(|t| t.id).collect();
            if !rows.is_empty() {
                let delete = query("DELETE FROM transitions WHERE id = ANY ($1)").bind(rows);
                deleted += self.db.write(Lane::Routine, delete).await?;
            }
            match old.last() {
                Some(last) if old.len() == AT_ONCE as usize => after = (last.at.0, last.number),
                _ => return Ok(deleted),
            }
        }
    }

    async fn bare_emergencies(&self, before: Timestamp) -> Stored<u64> {
        let mut marked = 0;
        loop {
            let mark = query(
                "UPDATE emergencies SET erased = 1 WHERE id IN
                     (SELECT id FROM emergencies WHERE erased = 0 AND coalesce(apparent_at, ended_at) < $1
                      LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)",
            );
            match self.db.write(Lane::Routine, mark.bind(At(before)).bind(AT_ONCE)).await? {
                0 => return Ok(marked),
                some => marked += some,
            }
        }
    }

    async fn past_emergencies(&self, before: Timestamp, limit: u32) -> Stored<Vec<EmergencyId>> {
        let past =
            query_scalar::<_, Uuid>("SELECT id FROM emergencies WHERE erased < 2 AND ended_at < $1 LIMIT $2");
        let past = past.bind(At(before)).bind(i64::from(limit));
        Ok(read(past.fetch_all(&self.db.routine)).await?.into_iter().map(EmergencyId).collect())
    }

    async fn erase_emergency(&self, id: EmergencyId) -> Stored<()> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        let erase = query(
            "UPDATE emergencies SET message = NULL, opening_fix = NULL, erased = 2 WHERE id = $1 AND ended_at IS NOT NULL",
        );
        if tx.run(erase.bind(id.0)).await? > 0 {
            tx.run(query("DELETE FROM claims WHERE emergency_id = $1").bind(id.0)).await?;
        }
        tx.commit().await
    }

    /// The server reuses the space of what was deleted; its own vacuum does that, and its operator decides on the rest.
    async fn wipe(&self) -> Stored<()> {
        Ok(())
    }
}
