//! Alerts: stored once, put into the inbox of everybody they are for, and followed on their way.
//!
//! A cursor is the head of its inbox, counted up under the lock of the head's row until the commit: so no reader sees one
//! before those below it. All heads of a transaction are taken at its end and in one order, so no two transactions wait
//! for each other.

use crate::alerts::{
    Alert, AlertDraft, AlertKind, Audience, Committed, Delivery, DeliveryState, Inboxed, Lane, Recipients,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{AlertId, EmergencyId, GeofenceId, UserId};
use crate::store::database::{Database, Tx};
use crate::store::failure::{unreadable, unwritable};
use crate::store::sql::{Statement, query, sql};
use crate::store::value::{Json, plain};
use crate::store::{Store, push};
use crate::tracking::{Severity, Trigger};
use std::collections::BTreeMap;

/// The alerts of one transaction: stored one by one by [`NewAlerts::tell`], and put into the inboxes by
/// [`NewAlerts::place`] at its end.
pub(in crate::store) struct NewAlerts {
    now: Timestamp,
    stored: Vec<AlertId>,
    told: Vec<UserId>,
}

impl NewAlerts {
    /// `now` decides which links are in force, however long ago the alerts' causes happened.
    pub(in crate::store) fn at(now: Timestamp) -> Self {
        Self { now, stored: Vec::new(), told: Vec::new() }
    }

    /// Stores an alert for all its recipients. `false` if it is there already, or its subject is not any more.
    pub(in crate::store) async fn tell(&mut self, tx: &mut Tx<'_>, draft: &AlertDraft) -> Stored<bool> {
        if tx.run(insert(draft, self.now)?).await? == 0 {
            return Ok(false);
        }
        let recipients = self.deliver(tx, draft).await?;
        if !recipients.is_empty() {
            push::queue(tx, draft, self.now).await?;
            self.stored.push(draft.id);
            self.told.extend(recipients);
        }
        Ok(true)
    }

    /// Stores alerts in their order.
    pub(in crate::store) async fn tell_all(&mut self, tx: &mut Tx<'_>, drafts: &[AlertDraft]) -> Stored<()> {
        for draft in drafts {
            self.tell(tx, draft).await?;
        }
        Ok(())
    }

    /// Gives every alert its place in its recipients' inboxes, in the order in which they were stored. The last thing of
    /// a transaction: whoever tells the same people waits from here on. Everybody who got something.
    pub(in crate::store) async fn place(mut self, tx: &mut Tx<'_>) -> Stored<Committed> {
        match tx {
            Tx::Lite(_) => place_one_by_one(tx, &self.stored).await?,
            Tx::Pg(_) => place_together(tx, &self.stored).await?,
        }
        self.told.sort_unstable();
        self.told.dedup();
        Ok(Committed { told: self.told })
    }

    /// One delivery for each recipient. Contacts are those of this moment: a link stays as it is until the commit, and
    /// one that is just being changed is looked at after that.
    async fn deliver(&self, tx: &mut Tx<'_>, draft: &AlertDraft) -> Stored<Vec<UserId>> {
        let deliveries = match &draft.recipients {
            Recipients::Person(user) => {
                let person = query(sql!(
                    "INSERT INTO deliveries (alert_id, recipient_id, queued_at)
                     SELECT $1, id, $2 FROM accounts WHERE id = $3" pg " FOR KEY SHARE" " RETURNING recipient_id"
                ));
                person.bind(draft.id).bind(self.now).bind(*user)
            }
            Recipients::Contacts { only, audience } => {
                let contacts = query(sql!(
                    "INSERT INTO deliveries (alert_id, recipient_id, queued_at)
                     SELECT $1, a.id, $2 FROM accounts a JOIN links l ON l.contact_id = a.id
                     WHERE l.subject_id = $3 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
                     AND l.scopes & 1 <> 0 AND l.hears_duress IN ($4, $5) AND ("
                    pg "$6::uuid[] IS NULL" lite "$6 IS NULL" " OR a.id " among "$6" ") ORDER BY a.id"
                    pg " FOR KEY SHARE OF a FOR SHARE OF l" " RETURNING recipient_id"
                ));
                let (deaf, hearing) = match audience {
                    Audience::All => (false, true),
                    Audience::HearDuress => (true, true),
                    Audience::DeafToDuress => (false, false),
                };
                let contacts = contacts.bind(draft.id).bind(self.now).bind(draft.subject);
                contacts.bind(deaf).bind(hearing).bind(only.as_deref())
            }
        };
        let recipients = tx.all::<(UserId,)>(deliveries).await?;
        Ok(recipients.into_iter().map(|(user,)| user).collect())
    }
}

/// An alert that had its time and is told again has its place still.
async fn place_one_by_one(tx: &mut Tx<'_>, alerts: &[AlertId]) -> Stored<()> {
    for alert in alerts {
        let heads = query(
            "INSERT INTO inbox_heads (user_id, head) SELECT d.recipient_id, 1 FROM deliveries d WHERE d.alert_id = $1
                 AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.user_id = d.recipient_id AND i.alert_id = d.alert_id)
             ON CONFLICT (user_id) DO UPDATE SET head = head + 1",
        );
        tx.run(heads.bind(*alert)).await?;
        let places = query(
            "INSERT INTO inbox (user_id, cursor, alert_id)
             SELECT d.recipient_id, h.head, d.alert_id FROM deliveries d JOIN inbox_heads h ON h.user_id = d.recipient_id
             WHERE d.alert_id = $1 ON CONFLICT (user_id, alert_id) DO NOTHING",
        );
        tx.run(places.bind(*alert)).await?;
    }
    Ok(())
}

/// As [`place_one_by_one`], taking all heads at once and in one order.
async fn place_together(tx: &mut Tx<'_>, alerts: &[AlertId]) -> Stored<()> {
    if alerts.is_empty() {
        return Ok(());
    }
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
    tx.run(places.bind(alerts)).await.map(|_| ())
}

fn insert(draft: &AlertDraft, now: Timestamp) -> Stored<Statement> {
    let covert = matches!(draft.recipients, Recipients::Contacts { audience: Audience::HearDuress, .. });
    let params: BTreeMap<&str, _> =
        draft.params.iter().map(|(name, text)| (name.as_str(), plain(text))).collect();
    let params = serde_json::to_string(&params).map_err(|_| unwritable("alerts.params"))?;
    let insert = query(sql!(
        "INSERT INTO alerts (id, kind, severity, subject_id, at, template, params, emergency_id, geofence_id, transition,
             late, lane, covert, stored_at)
         SELECT $1, $2, $3, id, $5, $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14
         FROM accounts WHERE id = $4" pg " FOR KEY SHARE" " ON CONFLICT (id) DO NOTHING"
    ));
    Ok(insert
        .bind(draft.id)
        .bind(draft.kind)
        .bind(draft.severity)
        .bind(draft.subject)
        .bind(draft.at)
        .bind(draft.template)
        .bind(params)
        .bind(draft.emergency)
        .bind(draft.geofence)
        .bind(draft.transition)
        .bind(draft.late)
        .bind(draft.lane.word())
        .bind(covert)
        .bind(now))
}

