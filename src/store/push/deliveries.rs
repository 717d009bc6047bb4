//! Deliveries to providers: made with their alert, claimed with a lease, settled.

use super::endpoints::give_up;
use super::{SWEPT, lane};
use crate::alerts::{AlertDraft, Lane};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, EndpointId, UserId};
use crate::push::{
    Channel, ClaimKey, Claimed, Matter, Notification, Queue, Settled, Settlement, Urgency, deadline,
    first_due,
};
use crate::store::Store;
use crate::store::alerts::inbox::NewAlerts;
use crate::store::database::{Database, Tx};
use crate::store::failure::unreadable;
use crate::store::sql::{query, sql};
use crate::store::value::Json;
use uuid::Uuid;

/// One delivery for each endpoint of each recipient of an alert that is being stored.
pub(in crate::store) async fn queue(tx: &mut Tx<'_>, draft: &AlertDraft, now: Timestamp) -> Stored<()> {
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
        .bind(draft.id)
        .bind(urgency)
        .bind(first_due(urgency, now))
        .bind(until)
        .bind(until.unix_ms() - now.unix_ms());
    tx.run(make).await.map(|_| ())
}

/// When the next of a queue is due.
pub(super) async fn next(db: &Database, queue: Queue) -> Stored<Option<Timestamp>> {
    let next = query(
        "SELECT min(due_at) FROM push_deliveries WHERE channel = $1 AND urgency = $2 AND due_at IS NOT NULL",
    );
    let next = next.bind(queue.channel).bind(queue.urgency);
    Ok(db.one::<(Option<Timestamp>,)>(lane(queue.urgency), next).await?.and_then(|(due,)| due))
}

/// When the alert of the oldest delivery of an emergency was stored that no provider has taken yet.
pub(super) async fn oldest_emergency(db: &Database) -> Stored<Option<Timestamp>> {
    let channels: Vec<String> = Channel::ALL.iter().map(|channel| channel.word().to_owned()).collect();
    // By the index of what is due, in which the few are that wait.
    let oldest = query(sql!(
        "SELECT min(d.queued_at) FROM push_deliveries p JOIN push_endpoints e ON e.id = p.endpoint_id
         JOIN deliveries d ON d.alert_id = p.alert_id AND d.recipient_id = e.user_id
         WHERE p.channel " pg "= ANY ($1)" lite "IN (SELECT value FROM json_each($1))" "
         AND p.urgency = $2 AND p.due_at IS NOT NULL"
    ));
    let oldest = oldest.bind(channels.as_slice()).bind(Urgency::Emergency);
    Ok(db.one::<(Option<Timestamp>,)>(Lane::Routine, oldest).await?.and_then(|(oldest,)| oldest))
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    registration: Uuid,
    target: Json<serde_json::Value>,
    kind: String,
    locale: String,
    claims: i64,
    tries: i64,
    deadline_at: Timestamp,
    queued_at: Timestamp,
    at: Timestamp,
    received: bool,
    seen: bool,
}

impl ClaimedRow {
    fn claimed(self, key: ClaimKey, urgency: Urgency) -> Stored<Claimed> {
        Ok(Claimed {
            key,
            notification: Notification {
                alert: key.alert,
                matter: Matter::of(&self.kind),
                urgency,
                locale: self.locale,
                until: self.deadline_at,
            },
            target: serde_json::from_value(self.target.0).map_err(|_| unreadable("push_endpoints.target"))?,
            tries: u32::try_from(self.tries).map_err(|_| unreadable("push_deliveries.tries"))?,
            queued_at: self.queued_at,
            at: self.at,
            received: self.received,
            seen: self.seen,
        })
    }
}

