//! Sessions: opened, rotated and ended, with the revocations that any node reads.

use super::PostgresStore;
use super::at::At;
use super::connect::{Tx, again};
use super::failure::read;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId, UserId};
use crate::identity::{NewSession, Rotation, Session};
use sqlx::{query, query_as};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct SessionRow {
    id: Uuid,
    user_id: Uuid,
    device_id: Uuid,
    salt: Vec<u8>,
    generation: i64,
    rotated_at: At,
    stepped_up_until: At,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: SessionId(row.id),
            user: UserId(row.user_id),
            device: DeviceId(row.device_id),
            salt: row.salt,
            generation: row.generation,
            rotated_at: row.rotated_at.0,
            stepped_up_until: row.stepped_up_until.0,
        }
    }
}

/// Makes or goes on with the device, then opens the session. `false` leaves everything as it was.
pub(super) async fn open(store: &PostgresStore, new: NewSession) -> Stored<bool> {
    again(Lane::Routine, || open_once(store, &new)).await
}

async fn open_once(store: &PostgresStore, new: &NewSession) -> Stored<bool> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    // Its forgetting revokes every device that it finds.
    let person = query_as::<_, (Uuid,)>("SELECT id FROM accounts WHERE id = $1 FOR KEY SHARE");
    if tx.one(person.bind(new.session.user.0)).await?.is_none() {
        return Ok(false);
    }
    let device = query(
        "INSERT INTO devices (id, user_id, name, platform, created_at)
         SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::timestamptz
         WHERE NOT EXISTS (SELECT 1 FROM revocations WHERE kind = 'device' AND id = $1)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, platform = excluded.platform
         WHERE devices.user_id = excluded.user_id AND devices.removed_at IS NULL",
    );
    let session = &new.session;
    let device = device
        .bind(session.device.0)
        .bind(session.user.0)
        .bind(&new.device_name)
        .bind(new.platform.word())
        .bind(At(new.at));
    if tx.run(device).await? == 0 {
        return Ok(false);
    }
    let insert = query(
        "INSERT INTO sessions (id, user_id, device_id, salt, generation, rotated_at, stepped_up_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
    );
    let insert = insert
        .bind(session.id.0)
        .bind(session.user.0)
        .bind(session.device.0)
        .bind(&session.salt)
        .bind(session.generation)
        .bind(At(session.rotated_at))
        .bind(At(session.stepped_up_until));
    tx.run(insert).await?;
    tx.commit().await?;
    Ok(true)
}

/// The session. Those of a removed device are deleted with it.
pub(super) async fn session(store: &PostgresStore, id: SessionId) -> Stored<Option<Session>> {
    let session = query_as::<_, SessionRow>("SELECT * FROM sessions WHERE id = $1").bind(id.0);
    Ok(read(session.fetch_optional(&store.db.routine)).await?.map(Session::from))
}

/// The next generation, the same successor again, or the end of a session whose token was used twice.
pub(super) async fn rotate(
    store: &PostgresStore,
    id: SessionId,
    generation: i64,
    grace_start: Timestamp,
    at: Timestamp,
) -> Stored<Rotation> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let current =
        query_as::<_, (i64, At)>("SELECT generation, rotated_at FROM sessions WHERE id = $1 FOR UPDATE")
            .bind(id.0);
    let Some((current, rotated_at)) = tx.one(current).await? else { return Ok(Rotation::Gone) };
    if generation == current - 1 && rotated_at.0 >= grace_start {
        return Ok(Rotation::Repeated);
    }
    let outcome = if generation == current {
        let next = query("UPDATE sessions SET generation = generation + 1, rotated_at = $2 WHERE id = $1");
        tx.run(next.bind(id.0).bind(At(at))).await?;
        Rotation::Rotated
    } else {
        end(&mut tx, id, at).await?;
        Rotation::Reused
    };
    tx.commit().await?;
    Ok(outcome)
}

/// Ends the session, if it is open, and records the revocation.
pub(super) async fn end(tx: &mut Tx, id: SessionId, at: Timestamp) -> Stored<()> {
    if tx.run(query("DELETE FROM sessions WHERE id = $1").bind(id.0)).await? > 0 {
        revoke(tx, "session", id.0, at).await?;
    }
    Ok(())
}

/// Removes the device, ends its sessions and records the revocations.
pub(super) async fn remove_device(
    store: &PostgresStore,
    user: UserId,
    device: DeviceId,
    at: Timestamp,
) -> Stored<bool> {
    again(Lane::Routine, || remove_device_once(store, user, device, at)).await
}

async fn remove_device_once(
    store: &PostgresStore,
    user: UserId,
    device: DeviceId,
    at: Timestamp,
) -> Stored<bool> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let remove = query(
        "UPDATE devices SET removed_at = $3, tracked = false WHERE user_id = $1 AND id = $2 AND removed_at IS NULL",
    );
    if tx.run(remove.bind(user.0).bind(device.0).bind(At(at))).await? == 0 {
        return Ok(false);
    }
    revoke(&mut tx, "device", device.0, at).await?;
    let sessions = query(
        "INSERT INTO revocations (kind, id, revoked_at) SELECT 'session', id, $2::timestamptz FROM sessions WHERE device_id = $1
         ON CONFLICT DO NOTHING",
    );
    tx.run(sessions.bind(device.0).bind(At(at))).await?;
    tx.run(query("DELETE FROM sessions WHERE device_id = $1").bind(device.0)).await?;
    tx.run(query("DELETE FROM push_endpoints WHERE device_id = $1").bind(device.0)).await?;
    tx.commit().await?;
    Ok(true)
}

async fn revoke(tx: &mut Tx, kind: &'static str, id: Uuid, at: Timestamp) -> Stored<()> {
    let revoke =
        query("INSERT INTO revocations (kind, id, revoked_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
    tx.run(revoke.bind(kind).bind(id).bind(At(at))).await.map(|_| ())
}