/// Stores alerts that belong to nothing else.
pub(super) async fn tell(store: &Store, lane: Lane, alerts: &[AlertDraft]) -> Stored<Committed> {
    let mut tx = store.db.begin(lane).await?;
    let mut new = NewAlerts::at(store.clock.now());
    new.tell_all(&mut tx, alerts).await?;
    let committed = new.place(&mut tx).await?;
    tx.commit().await?;
    Ok(committed)
}

#[derive(sqlx::FromRow)]
struct PlaceRow {
    cursor: i64,
    alert_id: AlertId,
    #[sqlx(flatten)]
    alert: AlertRow,
}

/// An alert, all of it absent if it was deleted.
#[derive(sqlx::FromRow)]
struct AlertRow {
    kind: Option<AlertKind>,
    severity: Option<Severity>,
    subject_id: Option<UserId>,
    subject_name: Option<String>,
    at: Option<Timestamp>,
    template: Option<String>,
    params: Option<Json<BTreeMap<String, String>>>,
    emergency_id: Option<EmergencyId>,
    geofence_id: Option<GeofenceId>,
    transition: Option<Trigger>,
    late: Option<bool>,
}

impl AlertRow {
    fn alert(self, id: AlertId) -> Stored<Option<Alert>> {
        let (Some(kind), Some(subject)) = (self.kind, self.subject_id) else { return Ok(None) };
        Ok(Some(Alert {
            id,
            kind,
            severity: self.severity.ok_or_else(|| unreadable("alerts.severity"))?,
            subject,
            subject_name: self.subject_name.unwrap_or_default(),
            at: self.at.ok_or_else(|| unreadable("alerts.at"))?,
            template: self.template.unwrap_or_default(),
            params: self.params.map(|params| params.0).unwrap_or_default(),
            emergency: self.emergency_id,
            geofence: self.geofence_id,
            transition: self.transition,
            late: self.late.unwrap_or_default(),
        }))
    }
}

