//! What has had its time, deleted in short transactions. Several nodes may sweep at once: none waits for a row that
//! another one has in hand.

use crate::alerts::{ExpiryStore, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{EmergencyId, TransitionId};
use crate::store::database::Database;
use crate::store::sql::{Sql, query, sql};
use crate::store::value::Millis;
use crate::store::{Store, sqlite};
use async_trait::async_trait;
use std::time::Duration;

/// Rows deleted in one transaction.
const AT_ONCE: i64 = 500;

const ALERTS: Sql = sql!(
    "DELETE FROM alerts WHERE id IN (
         SELECT a.id FROM alerts a WHERE a.stored_at < $1 AND NOT EXISTS
             (SELECT 1 FROM emergencies e WHERE e.id = a.emergency_id
              AND e.ended_at IS NULL AND e.apparent_at IS NULL)
         LIMIT $2" pg " FOR UPDATE OF a SKIP LOCKED" ")"
);
const ZONE_VISITS: Sql = sql!(
    "DELETE FROM zone_visits WHERE (user_id, zone_id) IN
         (SELECT user_id, zone_id FROM zone_visits WHERE entered_at < $1 LIMIT $2" pg " FOR UPDATE SKIP LOCKED" ")"
);
const BARE: Sql = sql!(
    "UPDATE emergencies SET erased = 1 WHERE id IN
         (SELECT id FROM emergencies WHERE erased = 0 AND coalesce(apparent_at, ended_at) < $1 LIMIT $2"
    pg " FOR NO KEY UPDATE SKIP LOCKED" ")"
);

/// Runs one of the statements above until nothing is left that is older than `before`; how many rows that were.
async fn older(db: &Database, sql: Sql, before: Timestamp) -> Stored<u64> {
    db.write_all(|| query(sql).bind(before).bind(AT_ONCE)).await
}

/// A transition in the order of time, and whether it goes.
#[derive(sqlx::FromRow)]
struct TransitionRow {
    id: TransitionId,
    at: Timestamp,
    number: i64,
    goes: bool,
}

/// The order in which transitions were stored.
macro_rules! number {
    (lite) => {
        "t.rowid"
    };
    (pg) => {
        "t.number"
    };
}

/// What the state at a fence follows from has no later edge of that fence, as it is now, before `$1`. Nobody keeps
/// anything longer than a thousand years, which PostgreSQL can count.
const TRANSITIONS: Sql = sql!(
    "SELECT t.id, t.at, " number! " AS number,
         t.at < $2 - " lite "coalesce(a.retention_ms, $3)"
         pg "least(coalesce(a.retention_ms, $3), 31556952000000) * interval '1 millisecond'"
         " AND (t.retracted OR t.kind = 'cross'
              OR NOT EXISTS (SELECT 1 FROM geofences g WHERE g.id = t.geofence_id AND g.revision = t.revision)
              OR EXISTS (SELECT 1 FROM transitions l WHERE l.device_id = t.device_id
                         AND (l.at, l.seq) > (t.at, t.seq) AND l.at < $1 AND l.geofence_id = t.geofence_id
                         AND l.kind IN ('enter', 'exit') AND NOT l.retracted)) AS goes
     FROM transitions t JOIN accounts a ON a.id = t.owner_id
     WHERE t.at < $1 AND (t.at, " number! ") > ($4, $5) ORDER BY t.at, " number! " LIMIT $6"
);

/// Found by a reader, deleted by their ids.
async fn transitions(db: &Database, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64> {
    let (mut deleted, mut after) = (0, (Timestamp::from_unix_ms(i64::MIN), i64::MIN));
    loop {
        let old = query(TRANSITIONS).bind(before).bind(now).bind(Millis(fixes));
        let old = old.bind(after.0).bind(after.1).bind(AT_ONCE);
        let old = db.all::<TransitionRow>(Lane::Routine, old).await?;
        let gone: Vec<TransitionId> = old.iter().filter(|t| t.goes).map(|t| t.id).collect();
        if !gone.is_empty() {
            let delete = || query(sql!("DELETE FROM transitions WHERE id " among "$1")).bind(gone.as_slice());
            deleted += db.write(Lane::Routine, delete).await?;
        }
        match old.last() {
            Some(last) if old.len() == AT_ONCE as usize => after = (last.at, last.number),
            _ => return Ok(deleted),
        }
    }
}

#[async_trait]
impl ExpiryStore for Store {
    async fn expire_alerts(&self, before: Timestamp) -> Stored<u64> {
        older(&self.db, ALERTS, before).await
    }
    async fn expire_transitions(&self, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64> {
        transitions(&self.db, before, now, fixes).await
    }
    async fn expire_zone_visits(&self, before: Timestamp) -> Stored<u64> {
        older(&self.db, ZONE_VISITS, before).await
    }
    async fn bare_emergencies(&self, before: Timestamp) -> Stored<u64> {
        older(&self.db, BARE, before).await
    }
    async fn past_emergencies(&self, before: Timestamp, limit: u32) -> Stored<Vec<EmergencyId>> {
        let past = query("SELECT id FROM emergencies WHERE erased < 2 AND ended_at < $1 LIMIT $2");
        self.db.list(Lane::Routine, past.bind(before).bind(limit), |(id,)| id).await
    }
    async fn erase_emergency(&self, id: EmergencyId) -> Stored<()> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        let erase = query(
            "UPDATE emergencies SET message = NULL, opening_fix = NULL, erased = 2 WHERE id = $1 AND ended_at IS NOT NULL",
        );
        if tx.run(erase.bind(id)).await? > 0 {
            tx.run(query("DELETE FROM claims WHERE emergency_id = $1").bind(id)).await?;
        }
        tx.commit().await
    }
    /// PostgreSQL reuses the space of what was deleted; its own vacuum does that, and its operator decides on the rest.
    async fn wipe(&self) -> Stored<()> {
        match &self.db {
            Database::Lite(db) => sqlite::wipe(db).await,
            Database::Pg(_) => Ok(()),
        }
    }
}
