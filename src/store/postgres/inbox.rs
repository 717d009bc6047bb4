//! Alerts: stored once, put into the inbox of everybody they are for, and followed on their way.
//!
//! A cursor is the head of its inbox, counted up under the lock of the head's row until the commit: so no reader sees one
//! before those below it. All heads of a transaction are taken at its end and in one order, so two tellings never wait
//! for each other.

use super::PostgresStore;
use super::at::At;
use super::connect::{Statement, Tx, again};
use super::failure::{read, unreadable, unwritable};
use super::values::plain;
use crate::alerts::{
    Alert, AlertDraft, AlertKind, Audience, Committed, Delivery, DeliveryState, Inboxed, Lane, Recipients,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{AlertId, EmergencyId, GeofenceId, UserId};
use crate::tracking::{Severity, Trigger};
use sqlx::{query, query_as, query_scalar};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The alerts of one transaction: told one by one, and put into the inboxes by [`Telling::place`] at its end.
pub(super) struct Telling {
    now: Timestamp,
    alerts: Vec<Uuid>,
    told: Vec<UserId>,
}

impl Telling {
    /// `now` decides which links are in force, however long ago the alerts' causes happened.
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, alerts: Vec::new(), told: Vec::new() }
    }

    /// Stores an alert for all its recipients. `false` if it is there already, or its subject is not any more.
    pub(super) async fn tell(&mut self, tx: &mut Tx, draft: &AlertDraft) -> Stored<bool> {
        if tx.run(insert(draft, self.now)?).await? == 0 {
            return Ok(false);
        }
        let recipients = self.deliver(tx, draft).await?;
        if !recipients.is_empty() {
            super::push::queue(tx, draft, self.now).await?;
            self.alerts.push(draft.id.0);
            self.told.extend(recipients);
        }
        Ok(true)
    }

    /// Gives every alert its place in its recipients' inboxes, in the order in which they were told. The last thing of a
    /// transaction: whoever tells the same people waits from here on. Everybody who got something.
    pub(super) async fn place(mut self, tx: &mut Tx) -> Stored<Committed> {
        if !self.alerts.is_empty() {
            // An alert that had its time and is told again has its place still.
            let places = query(
                "WITH new AS MATERIALIZED (
                     SELECT d.recipient_id, d.alert_id, a.number FROM deliveries d JOIN alerts a ON a.id = d.alert_id
                     WHERE d.alert_id = ANY ($1) AND NOT EXISTS
                         (SELECT 1 FROM inbox i WHERE i.user_id = d.recipient_id AND i.alert_id = d.alert_id)),
                 heads AS (
                     INSERT INTO inbox_heads (user_id, head)
                     SELECT recipient_id, count(*) FROM new GROUP BY recipient_id ORDER BY recipient_id
                     ON CONFLICT (user_id) DO UPDATE SET head = inbox_heads.head + excluded.head
                     RETURNING user_id, head)
                 INSERT INTO inbox (user_id, cursor, alert_id)
                 SELECT n.recipient_id, h.head + 1 - row_number() OVER (PARTITION BY n.recipient_id ORDER BY n.number DESC),
                     n.alert_id
                 FROM new n JOIN heads h ON h.user_id = n.recipient_id",
            );
            tx.run(places.bind(self.alerts)).await?;
        }
        self.told.sort_unstable();
        self.told.dedup();
        Ok(Committed { told: self.told })
    }

    /// One delivery for each recipient. Contacts are those of this moment: a link stays as it is until the commit, and
    /// one that is just being changed is looked at after that.
    async fn deliver(&self, tx: &mut Tx, draft: &AlertDraft) -> Stored<Vec<UserId>> {
        let person = query_as::<_, (Uuid,)>(
            "INSERT INTO deliveries (alert_id, recipient_id, queued_at)
             SELECT $1, id, $2 FROM accounts WHERE id = $3 FOR KEY SHARE RETURNING recipient_id",
        );
        let contacts = query_as::<_, (Uuid,)>(
            "INSERT INTO deliveries (alert_id, recipient_id, queued_at)
             SELECT $1, a.id, $2 FROM accounts a JOIN links l ON l.contact_id = a.id
             WHERE l.subject_id = $3 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
             AND l.scopes & 1 <> 0 AND l.hears_duress IN ($4, $5) AND ($6::uuid[] IS NULL OR a.id = ANY ($6))
             ORDER BY a.id FOR KEY SHARE OF a FOR SHARE OF l RETURNING recipient_id",
        );
        let now = At(self.now);
        let rows = match &draft.recipients {
            Recipients::Person(user) => tx.all(person.bind(draft.id.0).bind(now).bind(user.0)).await?,
            Recipients::Contacts { only, audience } => {
                let (deaf, hearing) = match audience {
                    Audience::All => (false, true),
                    Audience::HearDuress => (true, true),
                    Audience::DeafToDuress => (false, false),
                };
                let only: Option<Vec<Uuid>> = only.as_ref().map(|users| users.iter().map(|u| u.0).collect());
                let contacts = contacts.bind(draft.id.0).bind(now).bind(draft.subject.0);
                tx.all(contacts.bind(deaf).bind(hearing).bind(only)).await?
            }
        };
        Ok(rows.into_iter().map(|(id,)| UserId(id)).collect())
    }
}

