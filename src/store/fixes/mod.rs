//! Fixes and trails.

use super::database::Database;
use crate::alerts::Lane;
use crate::error::Stored;
use crate::id::DeviceId;
use crate::store::sql::query;
use crate::store::{postgres, sqlite};

/// Fixes deleted in one transaction; others write between two of them.
const DELETED_AT_ONCE: i64 = 2_000;

/// Fixes, and the trails of emergencies.
pub struct Fixes {
    db: Database,
}

impl Fixes {
    pub(super) fn new(db: Database) -> Self {
        Self { db }
    }

    pub(super) fn database(&self) -> &Database {
        &self.db
    }

    /// Deletes everything of these devices, and refuses what of theirs is still on its way.
    pub(super) async fn forget(&self, devices: &[DeviceId]) -> Stored<()> {
        for device in devices {
            match &self.db {
                Database::Lite(db) => sqlite::refuse_fixes(db, *device).await?,
                Database::Pg(db) => postgres::refuse_fixes(db, *device).await?,
            }
            let some = || {
                query(
                    "DELETE FROM fixes WHERE device_id = $1 AND (fixed_at, seq) IN
                         (SELECT fixed_at, seq FROM fixes WHERE device_id = $1 ORDER BY fixed_at, seq LIMIT $2)",
                )
                .bind(*device)
                .bind(DELETED_AT_ONCE)
            };
            self.db.write_all(some).await?;
            if let Database::Pg(db) = &self.db {
                postgres::forget_numbers(db, *device).await?;
            }
            let stream = || query("DELETE FROM streams WHERE device_id = $1").bind(*device);
            self.db.write(Lane::Routine, stream).await?;
        }
        Ok(())
    }
}
