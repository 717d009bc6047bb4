//! Check-ins: a miss and the emergency it raises are one transaction.

use super::SqliteStore;
use super::emergencies::{change_in, raise_in};
use super::failure::{read, unreadable};
use super::identity::millis;
use super::inbox::Telling;
use super::writer::{Question, Statement, Tx};
use crate::alerts::{
    AlertDraft, Change, CheckIn, CheckInCreated, CheckInPlace, CheckInState, CheckInStore, Committed, Fired,
    Lane, Raised,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{CheckInId, EmergencyId, UserId};
use async_trait::async_trait;
use sqlx::{SqlitePool, query, query_as, query_scalar};
use std::time::Duration;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct CheckInRow {
    id: Uuid,
    subject_id: Uuid,
    note: Option<String>,
    set_at: i64,
    due_at: i64,
    grace_ms: i64,
    repeat_ms: Option<i64>,
    state: String,
    reminded: bool,
    wakes_at: Option<i64>,
    emergency_id: Option<Uuid>,
    version: i64,
}

impl TryFrom<CheckInRow> for CheckIn {
    type Error = StoreError;
    fn try_from(row: CheckInRow) -> Stored<Self> {
        // The schema refuses negative ones.
        let duration = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(Self {
            id: CheckInId(row.id),
            subject: UserId(row.subject_id),
            note: row.note,
            set_at: Timestamp::from_unix_ms(row.set_at),
            due_at: Timestamp::from_unix_ms(row.due_at),
            grace: duration(row.grace_ms),
            repeat: row.repeat_ms.map(duration),
            state: CheckInState::from_word(&row.state).ok_or_else(|| unreadable("check_ins.state"))?,
            reminded: row.reminded,
            wakes_at: row.wakes_at.map(Timestamp::from_unix_ms),
            emergency: row.emergency_id.map(EmergencyId),
            version: row.version,
        })
    }
}

async fn all(pool: &SqlitePool, question: Question<'_, CheckInRow>) -> Stored<Vec<CheckIn>> {
    let rows = read(question.fetch_all(pool)).await?;
    rows.into_iter().map(CheckIn::try_from).collect()
}

/// What can change of a check-in, bound in the order of the columns in both statements.
fn with_state<'q>(statement: Statement<'q>, c: &CheckIn) -> Statement<'q> {
    statement
        .bind(c.note.clone())
        .bind(c.set_at.unix_ms())
        .bind(c.due_at.unix_ms())
        .bind(c.state.word())
        .bind(c.reminded)
        .bind(c.wakes_at.map(Timestamp::unix_ms))
        .bind(c.emergency.map(|e| e.0))
        .bind(c.version)
}

/// `false` if the version is not the one the change was made from.
async fn update(tx: &mut Tx<'_>, c: &CheckIn) -> Stored<bool> {
    let update = query(
        "UPDATE check_ins SET note = ?, set_at = ?, due_at = ?, state = ?, reminded = ?, wakes_at = ?, emergency_id = ?,
             version = ?
         WHERE id = ? AND version = ?",
    );
    Ok(tx.run(with_state(update, c).bind(c.id.0).bind(c.version - 1)).await? > 0)
}

