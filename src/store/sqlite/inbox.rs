//! Alerts: stored once, put into the inbox of everybody they are for, and followed on their way.

use super::SqliteStore;
use super::failure::{read, unreadable, unwritable};
use super::writer::Tx;
use crate::alerts::{
    Alert, AlertDraft, AlertKind, Audience, Committed, Delivery, DeliveryState, Inboxed, Lane, Recipients,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{AlertId, EmergencyId, GeofenceId, UserId};
use crate::tracking::{Severity, Trigger};
use sqlx::{query, query_as};
use uuid::Uuid;

/// The alerts of one transaction.
pub(super) struct Telling {
    now: Timestamp,
    told: Vec<UserId>,
}

impl Telling {
    /// `now` decides which links are in force, however long ago the alerts' causes happened.
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, told: Vec::new() }
    }

    /// Stores an alert for all its recipients. `false` if it is there already, or its subject is not any more.
    pub(super) async fn tell(&mut self, tx: &mut Tx<'_>, draft: &AlertDraft) -> Stored<bool> {
        if tx.run(insert(draft, self.now)?).await? == 0 {
            return Ok(false);
        }
        let recipients = self.deliver(tx, draft).await?;
        if recipients.is_empty() {
            return Ok(true);
        }
        // An alert that had its time and is told again has its place still.
        let heads = query(
            "INSERT INTO inbox_heads (user_id, head) SELECT d.recipient_id, 1 FROM deliveries d WHERE d.alert_id = ?
                 AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.user_id = d.recipient_id AND i.alert_id = d.alert_id)
             ON CONFLICT (user_id) DO UPDATE SET head = head + 1",
        );
        tx.run(heads.bind(draft.id.0)).await?;
        let places = query(
            "INSERT INTO inbox (user_id, cursor, alert_id)
             SELECT d.recipient_id, h.head, d.alert_id FROM deliveries d JOIN inbox_heads h ON h.user_id = d.recipient_id
             WHERE d.alert_id = ? ON CONFLICT (user_id, alert_id) DO NOTHING",
        );
        tx.run(places.bind(draft.id.0)).await?;
        super::push::queue(tx, draft, self.now).await?;
        self.told.extend(recipients);
        Ok(true)
    }

    /// Everybody who got something.
    pub(super) fn committed(mut self) -> Committed {
        self.told.sort_unstable();
        self.told.dedup();
        Committed { told: self.told }
    }

    /// One delivery for each recipient; contacts are those of this moment.
    async fn deliver(&self, tx: &mut Tx<'_>, draft: &AlertDraft) -> Stored<Vec<UserId>> {
        let person = query_as::<_, (Uuid,)>(
            "INSERT INTO deliveries (alert_id, recipient_id, queued_at) SELECT ?1, id, ?2 FROM accounts WHERE id = ?3
             RETURNING recipient_id",
        );
        let contacts = query_as::<_, (Uuid,)>(
            "INSERT INTO deliveries (alert_id, recipient_id, queued_at)
             SELECT ?1, contact_id, ?2 FROM links
             WHERE subject_id = ?3 AND accepted_at IS NOT NULL AND (expires_at IS NULL OR expires_at > ?2)
             AND scopes & 1 AND hears_duress IN (?4, ?5)
             AND (?6 IS NULL OR contact_id IN (SELECT unhex(value) FROM json_each(?6)))
             ORDER BY tier, id RETURNING recipient_id",
        );
        let now = self.now.unix_ms();
        let rows = match &draft.recipients {
            Recipients::Person(user) => tx.all(person.bind(draft.id.0).bind(now).bind(user.0)).await?,
            Recipients::Contacts { only, audience } => {
                let (deaf, hearing) = match audience {
                    Audience::All => (false, true),
                    Audience::HearDuress => (true, true),
                    Audience::DeafToDuress => (false, false),
                };
                let contacts =
                    contacts.bind(draft.id.0).bind(now).bind(draft.subject.0).bind(deaf).bind(hearing);
                tx.all(contacts.bind(only.as_deref().map(hex_list))).await?
            }
        };
        Ok(rows.into_iter().map(|(id,)| UserId(id)).collect())
    }
}

/// Ids as a JSON list that SQL can look into.
pub(super) fn hex_list(users: &[UserId]) -> String {
    let quoted: Vec<String> = users.iter().map(|u| format!("\"{}\"", u.0.simple())).collect();
    format!("[{}]", quoted.join(","))
}

fn insert(draft: &AlertDraft, now: Timestamp) -> Stored<super::writer::Statement<'_>> {
    let covert = matches!(draft.recipients, Recipients::Contacts { audience: Audience::HearDuress, .. });
    let params = serde_json::to_string(&draft.params).map_err(|_| unwritable("alerts.params"))?;
    let insert = query(
        "INSERT INTO alerts (id, kind, severity, subject_id, at, template, params, emergency_id, geofence_id, transition,
             late, lane, covert, stored_at)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
         WHERE EXISTS (SELECT 1 FROM accounts WHERE id = ?4) ON CONFLICT (id) DO NOTHING",
    );
    Ok(insert
        .bind(draft.id.0)
        .bind(draft.kind.word())
        .bind(draft.severity.word())
        .bind(draft.subject.0)
        .bind(draft.at.unix_ms())
        .bind(draft.template)
        .bind(params)
        .bind(draft.emergency.map(|e| e.0))
        .bind(draft.geofence.map(|g| g.0))
        .bind(draft.transition.map(Trigger::word))
        .bind(draft.late)
        .bind(draft.lane.word())
        .bind(covert)
        .bind(now.unix_ms()))
}