impl TryFrom<PlaceRow> for Inboxed {
    type Error = StoreError;
    fn try_from(row: PlaceRow) -> Stored<Self> {
        Ok(Self { cursor: row.cursor, id: row.alert_id, alert: row.alert.alert(row.alert_id)? })
    }
}

/// The inbox after a cursor.
pub(super) async fn after(db: &Database, user: UserId, cursor: i64, limit: u32) -> Stored<Vec<Inboxed>> {
    let places = query(
        "SELECT i.cursor, i.alert_id, a.kind, a.severity, a.subject_id, s.display_name AS subject_name, a.at, a.template,
             a.params, a.emergency_id, a.geofence_id, a.transition, a.late
         FROM inbox i LEFT JOIN alerts a ON a.id = i.alert_id LEFT JOIN accounts s ON s.id = a.subject_id
         WHERE i.user_id = $1 AND i.cursor > $2 ORDER BY i.cursor LIMIT $3",
    );
    let rows = db.all::<PlaceRow>(Lane::Routine, places.bind(user).bind(cursor).bind(limit)).await?;
    rows.into_iter().map(Inboxed::try_from).collect()
}

/// The newest cursor of each inbox that has one.
pub(super) async fn heads(db: &Database, users: &[UserId]) -> Stored<Vec<(UserId, i64)>> {
    let heads = query(sql!("SELECT user_id, head FROM inbox_heads WHERE user_id " among "$1"));
    db.all(Lane::Routine, heads.bind(users)).await
}

/// Moves a delivery forward. A later step implies the earlier ones, at the same time if they were not seen.
pub(super) async fn ack(
    db: &Database,
    user: UserId,
    alert: AlertId,
    state: DeliveryState,
    at: Timestamp,
) -> Stored<bool> {
    let forward = || {
        query(
            "UPDATE deliveries SET
                 sent_at = coalesce(sent_at, CASE WHEN $3 THEN $6 END),
                 received_at = coalesce(received_at, CASE WHEN $4 THEN $6 END),
                 seen_at = coalesce(seen_at, CASE WHEN $5 THEN $6 END)
             WHERE recipient_id = $1 AND alert_id = $2",
        )
        .bind(user)
        .bind(alert)
        .bind(state >= DeliveryState::Sent)
        .bind(state >= DeliveryState::Received)
        .bind(state >= DeliveryState::Seen)
        .bind(at)
    };
    if db.write(Lane::Routine, forward).await? > 0 {
        return Ok(true);
    }
    // A place outlives its delivery.
    let place = query("SELECT cursor FROM inbox WHERE user_id = $1 AND alert_id = $2").bind(user).bind(alert);
    Ok(db.one::<(i64,)>(Lane::Routine, place).await?.is_some())
}

/// A socket took a part of the inbox.
pub(super) async fn sent(db: &Database, user: UserId, from: i64, to: i64, at: Timestamp) -> Stored<()> {
    let sent = || {
        query(
            "UPDATE deliveries SET sent_at = $4
             WHERE sent_at IS NULL AND recipient_id = $1
             AND alert_id IN (SELECT alert_id FROM inbox WHERE user_id = $1 AND cursor BETWEEN $2 AND $3)",
        )
        .bind(user)
        .bind(from)
        .bind(to)
        .bind(at)
    };
    db.write(Lane::Routine, sent).await.map(|_| ())
}

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    recipient_id: UserId,
    alert_id: AlertId,
    queued_at: Timestamp,
    sent_at: Option<Timestamp>,
    received_at: Option<Timestamp>,
    seen_at: Option<Timestamp>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            recipient: row.recipient_id,
            alert: row.alert_id,
            queued_at: row.queued_at,
            sent_at: row.sent_at,
            received_at: row.received_at,
            seen_at: row.seen_at,
        }
    }
}

/// How far the raising alerts of an emergency have come. The one that tells of duress is none of them.
pub(super) async fn deliveries(db: &Database, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
    let deliveries = query(sql!(
        "SELECT d.recipient_id, d.alert_id, d.queued_at, d.sent_at, d.received_at, d.seen_at
         FROM alerts a JOIN deliveries d ON d.alert_id = a.id
         WHERE a.emergency_id = $1 AND a.kind = 'emergency' AND NOT a.covert
         ORDER BY " lite "a.rowid" pg "a.number" ", d.recipient_id"
    ));
    db.list(Lane::Emergency, deliveries.bind(emergency), |row: DeliveryRow| row.into()).await
}
