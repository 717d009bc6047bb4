//! Making a group of fixes durable.
//!
//! A number is taken first, in the table that has one row for each, and a fix is stored only if it took its number: so
//! (device, seq) is unique over all days. Rows go in sorted, so that two groups never wait for each other.

use super::WRITING;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::DeviceId;
use crate::store::failure::read;
use crate::store::pool::Pool;
use crate::store::postgres::connect::{Database, Tx, again};
use crate::tracking::{FixBatch, NewFix};
use sqlx::postgres::PgDatabaseError;
use sqlx::{query, query_as};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Rows of one statement.
const AT_ONCE: usize = 1_000;

/// Takes those of the numbers that are new and not of forgotten people, and answers with them.
const TAKE: &str = "
    INSERT INTO fix_numbers (device_id, seq, fixed_at)
    SELECT a.device_id, a.seq, a.fixed_at FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) a (device_id, seq, fixed_at)
    WHERE NOT EXISTS (SELECT 1 FROM forgotten f WHERE f.device_id = a.device_id) ORDER BY a.device_id, a.seq
    ON CONFLICT DO NOTHING RETURNING device_id, seq";

const STORE: &str = "
    INSERT INTO fixes (device_id, seq, fixed_at, received_at, streamed, lat, lon, accuracy_m, altitude_m, speed_mps,
        course_deg, battery)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::bool[], $6::float8[],
        $7::float8[], $8::float8[], $9::float8[], $10::float8[], $11::float8[], $12::float8[])";

/// Device, number and time of those of a list of numbers that are stored.
const KNOWN: &str = "
    SELECT n.device_id, n.seq, n.fixed_at FROM unnest($1::uuid[], $2::bigint[]) asked (device_id, seq)
    JOIN fix_numbers n ON n.device_id = asked.device_id AND n.seq = asked.seq";

/// Stores a group in one transaction.
pub(in crate::store) async fn record(db: &Database, fixes: &[NewFix]) -> Stored<FixBatch> {
    if fixes.is_empty() {
        return Ok(FixBatch::default());
    }
    db.days.prepare(db, fixes).await?;
    match again(Pool::Routine, || write(db, fixes)).await {
        // Another node dropped a day that was empty.
        Err(error) if found_no_partition(&error) => {
            db.days.forget();
            db.days.prepare(db, fixes).await?;
            again(Pool::Routine, || write(db, fixes)).await
        }
        done => done,
    }
}

/// Whether a row had no partition to go to: a check violation (23514) of no constraint.
fn found_no_partition(error: &StoreError) -> bool {
    let Some(sqlx::Error::Database(db)) = error.cause::<sqlx::Error>() else { return false };
    db.try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|pg| pg.code() == "23514" && pg.constraint().is_none())
}

/// Numbers of devices as two columns of one length.
fn numbers(asked: impl Iterator<Item = (DeviceId, i64)>) -> (Vec<Uuid>, Vec<i64>) {
    asked.map(|(device, seq)| (device.0, seq)).unzip()
}

/// Device, number and time of those of the numbers that are stored.
pub(in crate::store) async fn known(
    db: &Database,
    asked: &[(DeviceId, i64)],
) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
    let (devices, seqs) = numbers(asked.iter().copied());
    read(query_as(KNOWN).bind(devices).bind(seqs).fetch_all(&db.routine)).await
}

async fn write(db: &Database, fixes: &[NewFix]) -> Stored<FixBatch> {
    let mut tx = db.begin(Pool::Routine).await?;
    tx.run(query("SELECT pg_advisory_xact_lock_shared($1)").bind(WRITING)).await?;
    let mut batch = FixBatch::default();
    for (n, block) in fixes.chunks(AT_ONCE).enumerate() {
        keep_new(&mut tx, block, n * AT_ONCE, &mut batch).await?;
    }
    move_streams(&mut tx, fixes, &batch).await?;
    tx.commit().await?;
    Ok(batch)
}

