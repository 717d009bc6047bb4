//! Push: endpoints here, what is handed to their providers next door.

mod deliveries;

pub(super) use deliveries::queue;

use super::PostgresStore;
use super::at::At;
use super::connect::Tx;
use super::failure::{read, unreadable, unwritable};
use super::inbox::Telling;
use crate::alerts::{Lane, contact_unreachable};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId, derived, fresh};
use crate::push::{Channel, Claimed, Endpoint, PushStore, Queue, Settled, Target, Urgency};
use async_trait::async_trait;
use sqlx::{query, query_as};
use uuid::Uuid;

/// What is swept in one transaction, so that no emergency waits behind a long one.
const SWEPT: i64 = 200;

const fn lane(urgency: Urgency) -> Lane {
    match urgency {
        Urgency::Emergency => Lane::Emergency,
        Urgency::Routine => Lane::Routine,
    }
}

fn target(text: &str) -> Stored<Target> {
    serde_json::from_str(text).map_err(|_| unreadable("push_endpoints.target"))
}

#[async_trait]
impl PushStore for PostgresStore {
    async fn register_endpoint(
        &self,
        user: UserId,
        device: DeviceId,
        target: &Target,
        at: Timestamp,
    ) -> Stored<bool> {
        let text = serde_json::to_string(target).map_err(|_| unwritable("push_endpoints.target"))?;
        let channel = target.channel().word();
        let id = derived("push endpoint", &[device.0.as_bytes(), channel.as_bytes()]);
        let mut tx = self.db.begin(Lane::Routine).await?;
        let moved = query(
            "DELETE FROM push_endpoints WHERE mark = $1 AND id <> $2
             AND EXISTS (SELECT 1 FROM devices WHERE id = $3 AND user_id = $4 AND removed_at IS NULL)",
        );
        tx.run(
            moved
                .bind(target.mark().map(|mark| mark.as_bytes().to_vec()))
                .bind(id)
                .bind(device.0)
                .bind(user.0),
        )
        .await?;
        let register = query(
            "INSERT INTO push_endpoints (id, user_id, device_id, channel, service, target, mark, registration, registered_at)
             SELECT $1, user_id, id, $2, $3, $4::jsonb, $5, $6, $7 FROM devices
             WHERE id = $8 AND user_id = $9 AND removed_at IS NULL
             ON CONFLICT (id) DO UPDATE SET service = excluded.service, target = excluded.target, mark = excluded.mark,
                 registration = excluded.registration, registered_at = excluded.registered_at",
        );
        let register = register
            .bind(id)
            .bind(channel)
            .bind(target.service())
            .bind(text)
            .bind(target.mark().map(|mark| mark.as_bytes().to_vec()))
            .bind(fresh(&self.clock))
            .bind(At(at))
            .bind(device.0)
            .bind(user.0);
        if tx.run(register).await? == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn remove_endpoint(&self, user: UserId, device: DeviceId, channel: Channel) -> Stored<bool> {
        let remove =
            query("DELETE FROM push_endpoints WHERE user_id = $1 AND device_id = $2 AND channel = $3");
        let remove = remove.bind(user.0).bind(device.0).bind(channel.word());
        Ok(self.db.write(Lane::Routine, remove).await? > 0)
    }

    async fn endpoints(&self, user: UserId) -> Stored<Vec<Endpoint>> {
        let endpoints = query_as::<_, (Uuid, String, At)>(
            "SELECT device_id, target::text, registered_at FROM push_endpoints WHERE user_id = $1 ORDER BY device_id, channel",
        );
        let rows = read(endpoints.bind(user.0).fetch_all(&self.db.routine)).await?;
        let endpoint = |(device, text, at): (Uuid, String, At)| {
            Ok(Endpoint { device: DeviceId(device), target: target(&text)?, registered_at: at.0 })
        };
        rows.into_iter().map(endpoint).collect()
    }

    async fn next_push(&self, queue: Queue) -> Stored<Option<Timestamp>> {
        deliveries::next(self, queue).await
    }

    async fn claim_pushes(
        &self,
        queue: Queue,
        except: &[String],
        limit: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Stored<Vec<Claimed>> {
        deliveries::claim(self, queue, except, limit, now, lease_until).await
    }

    async fn settle_pushes(
        &self,
        urgency: Urgency,
        settled: &[Settled],
        now: Timestamp,
    ) -> Stored<Vec<UserId>> {
        deliveries::settle(self, urgency, settled, now).await
    }

    async fn recover_pushes(&self, _now: Timestamp) -> Stored<u64> {
        // Another node may be sending them: a lease ends by itself.
        Ok(0)
    }

    async fn sweep_pushes(&self, now: Timestamp, expired: Timestamp) -> Stored<Vec<UserId>> {
        deliveries::give_up_late(self, now).await?;
        let mut told = Vec::new();
        loop {
            let old = query_as::<_, (Uuid, Uuid)>(
                "SELECT id, registration FROM push_endpoints
                 WHERE registered_at < $1 AND channel IN ('fcm', 'apns', 'webpush') LIMIT $2",
            );
            let old = read(old.bind(At(expired)).bind(SWEPT).fetch_all(&self.db.routine)).await?;
            if old.is_empty() {
                return Ok(told);
            }
            let mut tx = self.db.begin(Lane::Routine).await?;
            let mut telling = Telling::at(self.clock.now());
            for (id, registration) in old {
                remove(&mut tx, &mut telling, id, registration, None, now).await?;
            }
            let committed = telling.place(&mut tx).await?;
            tx.commit().await?;
            told.extend(committed.told);
        }
    }

    async fn replay_pushes(&self, now: Timestamp) -> Stored<u64> {
        let replay = query(
            "UPDATE push_deliveries SET state = 'waiting', reason = NULL, ended_at = NULL, due_at = $1, tries = 0,
                 deadline_at = $1 + lifetime_ms * interval '1 millisecond'
             WHERE state = 'dead'",
        );
        self.db.write(Lane::Routine, replay.bind(At(now))).await
    }
}

/// Removes an endpoint that does not exist any more, unless it was registered again. If it was its person's last, those
/// whose contact they are are told. `false` if it was not removed.
async fn remove(
    tx: &mut Tx,
    telling: &mut Telling,
    id: Uuid,
    registration: Uuid,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Stored<bool> {
    let remove = query_as::<_, (Uuid,)>(
        "DELETE FROM push_endpoints WHERE id = $1 AND registration = $2 AND ($3::timestamptz IS NULL OR registered_at < $3)
         RETURNING user_id",
    );
    let remove = remove.bind(id).bind(registration).bind(since.map(At));
    let Some((contact,)) = tx.one(remove).await? else { return Ok(false) };
    let left = query_as::<_, (i64,)>("SELECT count(*) FROM push_endpoints WHERE user_id = $1").bind(contact);
    if tx.one(left).await?.is_some_and(|(left,)| left > 0) {
        return Ok(true);
    }
    let subjects = query_as::<_, (Uuid, String)>(
        "SELECT l.subject_id, c.display_name FROM links l JOIN accounts c ON c.id = l.contact_id
         WHERE l.contact_id = $1 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
         AND l.scopes & 1 <> 0",
    );
    for (subject, name) in tx.all(subjects.bind(contact).bind(At(now))).await? {
        let draft = contact_unreachable(UserId(subject), UserId(contact), &name, registration, now);
        telling.tell(tx, &draft).await?;
    }
    Ok(true)
}