/// Takes what is due, and passes over what another node is just taking.
pub(super) async fn claim(
    db: &Database,
    queue: Queue,
    except: &[String],
    limit: u32,
    now: Timestamp,
    lease_until: Timestamp,
) -> Stored<Vec<Claimed>> {
    let mut tx = db.begin(lane(queue.urgency)).await?;
    let take = query(sql!(
        "UPDATE push_deliveries SET due_at = $4, lease_until = $4, claims = claims + 1
         WHERE (alert_id, endpoint_id) IN (
             SELECT p.alert_id, p.endpoint_id FROM push_deliveries p JOIN push_endpoints e ON e.id = p.endpoint_id
             WHERE p.channel = $1 AND p.urgency = $2 AND p.due_at <= $3
             AND e.service " pg "<> ALL ($5)" lite "NOT IN (SELECT value FROM json_each($5))" "
             ORDER BY p.due_at, p.alert_id, p.endpoint_id LIMIT $6" pg " FOR UPDATE OF p SKIP LOCKED" ")
         RETURNING alert_id, endpoint_id"
    ));
    let take = take.bind(queue.channel).bind(queue.urgency).bind(now).bind(lease_until);
    let taken = tx.all::<(AlertId, EndpointId)>(take.bind(except).bind(limit)).await?;
    let mut claimed = Vec::with_capacity(taken.len());
    for (alert, endpoint) in taken {
        // Of an end under duress a phone shows what it shows of a true end: others may look at it.
        let whole = query(
            "SELECT e.registration, e.target,
                 CASE WHEN a.template = 'emergency.duress' THEN 'emergency_update' ELSE a.kind END AS kind,
                 u.locale, p.claims, p.tries, p.deadline_at, d.queued_at, a.at,
                 d.received_at IS NOT NULL AS received, d.seen_at IS NOT NULL AS seen
             FROM push_deliveries p JOIN push_endpoints e ON e.id = p.endpoint_id JOIN accounts u ON u.id = e.user_id
             JOIN alerts a ON a.id = p.alert_id
             JOIN deliveries d ON d.alert_id = p.alert_id AND d.recipient_id = e.user_id
             WHERE p.alert_id = $1 AND p.endpoint_id = $2",
        );
        // Its person may be on the way out: then there is nobody to tell.
        if let Some(row) = tx.one::<ClaimedRow>(whole.bind(alert).bind(endpoint)).await? {
            let key = ClaimKey { alert, endpoint, claim: row.claims, registration: row.registration };
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
    store: &Store,
    urgency: Urgency,
    settled: &[Settled],
    now: Timestamp,
) -> Stored<Vec<UserId>> {
    // In one order, so that two nodes never wait for each other.
    let mut sorted: Vec<&Settled> = settled.iter().collect();
    sorted.sort_by_key(|s| (s.key.alert, s.key.endpoint));
    store.db.again(lane(urgency), || settle_once(store, urgency, &sorted, now)).await
}

async fn settle_once(
    store: &Store,
    urgency: Urgency,
    settled: &[&Settled],
    now: Timestamp,
) -> Stored<Vec<UserId>> {
    let mut tx = store.db.begin(lane(urgency)).await?;
    let mut new = NewAlerts::at(store.clock.now());
    for Settled { key, settlement } in settled {
        match *settlement {
            Settlement::Accepted => accept(&mut tx, key, now).await?,
            Settlement::Unneeded => end(&mut tx, key, "unneeded", None, now).await?,
            Settlement::Dead(reason) => end(&mut tx, key, "dead", Some(reason), now).await?,
            Settlement::Retry(at) => wait(&mut tx, key, at, 1).await?,
            Settlement::Later(at) => wait(&mut tx, key, at, 0).await?,
            Settlement::Gone(since) => {
                if !give_up(&mut tx, &mut new, key.endpoint, key.registration, since, now).await? {
                    wait(&mut tx, key, now, 0).await?;
                }
            }
        }
    }
    let told = new.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(told)
}

/// Whoever claimed it since: the provider has it.
async fn accept(tx: &mut Tx<'_>, key: &ClaimKey, now: Timestamp) -> Stored<()> {
    let accept = query(
        "UPDATE push_deliveries SET state = 'accepted', reason = NULL, due_at = NULL, lease_until = NULL,
             ended_at = $3, tries = tries + 1
         WHERE alert_id = $1 AND endpoint_id = $2 AND state <> 'accepted'",
    );
    tx.run(accept.bind(key.alert).bind(key.endpoint).bind(now)).await?;
    let sent = query(
        "UPDATE deliveries SET sent_at = $3 WHERE sent_at IS NULL AND alert_id = $1
         AND recipient_id = (SELECT user_id FROM push_endpoints WHERE id = $2)",
    );
    tx.run(sent.bind(key.alert).bind(key.endpoint).bind(now)).await.map(|_| ())
}

async fn end(
    tx: &mut Tx<'_>,
    key: &ClaimKey,
    state: &'static str,
    reason: Option<&'static str>,
    now: Timestamp,
) -> Stored<()> {
    let end = query(
        "UPDATE push_deliveries SET state = $4, reason = $5, due_at = NULL, lease_until = NULL, ended_at = $6
         WHERE alert_id = $1 AND endpoint_id = $2 AND claims = $3 AND state = 'waiting'",
    );
    let end = end.bind(key.alert).bind(key.endpoint).bind(key.claim);
    tx.run(end.bind(state).bind(reason).bind(now)).await.map(|_| ())
}

async fn wait(tx: &mut Tx<'_>, key: &ClaimKey, at: Timestamp, tried: i64) -> Stored<()> {
    let wait = query(
        "UPDATE push_deliveries SET due_at = $4, lease_until = NULL, tries = tries + $5
         WHERE alert_id = $1 AND endpoint_id = $2 AND claims = $3 AND state = 'waiting'",
    );
    let wait = wait.bind(key.alert).bind(key.endpoint).bind(key.claim);
    tx.run(wait.bind(at).bind(tried)).await.map(|_| ())
}

/// What a process that is gone had claimed.
pub(super) async fn recover(db: &Database, now: Timestamp) -> Stored<u64> {
    match db {
        // Only one process has the file open for serving: whoever claimed these is gone.
        Database::Lite(_) => {
            let recover = || {
                query(
                    "UPDATE push_deliveries SET due_at = min(due_at, $1), lease_until = NULL
                     WHERE lease_until IS NOT NULL",
                )
                .bind(now)
            };
            db.write(Lane::Emergency, recover).await
        }
        // Another node may be sending them: a lease ends by itself.
        Database::Pg(_) => Ok(0),
    }
}

/// Gives up what has had its time, in short transactions.
pub(super) async fn give_up_late(db: &Database, now: Timestamp) -> Stored<()> {
    let late = || {
        query(
            "UPDATE push_deliveries SET state = 'dead', reason = 'late', due_at = NULL, lease_until = NULL, ended_at = $1
             WHERE (alert_id, endpoint_id) IN (SELECT alert_id, endpoint_id FROM push_deliveries
                 WHERE due_at IS NOT NULL AND deadline_at <= $1 LIMIT $2)",
        )
        .bind(now)
        .bind(SWEPT)
    };
    db.write_all(late).await.map(|_| ())
}

/// Gives what was given up a fresh deadline.
pub(super) async fn replay(db: &Database, now: Timestamp) -> Stored<u64> {
    let replay = || {
        query(sql!(
            "UPDATE push_deliveries SET state = 'waiting', reason = NULL, ended_at = NULL, due_at = $1, tries = 0,
                 deadline_at = $1 + lifetime_ms" pg " * interval '1 millisecond'" "
             WHERE state = 'dead'"
        ))
        .bind(now)
    };
    db.write(Lane::Routine, replay).await
}
