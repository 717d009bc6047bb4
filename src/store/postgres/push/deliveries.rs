//! Deliveries to providers: made with their alert, claimed with a lease, settled.

use super::super::PostgresStore;
use super::super::at::At;
use super::super::connect::{Tx, again};
use super::super::failure::{read, unreadable};
use super::super::inbox::Telling;
use super::{SWEPT, lane, remove, target};
use crate::alerts::{AlertDraft, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, EndpointId, UserId};
use crate::push::{
    ClaimKey, Claimed, Matter, Notification, Queue, Settled, Settlement, Urgency, deadline, first_due,
};
use sqlx::{query, query_as};
use uuid::Uuid;

/// One delivery for each endpoint of each recipient of an alert that is being stored.
pub(in super::super) async fn queue(tx: &mut Tx, draft: &AlertDraft, now: Timestamp) -> Stored<()> {
    let urgency = match draft.lane {
        Lane::Emergency => Urgency::Emergency,
        Lane::Routine => Urgency::Routine,
    };
    let until = deadline(Matter::of(draft.kind.word()), now);
    let make = query(
        "INSERT INTO push_deliveries (alert_id, endpoint_id, channel, urgency, state, due_at, deadline_at, lifetime_ms)
         SELECT d.alert_id, e.id, e.channel, $2, 'waiting', $3, $4, $5
         FROM deliveries d JOIN push_endpoints e ON e.user_id = d.recipient_id WHERE d.alert_id = $1",
    );
    let make = make
        .bind(draft.id.0)
        .bind(urgency.word())
        .bind(At(first_due(urgency, now)))
        .bind(At(until))
        .bind(until.unix_ms() - now.unix_ms());
    tx.run(make).await.map(|_| ())
}

/// When the next of a queue is due.
pub(super) async fn next(store: &PostgresStore, queue: Queue) -> Stored<Option<Timestamp>> {
    let next = query_as::<_, (Option<At>,)>(
        "SELECT min(due_at) FROM push_deliveries WHERE channel = $1 AND urgency = $2 AND due_at IS NOT NULL",
    );
    let readers = match queue.urgency {
        Urgency::Emergency => &store.db.emergency,
        Urgency::Routine => &store.db.routine,
    };
    let next = next.bind(queue.channel.word()).bind(queue.urgency.word());
    Ok(read(next.fetch_one(readers)).await?.0.map(Timestamp::from))
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    registration: Uuid,
    target: String,
    kind: String,
    locale: String,
    claims: i64,
    tries: i64,
    deadline_at: At,
    queued_at: At,
    received: bool,
    seen: bool,
}

impl ClaimedRow {
    fn key(&self, alert: Uuid, endpoint: Uuid) -> ClaimKey {
        ClaimKey {
            alert: AlertId(alert),
            endpoint: EndpointId(endpoint),
            claim: self.claims,
            registration: self.registration,
        }
    }

    fn claimed(self, key: ClaimKey, urgency: Urgency) -> Stored<Claimed> {
        Ok(Claimed {
            key,
            notification: Notification {
                alert: key.alert,
                matter: Matter::of(&self.kind),
                urgency,
                locale: self.locale,
                until: self.deadline_at.0,
            },
            target: target(&self.target)?,
            tries: u32::try_from(self.tries).map_err(|_| unreadable("push_deliveries.tries"))?,
            queued_at: self.queued_at.0,
            received: self.received,
            seen: self.seen,
        })
    }
}

/// Takes what is due.
pub(super) async fn claim(
    store: &PostgresStore,
    queue: Queue,
    except: &[String],
    limit: u32,
    now: Timestamp,
    lease_until: Timestamp,
) -> Stored<Vec<Claimed>> {
    let mut tx = store.db.begin(lane(queue.urgency)).await?;
    // Rows that another node is just claiming are passed over.
    let take = query_as::<_, (Uuid, Uuid)>(
        "UPDATE push_deliveries SET due_at = $4, lease_until = $4, claims = claims + 1
         WHERE (alert_id, endpoint_id) IN (
             SELECT p.alert_id, p.endpoint_id FROM push_deliveries p JOIN push_endpoints e ON e.id = p.endpoint_id
             WHERE p.channel = $1 AND p.urgency = $2 AND p.due_at <= $3 AND e.service <> ALL ($5)
             ORDER BY p.due_at, p.alert_id, p.endpoint_id LIMIT $6 FOR UPDATE OF p SKIP LOCKED)
         RETURNING alert_id, endpoint_id",
    );
    let take = take
        .bind(queue.channel.word())
        .bind(queue.urgency.word())
        .bind(At(now))
        .bind(At(lease_until))
        .bind(except)
        .bind(i64::from(limit));
    let taken = tx.all(take).await?;
    let mut claimed = Vec::with_capacity(taken.len());
    for (alert, endpoint) in taken {
        let whole = query_as::<_, ClaimedRow>(
            "SELECT e.registration, e.target::text AS target, a.kind, u.locale, p.claims, p.tries, p.deadline_at, d.queued_at,
                 d.received_at IS NOT NULL AS received, d.seen_at IS NOT NULL AS seen
             FROM push_deliveries p JOIN push_endpoints e ON e.id = p.endpoint_id JOIN accounts u ON u.id = e.user_id
             JOIN alerts a ON a.id = p.alert_id
             JOIN deliveries d ON d.alert_id = p.alert_id AND d.recipient_id = e.user_id
             WHERE p.alert_id = $1 AND p.endpoint_id = $2",
        );
        // Its person may be on the way out: then there is nobody to tell.
        if let Some(row) = tx.one(whole.bind(alert).bind(endpoint)).await? {
            let key = row.key(alert, endpoint);
            match row.claimed(key, queue.urgency) {
                Ok(one) => claimed.push(one),
                // It would stand before the others of its queue for ever.
                Err(error) => {
                    tracing::error!(%error, %alert, %endpoint, "a delivery cannot be read and is given up");
                    end(&mut tx, &key, "dead", Some("unreadable"), now).await?;
                }
            }
        }
    }
    tx.commit().await?;
    Ok(claimed)
}

