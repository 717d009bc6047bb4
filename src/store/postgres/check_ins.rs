//! Check-ins: a miss and the emergency it raises are one transaction.

use super::PostgresStore;
use super::at::At;
use super::connect::{Question, Statement, Tx, again};
use super::emergencies::{change_in, lock_subject, raise_in};
use super::failure::{read, unreadable};
use super::inbox::Telling;
use super::values::{duration, millis, plain};
use crate::alerts::{
    AlertDraft, Change, CheckIn, CheckInCreated, CheckInPlace, CheckInState, CheckInStore, Committed, Fired,
    Lane, Raised,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{CheckInId, EmergencyId, UserId};
use async_trait::async_trait;
use sqlx::{PgPool, query, query_as, query_scalar};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct CheckInRow {
    id: Uuid,
    subject_id: Uuid,
    note: Option<String>,
    set_at: At,
    due_at: At,
    grace_ms: i64,
    repeat_ms: Option<i64>,
    state: String,
    reminded: bool,
    wakes_at: Option<At>,
    emergency_id: Option<Uuid>,
    version: i64,
}

impl TryFrom<CheckInRow> for CheckIn {
    type Error = StoreError;
    fn try_from(row: CheckInRow) -> Stored<Self> {
        Ok(Self {
            id: CheckInId(row.id),
            subject: UserId(row.subject_id),
            note: row.note,
            set_at: row.set_at.0,
            due_at: row.due_at.0,
            grace: duration(row.grace_ms),
            repeat: row.repeat_ms.map(duration),
            state: CheckInState::from_word(&row.state).ok_or_else(|| unreadable("check_ins.state"))?,
            reminded: row.reminded,
            wakes_at: row.wakes_at.map(Timestamp::from),
            emergency: row.emergency_id.map(EmergencyId),
            version: row.version,
        })
    }
}

async fn all(pool: &PgPool, question: Question<'_, CheckInRow>) -> Stored<Vec<CheckIn>> {
    let rows = read(question.fetch_all(pool)).await?;
    rows.into_iter().map(CheckIn::try_from).collect()
}

/// What can change of a check-in, bound in the order of the columns in both statements.
fn with_state<'q>(statement: Statement<'q>, c: &CheckIn) -> Statement<'q> {
    statement
        .bind(c.note.as_deref().map(|text| plain(text).into_owned()))
        .bind(At(c.set_at))
        .bind(At(c.due_at))
        .bind(c.state.word())
        .bind(c.reminded)
        .bind(c.wakes_at.map(At))
        .bind(c.emergency.map(|e| e.0))
        .bind(c.version)
}

/// `false` if the version is not the one the change was made from.
async fn update(tx: &mut Tx, c: &CheckIn) -> Stored<bool> {
    let update = query(
        "UPDATE check_ins SET note = $1, set_at = $2, due_at = $3, state = $4, reminded = $5, wakes_at = $6,
             emergency_id = $7, version = $8
         WHERE id = $9 AND version = $10",
    );
    Ok(tx.run(with_state(update, c).bind(c.id.0).bind(c.version - 1)).await? > 0)
}

async fn change_once(
    store: &PostgresStore,
    check_in: &CheckIn,
    alerts: &[AlertDraft],
) -> Stored<Option<Committed>> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    if !update(&mut tx, check_in).await? {
        return Ok(None);
    }
    let mut telling = Telling::at(store.clock.now());
    for alert in alerts {
        telling.tell(&mut tx, alert).await?;
    }
    let committed = telling.place(&mut tx).await?;
    tx.commit().await?;
    Ok(Some(committed))
}

