//! Fixes as PostgreSQL keeps them: a table for each day of their time, and their numbers in a table of its own.

mod days;
mod expire;
mod record;

pub(in crate::store) use days::Days;
pub(in crate::store) use expire::expire_fixes;
pub(in crate::store) use record::{known, record};

use super::connect::Database;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::pool::Pool;
use sqlx::query;

/// Who writes fixes holds this shared until the commit. Who marks a device as forgotten holds it alone, so that no fix of
/// it comes after that.
const WRITING: i64 = 0x63_696d_615f_6669;

/// Refuses what is still on its way of a device.
pub(in crate::store) async fn refuse_fixes(db: &Database, device: DeviceId) -> Stored<()> {
    let mut tx = db.begin(Pool::Routine).await?;
    tx.run(query("SELECT pg_advisory_xact_lock($1)").bind(WRITING)).await?;
    let mark = query("INSERT INTO forgotten (device_id) VALUES ($1) ON CONFLICT DO NOTHING");
    tx.run(mark.bind(device.0)).await?;
    tx.commit().await
}