/// A column of rows, to bind.
macro_rules! column {
    ($rows:ident, $row:ident => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}

/// Stores the fixes of a block whose numbers are new, and tells the others apart: known ones, and those whose number
/// belongs to another one. Of repeats within the block the first wins. `offset` is where the block starts in its group.
async fn keep_new(tx: &mut Tx, block: &[NewFix], offset: usize, batch: &mut FixBatch) -> Stored<()> {
    let mut firsts: BTreeMap<(DeviceId, i64), &NewFix> = BTreeMap::new();
    for row in block {
        firsts.entry((row.device, row.fix.seq)).or_insert(row);
    }
    let (devices, seqs) = numbers(firsts.keys().copied());
    let times: Vec<Timestamp> = firsts.values().map(|row| row.fix.fixed_at).collect();
    let take = query_as::<_, (Uuid, i64)>(TAKE).bind(devices).bind(seqs).bind(times);
    let taken = tx.all(take).await?;
    let new: Vec<&NewFix> =
        taken.iter().filter_map(|(device, seq)| firsts.remove(&(DeviceId(*device), *seq))).collect();
    store(tx, &new).await?;
    if new.len() < block.len() {
        tell_apart(tx, block, &firsts, offset, batch).await?;
    }
    Ok(())
}

async fn store(tx: &mut Tx, new: &[&NewFix]) -> Stored<()> {
    if new.is_empty() {
        return Ok(());
    }
    let insert = query(STORE)
        .bind(column!(new, row => row.device.0))
        .bind(column!(new, row => row.fix.seq))
        .bind(column!(new, row => row.fix.fixed_at))
        .bind(column!(new, row => row.received_at))
        .bind(column!(new, row => row.streamed))
        .bind(column!(new, row => row.fix.point.lat()))
        .bind(column!(new, row => row.fix.point.lon()))
        .bind(column!(new, row => row.fix.accuracy_m))
        .bind(column!(new, row => row.fix.altitude_m))
        .bind(column!(new, row => row.fix.speed_mps))
        .bind(column!(new, row => row.fix.course_deg))
        .bind(column!(new, row => row.fix.battery));
    tx.run(insert).await.map(|_| ())
}

/// `old` are the rows whose number was not new; whoever was just taking one of them has come to an end since.
async fn tell_apart(
    tx: &mut Tx,
    block: &[NewFix],
    old: &BTreeMap<(DeviceId, i64), &NewFix>,
    offset: usize,
    batch: &mut FixBatch,
) -> Stored<()> {
    let (devices, seqs) = numbers(old.keys().copied());
    let known = tx.all(query_as::<_, (Uuid, i64, Timestamp)>(KNOWN).bind(devices).bind(seqs)).await?;
    let mut known: HashMap<(DeviceId, i64), Timestamp> =
        known.into_iter().map(|(device, seq, at)| ((DeviceId(device), seq), at)).collect();
    for (n, row) in block.iter().enumerate() {
        let key = (row.device, row.fix.seq);
        match known.get(&key) {
            Some(at) if *at == row.fix.fixed_at => batch.duplicates.push(offset + n),
            Some(_) => batch.conflicts.push(offset + n),
            // New, so what repeats it is none; or of a forgotten person, which is neither.
            None if !old.contains_key(&key) => drop(known.insert(key, row.fix.fixed_at)),
            None => {}
        }
    }
    Ok(())
}

/// Moves the newest streamed number of each device forward.
async fn move_streams(tx: &mut Tx, fixes: &[NewFix], batch: &FixBatch) -> Stored<()> {
    let conflicts: BTreeSet<usize> = batch.conflicts.iter().copied().collect();
    let mut newest: BTreeMap<DeviceId, i64> = BTreeMap::new();
    let counts = |row: &NewFix| row.streamed && row.fix.number().is_some();
    for (_, row) in fixes.iter().enumerate().filter(|(n, row)| counts(row) && !conflicts.contains(n)) {
        let seq = newest.entry(row.device).or_insert(row.fix.seq);
        *seq = row.fix.seq.max(*seq);
    }
    if newest.is_empty() {
        return Ok(());
    }
    let (devices, seqs) = numbers(newest.into_iter());
    let forward = query(
        "INSERT INTO streams (device_id, last_seq)
         SELECT a.device_id, a.seq FROM unnest($1::uuid[], $2::bigint[]) a (device_id, seq)
         WHERE NOT EXISTS (SELECT 1 FROM forgotten f WHERE f.device_id = a.device_id) ORDER BY a.device_id
         ON CONFLICT (device_id) DO UPDATE SET last_seq = excluded.last_seq
             WHERE excluded.last_seq > streams.last_seq",
    );
    tx.run(forward.bind(devices).bind(seqs)).await.map(|_| ())
}
