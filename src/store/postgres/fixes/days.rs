//! The days that fixes are kept by: made when the first fix of one comes, dropped when the last has had its time.

use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::store::failure::{read, unreadable};
use crate::store::pool::Pool;
use crate::store::postgres::connect::{Database, again};

use crate::tracking::NewFix;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;
/// Days are made and dropped by one node at a time.
const CHANGING: i64 = 0x63_696d_615f_6461;
/// A day may get fixes again so long after it, and is not dropped before.
const RESTING: Duration = Duration::from_secs(2 * 86_400);

/// Which days are known to be there. They are made and dropped over the connections of fixes, so nobody else waits.
pub(in crate::store) struct Days {
    known: Mutex<BTreeSet<i64>>,
    clock: Clock,
}

fn day_of(at: Timestamp) -> i64 {
    at.unix_ms().div_euclid(DAY_MS)
}

/// The table of a day. Of its number, so that every day has a name whatever its year.
fn table(day: i64) -> String {
    if day < 0 { format!("fixes_before_{}", day.unsigned_abs()) } else { format!("fixes_{day}") }
}

fn day_of_table(name: &str) -> Option<i64> {
    match name.strip_prefix("fixes_before_") {
        Some(before) => before.parse::<i64>().ok().map(|day| -day),
        None => name.strip_prefix("fixes_")?.parse().ok(),
    }
}

impl Days {
    pub(in crate::store) fn new(clock: Clock) -> Self {
        Self { known: Mutex::default(), clock }
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        // A set is whole after any panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again before the next writing.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    /// Makes the days of these fixes that are not there.
    pub(super) async fn prepare(&self, db: &Database, fixes: &[NewFix]) -> Stored<()> {
        let mut missing = BTreeSet::new();
        {
            let known = self.known();
            missing.extend(fixes.iter().map(|f| day_of(f.fix.fixed_at)).filter(|day| !known.contains(day)));
        }
        for day in missing {
            again(Pool::Routine, || make(db, day)).await?;
            self.known().insert(day);
        }
        Ok(())
    }

    /// Drops the past days that are empty. One that somebody reads just now stays until the next time.
    pub(in crate::store) async fn drop_empty(&self, db: &Database) -> Stored<()> {
        let days = query_scalar::<_, String>(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'fixes'::regclass",
        );
        let names = read(days.fetch_all(&db.routine)).await?;
        let last = day_of(self.clock.now() - RESTING);
        for day in names.iter().filter_map(|name| day_of_table(name)).filter(|day| *day < last) {
            self.known().remove(&day);
            match drop_if_empty(db, day).await {
                Ok(true) => tracing::debug!(day, "a day without fixes is dropped"),
                Ok(false) => {}
                Err(error) => tracing::debug!(day, %error, "a day stays for now"),
            }
        }
        Ok(())
    }
}

/// Makes the table of a day and attaches it, which unlike making it as a partition does not wait for readers.
async fn make(db: &Database, day: i64) -> Stored<()> {
    let name = table(day);
    let mut tx = db.begin(Pool::Routine).await?;
    tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(CHANGING)).await?;
    let there = query_as::<_, (bool,)>("SELECT to_regclass($1) IS NOT NULL").bind(&name);
    if tx.one(there).await? == Some((true,)) {
        return Ok(());
    }
    // Bounds are literals by their grammar; these are made of a number. Postgres keeps what it cannot put into a day.
    let from = format!("to_timestamp({})", day.saturating_mul(DAY_MS / 1_000));
    let bounds = query_as::<_, (String, String)>(AssertSqlSafe(format!(
        "SELECT ({from} AT TIME ZONE 'UTC')::text || '+00', ({from} AT TIME ZONE 'UTC' + interval '1 day')::text || '+00'"
    )));
    let (from, to) = tx.one(bounds).await?.ok_or_else(|| unreadable("fixes"))?;
    tx.run(query(AssertSqlSafe(format!("CREATE TABLE {name} (LIKE fixes INCLUDING ALL)")))).await?;
    let attach = format!("ALTER TABLE fixes ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')");
    tx.run(query(AssertSqlSafe(attach))).await?;
    tx.commit().await
}

/// Drops a day if it is empty. Whoever writes fixes waits meanwhile, so it gives up rather than wait itself.
async fn drop_if_empty(db: &Database, day: i64) -> Stored<bool> {
    let name = table(day);
    let mut tx = db.begin(Pool::Routine).await?;
    tx.run(query("SET LOCAL lock_timeout = 100")).await?;
    tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(CHANGING)).await?;
    let some = format!("SELECT EXISTS (SELECT 1 FROM {name})");
    if tx.one(query_as::<_, (bool,)>(AssertSqlSafe(some.clone()))).await? == Some((true,)) {
        return Ok(false);
    }
    tx.run(query(AssertSqlSafe(format!("LOCK TABLE fixes, {name} IN ACCESS EXCLUSIVE MODE")))).await?;
    if tx.one(query_as::<_, (bool,)>(AssertSqlSafe(some))).await? == Some((true,)) {
        return Ok(false);
    }
    tx.run(query(AssertSqlSafe(format!("DROP TABLE {name}")))).await?;
    tx.commit().await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_found_in_the_name_of_its_table() {
        for day in [-719_162, -1, 0, 1, 20_000] {
            assert_eq!(day_of_table(&table(day)), Some(day));
        }
        assert_eq!(day_of_table("fixes_default"), None);
        assert_eq!(day_of(Timestamp::from_unix_ms(-1)), -1);
        assert_eq!(day_of(Timestamp::from_unix_ms(DAY_MS)), 1);
    }
}