fn insert(draft: &AlertDraft, now: Timestamp) -> Stored<Statement<'_>> {
    let covert = matches!(draft.recipients, Recipients::Contacts { audience: Audience::HearDuress, .. });
    let params: BTreeMap<&str, _> =
        draft.params.iter().map(|(name, text)| (name.as_str(), plain(text))).collect();
    let params = serde_json::to_string(&params).map_err(|_| unwritable("alerts.params"))?;
    let insert = query(
        "INSERT INTO alerts (id, kind, severity, subject_id, at, template, params, emergency_id, geofence_id, transition,
             late, lane, covert, stored_at)
         SELECT $1, $2, $3, id, $5, $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14
         FROM accounts WHERE id = $4 FOR KEY SHARE ON CONFLICT (id) DO NOTHING",
    );
    Ok(insert
        .bind(draft.id.0)
        .bind(draft.kind.word())
        .bind(draft.severity.word())
        .bind(draft.subject.0)
        .bind(At(draft.at))
        .bind(draft.template)
        .bind(params)
        .bind(draft.emergency.map(|e| e.0))
        .bind(draft.geofence.map(|g| g.0))
        .bind(draft.transition.map(Trigger::word))
        .bind(draft.late)
        .bind(draft.lane.word())
        .bind(covert)
        .bind(At(now)))
}

/// Stores alerts that belong to nothing else.
pub(super) async fn tell(store: &PostgresStore, alerts: &[AlertDraft]) -> Stored<Committed> {
    let urgent = alerts.iter().any(|a| a.lane == Lane::Emergency);
    let lane = if urgent { Lane::Emergency } else { Lane::Routine };
    again(lane, || tell_once(store, lane, alerts)).await
}

async fn tell_once(store: &PostgresStore, lane: Lane, alerts: &[AlertDraft]) -> Stored<Committed> {
    let mut tx = store.db.begin(lane).await?;
    let mut telling = Telling::at(store.clock.now());
    for alert in alerts {
        telling.tell(&mut tx, alert).await?;
    }
    let committed = telling.place(&mut tx).await?;
    tx.commit().await?;
    Ok(committed)
}

#[derive(sqlx::FromRow)]
struct PlaceRow {
    cursor: i64,
    alert_id: Uuid,
    #[sqlx(flatten)]
    alert: AlertRow,
}

/// An alert, all of it absent if it was deleted.
#[derive(sqlx::FromRow)]
struct AlertRow {
    kind: Option<String>,
    severity: Option<String>,
    subject_id: Option<Uuid>,
    subject_name: Option<String>,
    at: Option<At>,
    template: Option<String>,
    params: Option<String>,
    emergency_id: Option<Uuid>,
    geofence_id: Option<Uuid>,
    transition: Option<String>,
    late: Option<bool>,
}

impl AlertRow {
    fn alert(self, id: AlertId) -> Stored<Option<Alert>> {
        let (Some(kind), Some(subject)) = (self.kind, self.subject_id) else { return Ok(None) };
        let severity = self.severity.as_deref().and_then(Severity::from_word);
        let transition = self.transition.map(|word| Trigger::from_word(&word).ok_or(word)).transpose();
        let params = self.params.as_deref().map(serde_json::from_str).transpose();
        Ok(Some(Alert {
            id,
            kind: AlertKind::from_word(&kind).ok_or_else(|| unreadable("alerts.kind"))?,
            severity: severity.ok_or_else(|| unreadable("alerts.severity"))?,
            subject: UserId(subject),
            subject_name: self.subject_name.unwrap_or_default(),
            at: self.at.map(Timestamp::from).ok_or_else(|| unreadable("alerts.at"))?,
            template: self.template.unwrap_or_default(),
            params: params.map_err(|_| unreadable("alerts.params"))?.unwrap_or_default(),
            emergency: self.emergency_id.map(EmergencyId),
            geofence: self.geofence_id.map(GeofenceId),
            transition: transition.map_err(|_| unreadable("alerts.transition"))?,
            late: self.late.unwrap_or_default(),
        }))
    }
}

