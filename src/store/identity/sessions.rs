//! Sessions: opened, rotated and ended, with the revocations that any node reads.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, SessionId};
use crate::identity::{NewSession, Revoked, Rotation, Session};
use crate::store::database::{Database, Tx};
use crate::store::failure::unreadable;
use crate::store::sql::{query, sql};
use uuid::Uuid;

/// Makes or goes on with the device, then opens the session. `false` leaves everything as it was.
pub(super) async fn open(db: &Database, new: &NewSession) -> Stored<bool> {
    let session = &new.session;
    let mut tx = db.begin(Lane::Routine).await?;
    // Forgetting a person revokes every device that it finds: none may come between.
    let person = query(sql!("SELECT id FROM accounts WHERE id = $1" pg " FOR KEY SHARE"));
    if !tx.any(person.bind(session.user)).await? {
        return Ok(false);
    }
    let device = query(
        "INSERT INTO devices (id, user_id, name, platform, created_at) SELECT $1, $2, $3, $4, $5
         WHERE NOT EXISTS (SELECT 1 FROM revocations WHERE kind = 'device' AND id = $1)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, platform = excluded.platform
         WHERE devices.user_id = excluded.user_id AND devices.removed_at IS NULL",
    );
    let device = device.bind(session.device).bind(session.user).bind(&new.device_name);
    if tx.run(device.bind(new.platform).bind(new.at)).await? == 0 {
        return Ok(false);
    }
    let insert = query(
        "INSERT INTO sessions (id, user_id, device_id, salt, generation, rotated_at, stepped_up_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
    );
    let insert = insert
        .bind(session.id)
        .bind(session.user)
        .bind(session.device)
        .bind(session.salt.as_slice())
        .bind(session.generation)
        .bind(session.rotated_at)
        .bind(session.stepped_up_until);
    tx.run(insert).await?;
    tx.commit().await?;
    Ok(true)
}

/// The session. Those of a removed device are deleted with it.
pub(super) async fn one(db: &Database, id: SessionId) -> Stored<Option<Session>> {
    let session = query(
        "SELECT id, user_id, device_id, salt, generation, rotated_at, stepped_up_until FROM sessions WHERE id = $1",
    );
    let session = db.one(Lane::Routine, session.bind(id)).await?;
    Ok(session.map(|(id, user, device, salt, generation, rotated_at, stepped_up_until)| Session {
        id,
        user,
        device,
        salt,
        generation,
        rotated_at,
        stepped_up_until,
    }))
}

/// The next generation, the same successor again, or the end of a session whose token was used twice.
pub(super) async fn rotate(
    db: &Database,
    id: SessionId,
    generation: i64,
    grace_start: Timestamp,
    at: Timestamp,
) -> Stored<Rotation> {
    let mut tx = db.begin(Lane::Routine).await?;
    let current =
        query(sql!("SELECT generation, rotated_at FROM sessions WHERE id = $1" pg " FOR UPDATE")).bind(id);
    let Some((current, rotated_at)) = tx.one::<(i64, Timestamp)>(current).await? else {
        return Ok(Rotation::Gone);
    };
    if generation == current - 1 && rotated_at >= grace_start {
        return Ok(Rotation::Repeated);
    }
    let outcome = if generation == current {
        let next = query("UPDATE sessions SET generation = generation + 1, rotated_at = $2 WHERE id = $1");
        tx.run(next.bind(id).bind(at)).await?;
        Rotation::Rotated
    } else {
        end_in(&mut tx, id, at).await?;
        Rotation::Reused
    };
    tx.commit().await?;
    Ok(outcome)
}

pub(super) async fn step_up(db: &Database, id: SessionId, until: Timestamp) -> Stored<()> {
    let update = || query("UPDATE sessions SET stepped_up_until = $2 WHERE id = $1").bind(id).bind(until);
    db.write(Lane::Routine, update).await.map(|_| ())
}

pub(super) async fn end(db: &Database, id: SessionId, at: Timestamp) -> Stored<()> {
    let mut tx = db.begin(Lane::Routine).await?;
    end_in(&mut tx, id, at).await?;
    tx.commit().await
}

/// Ends the session, if it is open, and records the revocation.
async fn end_in(tx: &mut Tx<'_>, id: SessionId, at: Timestamp) -> Stored<()> {
    if tx.run(query("DELETE FROM sessions WHERE id = $1").bind(id)).await? > 0 {
        revoke(tx, "session", id.0, at).await?;
    }
    Ok(())
}

pub(super) async fn revoke(tx: &mut Tx<'_>, kind: &'static str, id: Uuid, at: Timestamp) -> Stored<()> {
    let revoke =
        query("INSERT INTO revocations (kind, id, revoked_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
    tx.run(revoke.bind(kind).bind(id).bind(at)).await.map(|_| ())
}

pub(super) async fn revoked_since(db: &Database, since: Timestamp) -> Stored<Vec<Revoked>> {
    let revoked = query("SELECT kind, id FROM revocations WHERE revoked_at >= $1 ORDER BY revoked_at, id");
    let rows = db.all::<(String, Uuid)>(Lane::Routine, revoked.bind(since)).await?;
    let revoked = rows.into_iter().map(|(kind, id)| match kind.as_str() {
        "device" => Ok(Revoked::Device(DeviceId(id))),
        "session" => Ok(Revoked::Session(SessionId(id))),
        _ => Err(unreadable("revocations.kind")),
    });
    revoked.collect()
}
