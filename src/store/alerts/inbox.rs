//! Alerts: stored once and put into the inbox of everybody they are for.
//!
//! A cursor is the head of its inbox, counted up under the lock of the head's row until the commit: so no reader sees one
//! before those below it. All heads of a transaction are taken at its end and in one order, so no two transactions wait
//! for each other.

use crate::alerts::{AlertDraft, Audience, Committed, Lane, Recipients};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, UserId};
use crate::store::database::Tx;
use crate::store::failure::unwritable;
use crate::store::sql::{Statement, query, sql};
use crate::store::value::plain;
use crate::store::{Store, push};
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
                     AND l.scopes & 1 <> 0 AND l.hears_duress IN ($4, $5)
                     AND coalesce(l.accepted_at < (SELECT apparent_at FROM emergencies WHERE id = $7), true) AND ("
                    pg "$6::uuid[] IS NULL" lite "$6 IS NULL" " OR a.id " among "$6" ") ORDER BY a.id"
                    pg " FOR KEY SHARE OF a FOR SHARE OF l" " RETURNING recipient_id"
                ));
                let (deaf, hearing) = match audience {
                    Audience::All => (false, true),
                    Audience::HearDuress => (true, true),
                    Audience::DeafToDuress => (false, false),
                };
                let contacts = contacts.bind(draft.id).bind(self.now).bind(draft.subject);
                // Who became a contact after an apparent end hears nothing of what goes on.
                contacts.bind(deaf).bind(hearing).bind(only.as_deref()).bind(draft.emergency)
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