#[async_trait]
impl CheckInStore for SqliteStore {
    async fn create_check_in(&self, new: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let known = query_as::<_, CheckInRow>("SELECT * FROM check_ins WHERE id = ?").bind(new.id.0);
        if let Some(known) = tx.one(known).await? {
            let known = CheckIn::try_from(known)?;
            let same = known.subject == new.subject;
            return Ok(if same { CheckInCreated::Repeated(known) } else { CheckInCreated::Conflict });
        }
        let waiting = query_as::<_, (i64,)>(
            "SELECT count(*) FROM check_ins WHERE subject_id = ? AND (state <> 'waiting') = 0",
        );
        let waiting = tx.one(waiting.bind(new.subject.0)).await?;
        if waiting.is_some_and(|(count,)| count >= i64::from(max_waiting)) {
            return Ok(CheckInCreated::TooMany);
        }
        let insert = query(
            "INSERT INTO check_ins (note, set_at, due_at, state, reminded, wakes_at, emergency_id, version, id, subject_id,
                 grace_ms, repeat_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let insert = with_state(insert, new)
            .bind(new.id.0)
            .bind(new.subject.0)
            .bind(millis(new.grace))
            .bind(new.repeat.map(millis));
        tx.run(insert).await?;
        tx.commit().await?;
        Ok(CheckInCreated::Created)
    }

    async fn check_in(&self, subject: UserId, id: CheckInId) -> Stored<Option<CheckIn>> {
        let one = query_as("SELECT * FROM check_ins WHERE id = ? AND subject_id = ?");
        Ok(all(&self.db.emergency_readers, one.bind(id.0).bind(subject.0)).await?.pop())
    }

    async fn check_ins(
        &self,
        subject: UserId,
        after: Option<CheckInPlace>,
        limit: u32,
    ) -> Stored<Vec<CheckIn>> {
        let page = query_as(
            "SELECT * FROM check_ins
             WHERE subject_id = ? AND (state <> 'waiting', id) > (?, ?) AND state <> 'deleted'
             ORDER BY state <> 'waiting', id LIMIT ?",
        );
        // Every id is more than nothing.
        let id = after.map_or(Vec::new(), |place| place.id.0.as_bytes().to_vec());
        let ended = after.is_some_and(|place| !place.waiting);
        all(&self.db.readers, page.bind(subject.0).bind(ended).bind(id).bind(limit)).await
    }

    async fn change_check_in(&self, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>> {
        let mut tx = self.db.writer.begin(Lane::Emergency).await?;
        if !update(&mut tx, check_in).await? {
            return Ok(None);
        }
        let mut telling = Telling::at(self.clock.now());
        for alert in alerts {
            telling.tell(&mut tx, alert).await?;
        }
        tx.commit().await?;
        Ok(Some(telling.committed()))
    }

    async fn fire_check_in(&self, missed: &CheckIn, change: Change<'_>) -> Stored<Fired> {
        let mut tx = self.db.writer.begin(Lane::Emergency).await?;
        if !update(&mut tx, missed).await? {
            return Ok(Fired::Stale);
        }
        let now = self.clock.now();
        let committed = if change.joined.is_some() {
            let Some(committed) = change_in(&mut tx, change, now).await? else { return Ok(Fired::Changed) };
            committed
        } else {
            match raise_in(&mut tx, change.emergency, change.emergency.id, change.alerts, now).await? {
                Raised::Opened(committed) => committed,
                Raised::Open(open) => return Ok(Fired::Open(Box::new(open))),
                Raised::Repeated(_) | Raised::IdTaken => return Ok(Fired::IdTaken),
            }
        };
        tx.commit().await?;
        Ok(Fired::Stored(committed))
    }

    async fn next_check_in(&self) -> Stored<Option<Timestamp>> {
        let next =
            query_scalar::<_, Option<i64>>("SELECT min(wakes_at) FROM check_ins WHERE wakes_at IS NOT NULL");
        Ok(read(next.fetch_one(&self.db.emergency_readers)).await?.map(Timestamp::from_unix_ms))
    }

    async fn due_check_ins(&self, now: Timestamp) -> Stored<Vec<CheckIn>> {
        let due = query_as("SELECT * FROM check_ins WHERE wakes_at <= ? ORDER BY wakes_at, id");
        all(&self.db.emergency_readers, due.bind(now.unix_ms())).await
    }

    async fn due_check_in_ids(&self, now: Timestamp) -> Stored<Vec<(UserId, CheckInId)>> {
        let due = query_as::<_, (Uuid, Uuid)>(
            "SELECT subject_id, id FROM check_ins WHERE wakes_at <= ? ORDER BY wakes_at, id",
        );
        let rows = read(due.bind(now.unix_ms()).fetch_all(&self.db.emergency_readers)).await?;
        Ok(rows.into_iter().map(|(subject, id)| (UserId(subject), CheckInId(id))).collect())
    }

    async fn forget_check_ins(&self, subject: UserId) -> Stored<()> {
        let forget = query("DELETE FROM check_ins WHERE subject_id = ?").bind(subject.0);
        self.db.writer.write(Lane::Emergency, forget).await.map(|_| ())
    }
}
