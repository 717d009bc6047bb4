//! Check-ins: a miss and the emergency it raises are one transaction.

use super::inbox::NewAlerts;
use super::raising::{change_in, raise_in};
use crate::alerts::{
    AlertDraft, Change, CheckIn, CheckInCreated, CheckInCursor, CheckInState, CheckInStore, Committed, Fired,
    Lane, Raised,
};
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::id::{CheckInId, EmergencyId, UserId};
use crate::store::Store;
use crate::store::database::{Database, Tx};
use crate::store::sql::{Statement, query};
use crate::store::value::Millis;
use async_trait::async_trait;

#[derive(sqlx::FromRow)]
struct CheckInRow {
    id: CheckInId,
    subject_id: UserId,
    note: Option<String>,
    set_at: Timestamp,
    due_at: Timestamp,
    grace_ms: Millis,
    repeat_ms: Option<Millis>,
    state: CheckInState,
    reminded: bool,
    wakes_at: Option<Timestamp>,
    emergency_id: Option<EmergencyId>,
    version: i64,
}

impl From<CheckInRow> for CheckIn {
    fn from(row: CheckInRow) -> Self {
        Self {
            id: row.id,
            subject: row.subject_id,
            note: row.note,
            set_at: row.set_at,
            due_at: row.due_at,
            grace: row.grace_ms.0,
            repeat: row.repeat_ms.map(|ms| ms.0),
            state: row.state,
            reminded: row.reminded,
            wakes_at: row.wakes_at,
            emergency: row.emergency_id,
            version: row.version,
        }
    }
}

/// A query of check-ins.
macro_rules! check_ins {
    ($rest:literal) => {
        concat!(
            "SELECT id, subject_id, note, set_at, due_at, grace_ms, repeat_ms, state, reminded, wakes_at, emergency_id, version
             FROM check_ins ",
            $rest
        )
    };
}

async fn all(db: &Database, lane: Lane, question: Statement) -> Stored<Vec<CheckIn>> {
    db.list(lane, question, |row: CheckInRow| row.into()).await
}

/// What can change of a check-in, bound in the order of the columns in both statements.
fn with_state(statement: Statement, c: &CheckIn) -> Statement {
    statement
        .bind(c.note.as_deref())
        .bind(c.set_at)
        .bind(c.due_at)
        .bind(c.state)
        .bind(c.reminded)
        .bind(c.wakes_at)
        .bind(c.emergency)
        .bind(c.version)
}

/// `false` if the version is not the one the change was made from.
async fn update(tx: &mut Tx<'_>, c: &CheckIn) -> Stored<bool> {
    let update = query(
        "UPDATE check_ins SET note = $1, set_at = $2, due_at = $3, state = $4, reminded = $5, wakes_at = $6,
             emergency_id = $7, version = $8
         WHERE id = $9 AND version = $10",
    );
    Ok(tx.run(with_state(update, c).bind(c.id).bind(c.version - 1)).await? > 0)
}

