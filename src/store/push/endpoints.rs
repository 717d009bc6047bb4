//! Where people are reached: registered, moved, and given up.

use super::SWEPT;
use crate::alerts::{Lane, contact_unreachable};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EndpointId, UserId, derived, fresh};
use crate::push::{Channel, Endpoint, Target};
use crate::store::Store;
use crate::store::alerts::inbox::NewAlerts;
use crate::store::database::{Database, Tx};
use crate::store::failure::unwritable;
use crate::store::sql::query;
use crate::store::value::Json;
use uuid::Uuid;

pub(super) async fn register(
    store: &Store,
    user: UserId,
    device: DeviceId,
    target: &Target,
    at: Timestamp,
) -> Stored<bool> {
    let text = serde_json::to_string(target).map_err(|_| unwritable("push_endpoints.target"))?;
    let mark = target.mark().map(|mark| mark.into_bytes().to_vec());
    let id = derived("push endpoint", &[device.0.as_bytes(), target.channel().word().as_bytes()]);
    let mut tx = store.db.begin(Lane::Routine).await?;
    let moved = query(
        "DELETE FROM push_endpoints WHERE mark = $1 AND id <> $2
         AND EXISTS (SELECT 1 FROM devices WHERE id = $3 AND user_id = $4 AND removed_at IS NULL)",
    );
    tx.run(moved.bind(mark.clone()).bind(id).bind(device).bind(user)).await?;
    let register = query(
        "INSERT INTO push_endpoints (id, user_id, device_id, channel, service, target, mark, registration, registered_at)
         SELECT $1, user_id, id, $2, $3, $4::jsonb, $5, $6, $7 FROM devices
         WHERE id = $8 AND user_id = $9 AND removed_at IS NULL
         ON CONFLICT (id) DO UPDATE SET service = excluded.service, target = excluded.target, mark = excluded.mark,
             registration = excluded.registration, registered_at = excluded.registered_at",
    );
    let register = register
        .bind(id)
        .bind(target.channel())
        .bind(target.service())
        .bind(text)
        .bind(mark)
        .bind(fresh(&store.clock))
        .bind(at)
        .bind(device)
        .bind(user);
    if tx.run(register).await? == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn remove(db: &Database, user: UserId, device: DeviceId, channel: Channel) -> Stored<bool> {
    let remove = || {
        query("DELETE FROM push_endpoints WHERE user_id = $1 AND device_id = $2 AND channel = $3")
            .bind(user)
            .bind(device)
            .bind(channel)
    };
    Ok(db.write(Lane::Routine, remove).await? > 0)
}

/// A person's endpoints.
pub(super) async fn of(db: &Database, user: UserId) -> Stored<Vec<Endpoint>> {
    let endpoints = query(
        "SELECT device_id, target, registered_at FROM push_endpoints WHERE user_id = $1 ORDER BY device_id, channel",
    );
    let endpoint = |(device, Json(target), registered_at): (DeviceId, Json<Target>, Timestamp)| Endpoint {
        device,
        target,
        registered_at,
    };
    db.list(Lane::Routine, endpoints.bind(user), endpoint).await
}

/// Removes the platform tokens that were last registered before then.
pub(super) async fn sweep(store: &Store, now: Timestamp, expired: Timestamp) -> Stored<Vec<UserId>> {
    let mut told = Vec::new();
    loop {
        let old = query(
            "SELECT id, registration FROM push_endpoints
             WHERE registered_at < $1 AND channel IN ('fcm', 'apns', 'webpush') LIMIT $2",
        );
        let old = store.db.all(Lane::Routine, old.bind(expired).bind(SWEPT)).await?;
        if old.is_empty() {
            return Ok(told);
        }
        told.extend(store.db.again(Lane::Routine, || sweep_some(store, &old, now)).await?);
    }
}

async fn sweep_some(store: &Store, old: &[(EndpointId, Uuid)], now: Timestamp) -> Stored<Vec<UserId>> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let mut new = NewAlerts::at(store.clock.now());
    for (id, registration) in old {
        give_up(&mut tx, &mut new, *id, *registration, None, now).await?;
    }
    let told = new.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(told)
}

/// Removes an endpoint that does not exist any more, unless it was registered again. If it was its person's last, those
/// whose contact they are are told. `false` if it was not removed.
pub(super) async fn give_up(
    tx: &mut Tx<'_>,
    new: &mut NewAlerts,
    id: EndpointId,
    registration: Uuid,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Stored<bool> {
    let remove = query(
        "DELETE FROM push_endpoints
         WHERE id = $1 AND registration = $2 AND ($3::timestamptz IS NULL OR registered_at < $3) RETURNING user_id",
    );
    let removed = tx.one::<(UserId,)>(remove.bind(id).bind(registration).bind(since)).await?;
    let Some((contact,)) = removed else { return Ok(false) };
    if tx.any(query("SELECT 1 FROM push_endpoints WHERE user_id = $1 LIMIT 1").bind(contact)).await? {
        return Ok(true);
    }
    let subjects = query(
        "SELECT l.subject_id, c.display_name FROM links l JOIN accounts c ON c.id = l.contact_id
         WHERE l.contact_id = $1 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
         AND l.scopes & 1 <> 0",
    );
    for (subject, name) in tx.all::<(UserId, String)>(subjects.bind(contact).bind(now)).await? {
        new.tell(tx, &contact_unreachable(subject, contact, &name, registration, now)).await?;
    }
    Ok(true)
}
