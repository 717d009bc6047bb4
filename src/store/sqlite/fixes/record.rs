//! Making a group of fixes durable.
//!
//! Rows go in by statements of a few fixed sizes, so that each is prepared once. A block whose rows were all new is
//! done; only one with a known (device, seq) among them is undone and looked at row by row.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::failure::read;
use crate::store::sqlite::connect::Database;
use crate::store::sqlite::writer::{Tx, Writer};
use crate::tracking::{FixBatch, NewFix};
use sqlx::{query, query_as};
use std::collections::HashMap;
use std::sync::LazyLock;
use uuid::Uuid;

/// Rows of one statement. Twelve values a row stay far below SQLite's 32,766.
const SIZES: [usize; 5] = [512, 128, 32, 8, 1];

static INSERTS: LazyLock<[String; 5]> = LazyLock::new(|| {
    SIZES.map(|rows| {
        let columns = "device_id, fixed_at, seq, received_at, streamed, lat, lon, accuracy_m, altitude_m, speed_mps, \
                       course_deg, battery";
        let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
        format!("INSERT INTO fixes ({columns}) VALUES {values} ON CONFLICT DO NOTHING")
    })
});

static STREAMS: LazyLock<[String; 5]> = LazyLock::new(|| {
    SIZES.map(|rows| {
        let values = vec!["(?, ?)"; rows].join(", ");
        format!(
            "INSERT INTO streams (device_id, last_seq) VALUES {values}
             ON CONFLICT (device_id) DO UPDATE SET last_seq = excluded.last_seq WHERE excluded.last_seq > last_seq"
        )
    })
});

/// The whole of `rows`, in pieces for which there is a statement.
fn pieces<'s, T>(
    statements: &'static [String; 5],
    mut rows: &'s [T],
) -> impl Iterator<Item = (&'static str, &'s [T])> {
    std::iter::from_fn(move || {
        let fits = SIZES.iter().position(|size| *size <= rows.len())?;
        let (piece, rest) = rows.split_at(SIZES[fits]);
        rows = rest;
        Some((statements[fits].as_str(), piece))
    })
}

/// Stores a group in one transaction.
pub(in crate::store) async fn record(writer: &Writer, fixes: &[NewFix]) -> Stored<FixBatch> {
    if fixes.is_empty() {
        return Ok(FixBatch::default());
    }
    let mut tx = writer.begin(Lane::Routine).await?;
    let mut batch = FixBatch::default();
    for (n, block) in fixes.chunks(SIZES[0]).enumerate() {
        tx.run(query("SAVEPOINT block")).await?;
        let rows: Vec<&NewFix> = block.iter().collect();
        if insert(&mut tx, &rows).await? < rows.len() {
            tx.run(query("ROLLBACK TO block")).await?;
            keep_new(&mut tx, block, n * SIZES[0], &mut batch).await?;
        }
        tx.run(query("RELEASE block")).await?;
    }
    move_streams(&mut tx, fixes, &batch).await?;
    tx.commit().await?;
    Ok(batch)
}

/// How many of the rows were new.
async fn insert(tx: &mut Tx<'_>, fixes: &[&NewFix]) -> Stored<usize> {
    let mut new = 0;
    for (sql, piece) in pieces(&INSERTS, fixes) {
        let mut insert = query(sql);
        for NewFix { device, fix, received_at, streamed } in piece {
            insert = insert
                .bind(device.0)
                .bind(fix.fixed_at.unix_ms())
                .bind(fix.seq)
                .bind(received_at.unix_ms())
                .bind(*streamed)
                .bind(fix.point.lat())
                .bind(fix.point.lon())
                .bind(fix.accuracy_m)
                .bind(fix.altitude_m)
                .bind(fix.speed_mps)
                .bind(fix.course_deg)
                .bind(fix.battery);
        }
        new += usize::try_from(tx.run(insert).await?).unwrap_or(usize::MAX);
    }
    Ok(new)
}

/// Device, number and time of those of the numbers that are stored.
pub(in crate::store) async fn known(
    db: &Database,
    asked: &[(DeviceId, i64)],
) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
    read(query_as(KNOWN).bind(numbers(asked.iter().copied())).fetch_all(&db.readers)).await
}

/// Tells new fixes from known ones and from those whose number is taken, and stores the new ones. Of repeats within
/// the block the first wins. `offset` is where the block starts in its group.
async fn keep_new(tx: &mut Tx<'_>, block: &[NewFix], offset: usize, batch: &mut FixBatch) -> Stored<()> {
    let mut taken = known_of(tx, block).await?;
    let mut new = Vec::with_capacity(block.len());
    for (n, row) in block.iter().enumerate() {
        match taken.get(&(row.device, row.fix.seq)) {
            None => {
                taken.insert((row.device, row.fix.seq), row.fix.fixed_at.unix_ms());
                new.push(row);
            }
            Some(at) if *at == row.fix.fixed_at.unix_ms() => batch.duplicates.push(offset + n),
            Some(_) => batch.conflicts.push(offset + n),
        }
    }
    // What is not stored now is of a forgotten person.
    insert(tx, &new).await.map(|_| ())
}

/// The times of those fixes of the block that are stored, by device and number.
async fn known_of(tx: &mut Tx<'_>, block: &[NewFix]) -> Stored<HashMap<(DeviceId, i64), i64>> {
    let asked = numbers(block.iter().map(|row| (row.device, row.fix.seq)));
    let rows = tx.all(query_as::<_, (Uuid, i64, i64)>(KNOWN).bind(asked)).await?;
    Ok(rows.into_iter().map(|(device, seq, at)| ((DeviceId(device), seq), at)).collect())
}

/// Device, number and time of those of a list of numbers that are stored. The cross join keeps the order: each asked one
/// is looked up, by the index that has all that is read.
const KNOWN: &str = "SELECT f.device_id, f.seq, f.fixed_at FROM json_each(?) asked CROSS JOIN fixes f
     ON f.device_id = unhex(asked.value ->> 0) AND f.seq = asked.value ->> 1";

/// Numbers of devices as a list that SQL can look into.
fn numbers(asked: impl Iterator<Item = (DeviceId, i64)>) -> String {
    let asked: Vec<String> =
        asked.map(|(device, seq)| format!("[\"{}\",{seq}]", device.0.simple())).collect();
    format!("[{}]", asked.join(","))
}

/// Moves the newest streamed number of each device forward.
async fn move_streams(tx: &mut Tx<'_>, fixes: &[NewFix], batch: &FixBatch) -> Stored<()> {
    let mut conflicts = batch.conflicts.iter().copied().peekable();
    let mut newest: HashMap<DeviceId, i64> = HashMap::new();
    for (n, row) in fixes.iter().enumerate() {
        let stored = conflicts.next_if_eq(&n).is_none();
        if stored && row.streamed && row.fix.number().is_some() {
            let seq = newest.entry(row.device).or_insert(row.fix.seq);
            *seq = row.fix.seq.max(*seq);
        }
    }
    let newest: Vec<(DeviceId, i64)> = newest.into_iter().collect();
    for (sql, piece) in pieces(&STREAMS, &newest) {
        let upsert = piece.iter().fold(query(sql), |q, (device, seq)| q.bind(device.0).bind(*seq));
        tx.run(upsert).await?;
    }
    Ok(())
}