/// Writes down what became of claims.
pub(super) async fn settle(
    store: &PostgresStore,
    urgency: Urgency,
    settled: &[Settled],
    now: Timestamp,
) -> Stored<Vec<UserId>> {
    // In one order, so that two nodes never wait for each other.
    let mut sorted: Vec<&Settled> = settled.iter().collect();
    sorted.sort_unstable_by_key(|s| (s.key.alert, s.key.endpoint));
    again(lane(urgency), || settle_once(store, urgency, &sorted, now)).await
}

async fn settle_once(
    store: &PostgresStore,
    urgency: Urgency,
    settled: &[&Settled],
    now: Timestamp,
) -> Stored<Vec<UserId>> {
    let mut tx = store.db.begin(lane(urgency)).await?;
    let mut telling = Telling::at(store.clock.now());
    for Settled { key, settlement } in settled {
        match *settlement {
            Settlement::Accepted => accept(&mut tx, key, now).await?,
            Settlement::Unneeded => end(&mut tx, key, "unneeded", None, now).await?,
            Settlement::Dead(reason) => end(&mut tx, key, "dead", Some(reason), now).await?,
            Settlement::Retry(at) => wait(&mut tx, key, at, 1).await?,
            Settlement::Later(at) => wait(&mut tx, key, at, 0).await?,
            Settlement::Gone(since) => {
                let (id, registration) = (key.endpoint.0, key.registration);
                if !remove(&mut tx, &mut telling, id, registration, since, now).await? {
                    wait(&mut tx, key, now, 0).await?;
                }
            }
        }
    }
    let told = telling.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(told)
}

/// Whoever claimed it since: the provider has it.
async fn accept(tx: &mut Tx, key: &ClaimKey, now: Timestamp) -> Stored<()> {
    let accept = query(
        "UPDATE push_deliveries SET state = 'accepted', reason = NULL, due_at = NULL, lease_until = NULL,
             ended_at = $3, tries = tries + 1
         WHERE alert_id = $1 AND endpoint_id = $2 AND state <> 'accepted'",
    );
    tx.run(accept.bind(key.alert.0).bind(key.endpoint.0).bind(At(now))).await?;
    let sent = query(
        "UPDATE deliveries SET sent_at = $3 WHERE sent_at IS NULL AND alert_id = $1
         AND recipient_id = (SELECT user_id FROM push_endpoints WHERE id = $2)",
    );
    tx.run(sent.bind(key.alert.0).bind(key.endpoint.0).bind(At(now))).await.map(|_| ())
}

async fn end(
    tx: &mut Tx,
    key: &ClaimKey,
    state: &'static str,
    reason: Option<&'static str>,
    now: Timestamp,
) -> Stored<()> {
    let end = query(
        "UPDATE push_deliveries SET state = $4, reason = $5, due_at = NULL, lease_until = NULL, ended_at = $6
         WHERE alert_id = $1 AND endpoint_id = $2 AND claims = $3 AND state = 'waiting'",
    );
    let end = end.bind(key.alert.0).bind(key.endpoint.0).bind(key.claim);
    tx.run(end.bind(state).bind(reason).bind(At(now))).await.map(|_| ())
}

async fn wait(tx: &mut Tx, key: &ClaimKey, at: Timestamp, tried: i64) -> Stored<()> {
    let wait = query(
        "UPDATE push_deliveries SET due_at = $4, lease_until = NULL, tries = tries + $5
         WHERE alert_id = $1 AND endpoint_id = $2 AND claims = $3 AND state = 'waiting'",
    );
    let wait = wait.bind(key.alert.0).bind(key.endpoint.0).bind(key.claim);
    tx.run(wait.bind(At(at)).bind(tried)).await.map(|_| ())
}

/// Gives up what has had its time, in short transactions.
pub(super) async fn give_up_late(store: &PostgresStore, now: Timestamp) -> Stored<()> {
    loop {
        let late = query(
            "UPDATE push_deliveries SET state = 'dead', reason = 'late', due_at = NULL, lease_until = NULL, ended_at = $1
             WHERE (alert_id, endpoint_id) IN (SELECT alert_id, endpoint_id FROM push_deliveries
                 WHERE due_at IS NOT NULL AND deadline_at <= $1 LIMIT $2)",
        );
        if store.db.write(Lane::Routine, late.bind(At(now)).bind(SWEPT)).await? == 0 {
            return Ok(());
        }
    }
}
