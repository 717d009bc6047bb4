//! Inboxes read by their cursor, and how far each delivery has come.

use crate::alerts::{Alert, AlertKind, Delivery, DeliveryState, Inboxed, Lane};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{AlertId, EmergencyId, GeofenceId, UserId};
use crate::store::database::Database;
use crate::store::failure::unreadable;
use crate::store::pool::Pool;
use crate::store::sql::{query, sql};
use crate::store::value::Json;
use crate::tracking::{Severity, Trigger};
use std::collections::BTreeMap;

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
    seen_at: Option<Timestamp>,
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
            seen_at: self.seen_at,
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
             a.params, a.emergency_id, a.geofence_id, a.transition, a.late, d.seen_at
         FROM inbox i LEFT JOIN alerts a ON a.id = i.alert_id LEFT JOIN accounts s ON s.id = a.subject_id
             LEFT JOIN deliveries d ON d.alert_id = i.alert_id AND d.recipient_id = i.user_id
         WHERE i.user_id = $1 AND i.cursor > $2 ORDER BY i.cursor LIMIT $3",
    );
    let rows = db.all::<PlaceRow>(Pool::told(), places.bind(user).bind(cursor).bind(limit)).await?;
    rows.into_iter().map(Inboxed::try_from).collect()
}

/// The newest cursor of each inbox that has one.
pub(super) async fn heads(db: &Database, users: &[UserId]) -> Stored<Vec<(UserId, i64)>> {
    let heads = query(sql!("SELECT user_id, head FROM inbox_heads WHERE user_id " among "$1"));
    db.all(Pool::told(), heads.bind(users)).await
}

/// The newest cursor of an inbox; 0 if nothing was ever in it.
pub(super) async fn head(db: &Database, user: UserId) -> Stored<i64> {
    Ok(heads(db, &[user]).await?.pop().map_or(0, |(_, head)| head))
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
    if db.write(Pool::told(), forward).await? > 0 {
        return Ok(true);
    }
    // A place outlives its delivery.
    let place = query("SELECT cursor FROM inbox WHERE user_id = $1 AND alert_id = $2").bind(user).bind(alert);
    Ok(db.one::<(i64,)>(Pool::told(), place).await?.is_some())
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
    db.write(Pool::told(), sent).await.map(|_| ())
}

/// How far the raising alerts of an emergency have come. The one that tells of duress is none of them.
pub(super) async fn of(db: &Database, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
    let deliveries = query(sql!(
        "SELECT d.recipient_id, d.alert_id, d.queued_at, d.sent_at, d.received_at, d.seen_at
         FROM alerts a JOIN deliveries d ON d.alert_id = a.id
         WHERE a.emergency_id = $1 AND a.kind = 'emergency' AND NOT a.covert
         ORDER BY " lite "a.rowid" pg "a.number" ", d.recipient_id"
    ));
    let delivery = |(recipient, alert, queued_at, sent_at, received_at, seen_at)| Delivery {
        recipient,
        alert,
        queued_at,
        sent_at,
        received_at,
        seen_at,
    };
    db.list(Lane::Emergency, deliveries.bind(emergency), delivery).await
}