impl TryFrom<PlaceRow> for Inboxed {
    type Error = StoreError;
    fn try_from(row: PlaceRow) -> Stored<Self> {
        let id = AlertId(row.alert_id);
        Ok(Self { cursor: row.cursor, id, alert: row.alert.alert(id)? })
    }
}

/// The inbox after a cursor.
pub(super) async fn after(
    store: &PostgresStore,
    user: UserId,
    cursor: i64,
    limit: u32,
) -> Stored<Vec<Inboxed>> {
    let places = query_as::<_, PlaceRow>(
        "SELECT i.cursor, i.alert_id, a.kind, a.severity, a.subject_id, s.display_name AS subject_name, a.at, a.template,
             a.params::text AS params, a.emergency_id, a.geofence_id, a.transition, a.late
         FROM inbox i LEFT JOIN alerts a ON a.id = i.alert_id LEFT JOIN accounts s ON s.id = a.subject_id
         WHERE i.user_id = $1 AND i.cursor > $2 ORDER BY i.cursor LIMIT $3",
    );
    let places = places.bind(user.0).bind(cursor).bind(i64::from(limit));
    let rows = read(places.fetch_all(&store.db.routine)).await?;
    rows.into_iter().map(Inboxed::try_from).collect()
}

/// Moves a delivery forward. A later step implies the earlier ones, at the same time if they were not seen.
pub(super) async fn ack(
    store: &PostgresStore,
    user: UserId,
    alert: AlertId,
    state: DeliveryState,
    at: Timestamp,
) -> Stored<bool> {
    let forward = query(
        "UPDATE deliveries SET
             sent_at = coalesce(sent_at, CASE WHEN $3 THEN $6 END),
             received_at = coalesce(received_at, CASE WHEN $4 THEN $6 END),
             seen_at = coalesce(seen_at, CASE WHEN $5 THEN $6 END)
         WHERE recipient_id = $1 AND alert_id = $2",
    );
    let forward = forward
        .bind(user.0)
        .bind(alert.0)
        .bind(state >= DeliveryState::Sent)
        .bind(state >= DeliveryState::Received)
        .bind(state >= DeliveryState::Seen)
        .bind(At(at));
    if store.db.write(Lane::Routine, forward).await? > 0 {
        return Ok(true);
    }
    // A place outlives its delivery.
    let place = query_scalar::<_, i64>("SELECT cursor FROM inbox WHERE user_id = $1 AND alert_id = $2");
    Ok(read(place.bind(user.0).bind(alert.0).fetch_optional(&store.db.routine)).await?.is_some())
}

/// A socket took a part of the inbox.
pub(super) async fn sent(
    store: &PostgresStore,
    user: UserId,
    from: i64,
    to: i64,
    at: Timestamp,
) -> Stored<()> {
    let sent = || async {
        let sent = query(
            "UPDATE deliveries SET sent_at = $4
             WHERE sent_at IS NULL AND recipient_id = $1
             AND alert_id IN (SELECT alert_id FROM inbox WHERE user_id = $1 AND cursor BETWEEN $2 AND $3)",
        );
        let sent = sent.bind(user.0).bind(from).bind(to).bind(At(at));
        store.db.write(Lane::Routine, sent).await
    };
    again(Lane::Routine, sent).await.map(|_| ())
}

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    recipient_id: Uuid,
    alert_id: Uuid,
    queued_at: At,
    sent_at: Option<At>,
    received_at: Option<At>,
    seen_at: Option<At>,
}

/// How far the raising alerts of an emergency have come. The one that tells of duress is none of them.
pub(super) async fn deliveries(store: &PostgresStore, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
    let deliveries = query_as::<_, DeliveryRow>(
        "SELECT d.recipient_id, d.alert_id, d.queued_at, d.sent_at, d.received_at, d.seen_at
         FROM alerts a JOIN deliveries d ON d.alert_id = a.id
         WHERE a.emergency_id = $1 AND a.kind = 'emergency' AND NOT a.covert ORDER BY a.number, d.recipient_id",
    );
    let rows = read(deliveries.bind(emergency.0).fetch_all(&store.db.emergency)).await?;
    let delivery = |row: DeliveryRow| Delivery {
        recipient: UserId(row.recipient_id),
        alert: AlertId(row.alert_id),
        queued_at: row.queued_at.0,
        sent_at: row.sent_at.map(Timestamp::from),
        received_at: row.received_at.map(Timestamp::from),
        seen_at: row.seen_at.map(Timestamp::from),
    };
    Ok(rows.into_iter().map(delivery).collect())
}
