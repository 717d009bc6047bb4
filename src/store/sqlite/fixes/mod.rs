//! Fixes as `fixes.db` keeps them: in the order of their events, with their numbers in an index.

mod expire;
mod record;

pub(in crate::store) use expire::expire_fixes;
pub(in crate::store) use record::{known, record};

use super::connect::Database;
use crate::alerts::Lane;
use crate::error::Stored;
use crate::id::DeviceId;
use sqlx::query;

/// Refuses what is still on its way of a device.
pub(in crate::store) async fn refuse_fixes(db: &Database, device: DeviceId) -> Stored<()> {
    let mark = query("INSERT INTO forgotten (device_id) VALUES ($1) ON CONFLICT DO NOTHING").bind(device.0);
    db.writer.write(Lane::Routine, mark).await.map(|_| ())
}