/// Stores alerts that belong to nothing else.
pub(super) async fn tell(store: &SqliteStore, alerts: &[AlertDraft]) -> Stored<Committed> {
    let urgent = alerts.iter().any(|a| a.lane == Lane::Emergency);
    let mut tx = store.db.writer.begin(if urgent { Lane::Emergency } else { Lane::Routine }).await?;
    let mut telling = Telling::at(store.clock.now());
    for alert in alerts {
        telling.tell(&mut tx, alert).await?;
    }
    tx.commit().await?;
    Ok(telling.committed())
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
    at: Option<i64>,
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
            at: self.at.map(Timestamp::from_unix_ms).ok_or_else(|| unreadable("alerts.at"))?,
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
    store: &SqliteStore,
    user: UserId,
    cursor: i64,
    limit: u32,
) -> Stored<Vec<Inboxed>> {
    let places = query_as::<_, PlaceRow>(
        "SELECT i.cursor, i.alert_id, a.kind, a.severity, a.subject_id, s.display_name AS subject_name, a.at, a.template,
             a.params, a.emergency_id, a.geofence_id, a.transition, a.late
         FROM inbox i LEFT JOIN alerts a ON a.id = i.alert_id LEFT JOIN accounts s ON s.id = a.subject_id
         WHERE i.user_id = ? AND i.cursor > ? ORDER BY i.cursor LIMIT ?",
    );
    let rows = read(places.bind(user.0).bind(cursor).bind(limit).fetch_all(&store.db.readers)).await?;
    rows.into_iter().map(Inboxed::try_from).collect()
}

/// Moves a delivery forward. A later step implies the earlier ones, at the same time if they were not seen.
pub(super) async fn ack(
    store: &SqliteStore,
    user: UserId,
    alert: AlertId,
    state: DeliveryState,
    at: Timestamp,
) -> Stored<bool> {
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    let place = query_as::<_, (i64,)>("SELECT cursor FROM inbox WHERE user_id = ? AND alert_id = ?");
    if tx.one(place.bind(user.0).bind(alert.0)).await?.is_none() {
        return Ok(false);
    }
    let forward = query(
        "UPDATE deliveries SET
             sent_at = coalesce(sent_at, iif(?3, ?6, NULL)), received_at = coalesce(received_at, iif(?4, ?6, NULL)),
             seen_at = coalesce(seen_at, iif(?5, ?6, NULL))
         WHERE recipient_id = ?1 AND alert_id = ?2",
    );
    let forward = forward
        .bind(user.0)
        .bind(alert.0)
        .bind(state >= DeliveryState::Sent)
        .bind(state >= DeliveryState::Received)
        .bind(state >= DeliveryState::Seen)
        .bind(at.unix_ms());
    tx.run(forward).await?;
    tx.commit().await?;
    Ok(true)
}

/// A socket took a part of the inbox.
pub(super) async fn sent(store: &SqliteStore, user: UserId, from: i64, to: i64, at: Timestamp) -> Stored<()> {
    let sent = query(
        "UPDATE deliveries SET sent_at = ?4
         WHERE sent_at IS NULL AND recipient_id = ?1
         AND alert_id IN (SELECT alert_id FROM inbox WHERE user_id = ?1 AND cursor BETWEEN ?2 AND ?3)",
    );
    let sent = sent.bind(user.0).bind(from).bind(to).bind(at.unix_ms());
    store.db.writer.write(Lane::Routine, sent).await.map(|_| ())
}

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    recipient_id: Uuid,
    alert_id: Uuid,
    queued_at: i64,
    sent_at: Option<i64>,
    received_at: Option<i64>,
    seen_at: Option<i64>,
}

/// How far the raising alerts of an emergency have come. The one that tells of duress is none of them.
pub(super) async fn deliveries(store: &SqliteStore, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
    let deliveries = query_as::<_, DeliveryRow>(
        "SELECT d.recipient_id, d.alert_id, d.queued_at, d.sent_at, d.received_at, d.seen_at
         FROM alerts a JOIN deliveries d ON d.alert_id = a.id
         WHERE a.emergency_id = ? AND a.kind = 'emergency' AND a.covert = 0 ORDER BY a.rowid, d.recipient_id",
    );
    let rows = read(deliveries.bind(emergency.0).fetch_all(&store.db.emergency_readers)).await?;
    let delivery = |row: DeliveryRow| Delivery {
        recipient: UserId(row.recipient_id),
        alert: AlertId(row.alert_id),
        queued_at: Timestamp::from_unix_ms(row.queued_at),
        sent_at: row.sent_at.map(Timestamp::from_unix_ms),
        received_at: row.received_at.map(Timestamp::from_unix_ms),
        seen_at: row.seen_at.map(Timestamp::from_unix_ms),
    };
    Ok(rows.into_iter().map(delivery).collect())
}
