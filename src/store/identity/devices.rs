//! Devices, and which of a person's is tracked.

use super::sessions::revoke;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::identity::{Device, Platform};
use crate::store::database::Database;
use crate::store::sql::{Sql, query, sql};

type DeviceRow = (DeviceId, UserId, String, Platform, bool, Timestamp);

fn device((id, user, name, platform, tracked, created_at): DeviceRow) -> Device {
    Device { id, user, name, platform, tracked, created_at }
}

pub(super) async fn page(
    db: &Database,
    user: UserId,
    after: Option<DeviceId>,
    limit: u32,
) -> Stored<Vec<Device>> {
    let devices = query(sql!(
        "SELECT id, user_id, name, platform, tracked, created_at FROM devices
         WHERE user_id = $1 AND " past "id" "$2" " AND removed_at IS NULL ORDER BY id LIMIT $3"
    ));
    db.list(Lane::Routine, devices.bind(user).bind(after).bind(limit), device).await
}

pub(super) async fn one(db: &Database, id: DeviceId) -> Stored<Option<Device>> {
    let one = query(
        "SELECT id, user_id, name, platform, tracked, created_at FROM devices WHERE id = $1 AND removed_at IS NULL",
    );
    Ok(db.one(Lane::Routine, one.bind(id)).await?.map(device))
}

pub(super) async fn track(db: &Database, user: UserId, device: DeviceId) -> Stored<bool> {
    let mut tx = db.begin_with(Lane::Routine, user).await?;
    let others = query("UPDATE devices SET tracked = false WHERE user_id = $1 AND id <> $2 AND tracked");
    tx.run(others.bind(user).bind(device)).await?;
    let this =
        query("UPDATE devices SET tracked = true WHERE user_id = $1 AND id = $2 AND removed_at IS NULL");
    if tx.run(this.bind(user).bind(device)).await? == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

const TRACKED: Sql = sql!("SELECT id FROM devices WHERE user_id = $1 AND tracked" lite " = 1");

/// The tracked device of a person.
pub(in crate::store) async fn tracked(db: &Database, user: UserId) -> Stored<Option<DeviceId>> {
    Ok(db.one::<(DeviceId,)>(Lane::Routine, query(TRACKED).bind(user)).await?.map(|(id,)| id))
}

pub(super) async fn track_if_none(db: &Database, user: UserId, device: DeviceId) -> Stored<Option<DeviceId>> {
    // Asked at every stream's first fix, and nearly always answered by this.
    if let Some(known) = tracked(db, user).await? {
        return Ok(Some(known));
    }
    let mut tx = db.begin_with(Lane::Routine, user).await?;
    let track = query(sql!(
        "UPDATE devices SET tracked = true WHERE user_id = $1 AND id = $2 AND removed_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM devices WHERE user_id = $1 AND tracked" lite " = 1" ")"
    ));
    tx.run(track.bind(user).bind(device)).await?;
    let after = tx.one::<(DeviceId,)>(query(TRACKED).bind(user)).await?;
    tx.commit().await?;
    Ok(after.map(|(id,)| id))
}

pub(super) async fn untrack(db: &Database, user: UserId, device: DeviceId) -> Stored<bool> {
    let untrack = || {
        query("UPDATE devices SET tracked = false WHERE user_id = $1 AND id = $2 AND removed_at IS NULL")
            .bind(user)
            .bind(device)
    };
    Ok(db.write(Lane::Routine, untrack).await? > 0)
}

/// Removes the device, ends its sessions and records the revocations.
pub(super) async fn remove(db: &Database, user: UserId, device: DeviceId, at: Timestamp) -> Stored<bool> {
    let mut tx = db.begin(Lane::Routine).await?;
    let remove = query(
        "UPDATE devices SET removed_at = $3, tracked = false WHERE user_id = $1 AND id = $2 AND removed_at IS NULL",
    );
    if tx.run(remove.bind(user).bind(device).bind(at)).await? == 0 {
        return Ok(false);
    }
    revoke(&mut tx, "device", device.0, at).await?;
    let sessions = query(
        "INSERT INTO revocations (kind, id, revoked_at) SELECT 'session', id, $2 FROM sessions WHERE device_id = $1
         ON CONFLICT DO NOTHING",
    );
    tx.run(sessions.bind(device).bind(at)).await?;
    tx.run(query("DELETE FROM sessions WHERE device_id = $1").bind(device)).await?;
    tx.run(query("DELETE FROM push_endpoints WHERE device_id = $1").bind(device)).await?;
    tx.commit().await?;
    Ok(true)
}