/// Stores a new one. The limit is kept among many writers by the lock of the account.
async fn create(db: &Database, new: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated> {
    let mut tx = db.begin_with(Lane::Routine, new.subject).await?;
    let insert = query(
        "INSERT INTO check_ins (note, set_at, due_at, state, reminded, wakes_at, emergency_id, version, id, subject_id,
             grace_ms, repeat_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING",
    );
    let insert = with_state(insert, new)
        .bind(new.id)
        .bind(new.subject)
        .bind(Millis(new.grace))
        .bind(new.repeat.map(Millis));
    if tx.run(insert).await? == 0 {
        let known = query(check_ins!("WHERE id = $1")).bind(new.id);
        return match tx.one::<CheckInRow>(known).await?.map(CheckIn::from) {
            Some(known) if known.subject == new.subject => Ok(CheckInCreated::Repeated(known)),
            Some(_) => Ok(CheckInCreated::Conflict),
            None => Err(StoreError::new(Fault::Conflict, "a check-in of this id was deleted just now")),
        };
    }
    let others = query(
        "SELECT count(*) FROM check_ins WHERE subject_id = $1 AND (state <> 'waiting') = false AND id <> $2",
    );
    let others = tx.one::<(i64,)>(others.bind(new.subject).bind(new.id)).await?;
    if others.is_some_and(|(count,)| count >= i64::from(max_waiting)) {
        return Ok(CheckInCreated::TooMany);
    }
    tx.commit().await?;
    Ok(CheckInCreated::Created)
}

/// Stores a change with its alerts, if the version is still the one it was made from.
async fn change(store: &Store, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>> {
    let mut tx = store.db.begin(Lane::Emergency).await?;
    if !update(&mut tx, check_in).await? {
        return Ok(None);
    }
    let mut new = NewAlerts::at(store.clock.now());
    new.tell_all(&mut tx, alerts).await?;
    let committed = new.place(&mut tx).await?;
    tx.commit().await?;
    Ok(Some(committed))
}

/// Stores a miss together with the emergency that it opens or joins.
async fn fire(store: &Store, missed: &CheckIn, change: &Change<'_>) -> Stored<Fired> {
    // Before the check-in: the account is always the first.
    let mut tx = store.db.begin_with(Lane::Emergency, missed.subject).await?;
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
impl CheckInStore for Store {
    async fn create_check_in(&self, new: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated> {
        self.db.again(Lane::Routine, || create(&self.db, new, max_waiting)).await
    }
    async fn check_in(&self, subject: UserId, id: CheckInId) -> Stored<Option<CheckIn>> {
        let one = query(check_ins!("WHERE id = $1 AND subject_id = $2")).bind(id).bind(subject);
        Ok(all(&self.db, Lane::Emergency, one).await?.pop())
    }
    async fn check_ins(
        &self,
        subject: UserId,
        after: Option<CheckInCursor>,
        limit: u32,
    ) -> Stored<Vec<CheckIn>> {
        let page = query(check_ins!(
            "WHERE subject_id = $1 AND ($3::uuid IS NULL OR (state <> 'waiting', id) > ($2, $3)) AND state <> 'deleted'
             ORDER BY state <> 'waiting', id LIMIT $4"
        ));
        let page =
            page.bind(subject).bind(after.map(|place| !place.waiting)).bind(after.map(|place| place.id));
        all(&self.db, Lane::Routine, page.bind(limit)).await
    }
    async fn change_check_in(&self, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>> {
        self.db.again(Lane::Emergency, || change(self, check_in, alerts)).await
    }
    async fn fire_check_in(&self, missed: &CheckIn, change: Change<'_>) -> Stored<Fired> {
        self.db.again(Lane::Emergency, || fire(self, missed, &change)).await
    }
    async fn next_check_in(&self) -> Stored<Option<Timestamp>> {
        let next = query("SELECT min(wakes_at) FROM check_ins WHERE wakes_at IS NOT NULL");
        Ok(self.db.one::<(Option<Timestamp>,)>(Lane::Emergency, next).await?.and_then(|(at,)| at))
    }
    async fn due_check_ins(&self, now: Timestamp) -> Stored<Vec<CheckIn>> {
        let due = query(check_ins!("WHERE wakes_at <= $1 ORDER BY wakes_at, id")).bind(now);
        all(&self.db, Lane::Emergency, due).await
    }
    async fn due_check_in_ids(&self, now: Timestamp) -> Stored<Vec<(UserId, CheckInId)>> {
        let due = query("SELECT subject_id, id FROM check_ins WHERE wakes_at <= $1 ORDER BY wakes_at, id");
        self.db.all(Lane::Emergency, due.bind(now)).await
    }
    async fn forget_check_ins(&self, subject: UserId) -> Stored<()> {
        let forget = || query("DELETE FROM check_ins WHERE subject_id = $1").bind(subject);
        self.db.write(Lane::Emergency, forget).await.map(|_| ())
    }
}