async fn fire_once(store: &PostgresStore, missed: &CheckIn, change: &Change<'_>) -> Stored<Fired> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    // Before the check-in: the account is always the first.
    lock_subject(&mut tx, missed.subject).await?;
    if !update(&mut tx, missed).await? {
        return Ok(Fired::Stale);
    }
    let now = store.clock.now();
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

#[async_trait]
impl CheckInStore for PostgresStore {
    async fn create_check_in(&self, new: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        lock_subject(&mut tx, new.subject).await?;
        let insert = query(
            "INSERT INTO check_ins (note, set_at, due_at, state, reminded, wakes_at, emergency_id, version, id, subject_id,
                 grace_ms, repeat_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING",
        );
        let insert = with_state(insert, new)
            .bind(new.id.0)
            .bind(new.subject.0)
            .bind(millis(new.grace))
            .bind(new.repeat.map(millis));
        if tx.run(insert).await? == 0 {
            let known = query_as::<_, CheckInRow>("SELECT * FROM check_ins WHERE id = $1").bind(new.id.0);
            let known = tx.one(known).await?.map(CheckIn::try_from).transpose()?;
            return match known {
                Some(known) if known.subject == new.subject => Ok(CheckInCreated::Repeated(known)),
                Some(_) => Ok(CheckInCreated::Conflict),
                None => Err(StoreError::Unavailable("a check-in of this id was deleted just now".into())),
            };
        }
        let others = query_as::<_, (i64,)>(
            "SELECT count(*) FROM check_ins WHERE subject_id = $1 AND (state <> 'waiting') = false AND id <> $2",
        );
        let others = tx.one(others.bind(new.subject.0).bind(new.id.0)).await?;
        if others.is_some_and(|(count,)| count >= i64::from(max_waiting)) {
            return Ok(CheckInCreated::TooMany);
        }
        tx.commit().await?;
        Ok(CheckInCreated::Created)
    }

    async fn check_in(&self, subject: UserId, id: CheckInId) -> Stored<Option<CheckIn>> {
        let one = query_as("SELECT * FROM check_ins WHERE id = $1 AND subject_id = $2");
        Ok(all(&self.db.emergency, one.bind(id.0).bind(subject.0)).await?.pop())
    }

    async fn check_ins(
        &self,
        subject: UserId,
        after: Option<CheckInPlace>,
        limit: u32,
    ) -> Stored<Vec<CheckIn>> {
        let page = query_as(
            "SELECT * FROM check_ins
             WHERE subject_id = $1 AND ($3::uuid IS NULL OR (state <> 'waiting', id) > ($2, $3)) AND state <> 'deleted'
             ORDER BY state <> 'waiting', id LIMIT $4",
        );
        let page = page.bind(subject.0).bind(after.map(|place| !place.waiting));
        let page = page.bind(after.map(|place| place.id.0)).bind(i64::from(limit));
        all(&self.db.routine, page).await
    }

    async fn change_check_in(&self, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>> {
        again(Lane::Emergency, || change_once(self, check_in, alerts)).await
    }

    async fn fire_check_in(&self, missed: &CheckIn, change: Change<'_>) -> Stored<Fired> {
        again(Lane::Emergency, || fire_once(self, missed, &change)).await
    }

    async fn next_check_in(&self) -> Stored<Option<Timestamp>> {
        let next =
            query_scalar::<_, Option<At>>("SELECT min(wakes_at) FROM check_ins WHERE wakes_at IS NOT NULL");
        Ok(read(next.fetch_one(&self.db.emergency)).await?.map(Timestamp::from))
    }

    async fn due_check_ins(&self, now: Timestamp) -> Stored<Vec<CheckIn>> {
        let due = query_as("SELECT * FROM check_ins WHERE wakes_at <= $1 ORDER BY wakes_at, id");
        all(&self.db.emergency, due.bind(At(now))).await
    }

    async fn due_check_in_ids(&self, now: Timestamp) -> Stored<Vec<(UserId, CheckInId)>> {
        let due = query_as::<_, (Uuid, Uuid)>(
            "SELECT subject_id, id FROM check_ins WHERE wakes_at <= $1 ORDER BY wakes_at, id",
        );
        let rows = read(due.bind(At(now)).fetch_all(&self.db.emergency)).await?;
        Ok(rows.into_iter().map(|(subject, id)| (UserId(subject), CheckInId(id))).collect())
    }

    async fn forget_check_ins(&self, subject: UserId) -> Stored<()> {
        let forget = query("DELETE FROM check_ins WHERE subject_id = $1").bind(subject.0);
        self.db.write(Lane::Emergency, forget).await.map(|_| ())
    }
}
