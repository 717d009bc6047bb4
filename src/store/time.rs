//! The store's clock, and what is due by it.

use super::Store;
use super::database::Database;
use super::failure::unreadable;
use super::pool::Pool;
use super::sql::{Sql, query, sql};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::timekeeper::{Seen, TimeStore};
use async_trait::async_trait;

/// PostgreSQL has a clock; SQLite has the caller's. A row that somebody holds is passed over: nobody waits for another here.
const SEEN: Sql = sql!(
    pg "WITH free AS (SELECT only_row FROM fleet_clock FOR UPDATE SKIP LOCKED) "
    "UPDATE fleet_clock SET seen_at = " lite "max(seen_at, $1)"
    pg "greatest(seen_at, clock_timestamp()) FROM free WHERE fleet_clock.only_row = free.only_row
        AND $1::timestamptz IS NOT NULL"
    " RETURNING " lite "$1" pg "clock_timestamp()" " AS now, seen_at AS newest, steps, last_step_ms, undone"
);
/// The same while somebody holds the row. It takes a number of a transaction, so that it is written down as a raise is.
const READ: Sql = sql!(
    "SELECT " lite "$1" pg "clock_timestamp()" " AS now, seen_at AS newest, steps, last_step_ms, undone FROM fleet_clock"
    pg " WHERE $1::timestamptz IS NOT NULL AND pg_current_xact_id() IS NOT NULL"
);
const STEP: Sql = sql!(
    "UPDATE fleet_clock SET steps = steps + 1, last_step_ms = $2, undone = $3, seen_at = "
    lite "$4" pg "clock_timestamp()" " WHERE steps = $1" pg " AND $4::timestamptz IS NOT NULL"
);

/// A column that moves by `$1` milliseconds.
macro_rules! moved {
    (lite) => {
        " + $1"
    };
    (pg) => {
        " + $1 * interval '1 millisecond'"
    };
}

/// Everything that is waited for, with a version where something may be changed at the same time.
const DUE: [Sql; 4] = [
    sql!("UPDATE emergencies SET due_at = due_at" moved! ", countdown_until = countdown_until" moved!
         ", version = version + 1 WHERE due_at IS NOT NULL"),
    sql!("UPDATE check_ins SET due_at = due_at" moved! ", wakes_at = wakes_at" moved!
         ", version = version + 1 WHERE wakes_at IS NOT NULL"),
    sql!("UPDATE push_deliveries SET due_at = due_at" moved! ", lease_until = lease_until" moved!
         ", deadline_at = deadline_at" moved! " WHERE due_at IS NOT NULL"),
    sql!("UPDATE accounts SET pin_locked_until = pin_locked_until" moved! " WHERE pin_locked_until IS NOT NULL"),
];

#[derive(sqlx::FromRow)]
struct SeenRow {
    now: Timestamp,
    newest: Timestamp,
    steps: i64,
    last_step_ms: i64,
    undone: bool,
}

pub(super) async fn seen(db: &Database, wall: Timestamp) -> Stored<Seen> {
    let mut row: Option<SeenRow> = db.write_one(Pool::Emergency, query(SEEN).bind(wall)).await?;
    if row.is_none() {
        row = db.write_one(Pool::Emergency, query(READ).bind(wall)).await?;
    }
    let row = row.ok_or_else(|| unreadable("the clock of all nodes"))?;
    let SeenRow { now, newest, steps, last_step_ms, undone } = row;
    // The two columns are read one after the other.
    Ok(Seen { now, newest: newest.max(now), steps, last_step_ms, undone })
}

async fn step(db: &Database, from: i64, by_ms: i64, undoes: bool, wall: Timestamp) -> Stored<bool> {
    let mut tx = db.begin(Pool::Emergency).await?;
    if tx.run(query(STEP).bind(from).bind(by_ms).bind(undoes).bind(wall)).await? == 0 {
        return Ok(false);
    }
    for due in DUE {
        tx.run(query(due).bind(by_ms)).await?;
    }
    tx.commit().await?;
    Ok(true)
}

#[async_trait]
impl TimeStore for Store {
    async fn seen(&self, wall: Timestamp) -> Stored<Seen> {
        seen(&self.db, wall).await
    }
    async fn step(&self, from: i64, by_ms: i64, undoes: bool, wall: Timestamp) -> Stored<bool> {
        self.db.again(Pool::Emergency, || step(&self.db, from, by_ms, undoes, wall)).await
    }
}
