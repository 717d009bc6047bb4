//! Whose emergencies are whose to see, and what is due.

use super::SqliteStore;
use super::emergencies::{EmergencyRow, all, emergencies};
use super::failure::read;
use crate::alerts::{
    AlertDraft, AlertsStore, Change, Committed, Delivery, DeliveryState, Emergency, Folded, Inboxed, Party,
    Raised, State, TransitionCommit, VisitCommit,
};
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{AlertId, EmergencyId, UserId};
use crate::trust::Role;
use async_trait::async_trait;
use sqlx::{query_as, query_scalar};

#[derive(sqlx::FromRow)]
struct PartyRow {
    #[sqlx(flatten)]
    emergency: EmergencyRow,
    hears_duress: bool,
}

impl TryFrom<PartyRow> for Party {
    type Error = StoreError;
    fn try_from(row: PartyRow) -> Stored<Self> {
        Ok(Self { emergency: row.emergency.try_into()?, hears_duress: row.hears_duress })
    }
}

/// The emergencies that a contact has part in: told to contacts (never a countdown), by a link in force with `alerts`
/// or `emergency_location` that was accepted before the emergency ended in the contact's eyes.
macro_rules! parts {
    ($rest:literal) => {
        emergencies!(
            ", l.hears_duress AS hears_duress",
            "JOIN links l ON l.subject_id = e.subject_id
             WHERE l.contact_id = ?1 AND (l.expires_at IS NULL OR l.expires_at > ?2) AND l.scopes & 3
             AND e.active_at IS NOT NULL
             AND l.accepted_at < coalesce(iif(l.hears_duress, NULL, e.apparent_at), e.ended_at, 9223372036854775807) ",
            $rest
        )
    };
}

#[async_trait]
impl AlertsStore for SqliteStore {
    async fn commit_transitions(&self, commits: &[TransitionCommit]) -> Stored<Folded> {
        super::transitions::commit(self, commits).await
    }

    async fn commit_visits(&self, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
        super::zones::commit_visits(self, commits).await
    }

    async fn tell(&self, alerts: &[AlertDraft]) -> Stored<Committed> {
        super::inbox::tell(self, alerts).await
    }

    async fn raise(
        &self,
        emergency: &Emergency,
        client_id: EmergencyId,
        alerts: &[AlertDraft],
    ) -> Stored<Raised> {
        super::emergencies::raise(self, emergency, client_id, alerts).await
    }

    async fn openings_since(&self, subject: UserId, since: Timestamp) -> Stored<u32> {
        let count = query_scalar::<_, u32>(
            "SELECT count(*) FROM emergencies WHERE subject_id = ? AND opened_at >= ?",
        );
        read(count.bind(subject.0).bind(since.unix_ms()).fetch_one(&self.db.emergency_readers)).await
    }

    async fn change(&self, change: Change<'_>) -> Stored<Option<Committed>> {
        super::emergencies::change(self, change).await
    }

    async fn emergency_of(&self, subject: UserId, id: EmergencyId) -> Stored<Option<Emergency>> {
        let one = query_as(emergencies!(
            "WHERE e.id = (SELECT emergency_id FROM emergency_ids WHERE subject_id = ? AND client_id = ?)"
        ));
        Ok(all(self, one.bind(subject.0).bind(id.0)).await?.pop())
    }

    async fn emergency(&self, id: EmergencyId) -> Stored<Option<Emergency>> {
        Ok(all(self, query_as(emergencies!("WHERE e.id = ?")).bind(id.0)).await?.pop())
    }

    async fn emergency_for(&self, contact: UserId, id: EmergencyId, now: Timestamp) -> Stored<Option<Party>> {
        let part = query_as::<_, PartyRow>(parts!("AND e.id = ?3"));
        let part = part.bind(contact.0).bind(now.unix_ms()).bind(id.0);
        read(part.fetch_optional(&self.db.emergency_readers)).await?.map(Party::try_from).transpose()
    }

    async fn open_of(&self, subject: UserId) -> Stored<Vec<Emergency>> {
        let open = emergencies!("WHERE e.subject_id = ? AND e.ended_at IS NULL ORDER BY e.opened_at, e.id");
        all(self, query_as(open).bind(subject.0)).await
    }

    async fn open(&self) -> Stored<Vec<Emergency>> {
        all(self, query_as(emergencies!("WHERE e.ended_at IS NULL ORDER BY e.opened_at, e.id"))).await
    }

    async fn emergencies(
        &self,
        user: UserId,
        role: Role,
        state: Option<State>,
        after: Option<EmergencyId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<Party>> {
        let sql = match role {
            Role::Subject => emergencies!(
                ", 0 AS hears_duress",
                "WHERE e.subject_id = ?1 AND ?2 NOTNULL AND (?3 IS NULL OR coalesce(e.apparent_state, e.state) = ?3)
                 AND (?4 IS NULL OR (e.opened_at, e.id) < (SELECT opened_at, id FROM emergencies WHERE id = ?4))
                 ORDER BY e.opened_at DESC, e.id DESC LIMIT ?5"
            ),
            Role::Contact => parts!(
                "AND (?3 IS NULL OR coalesce(iif(l.hears_duress, NULL, e.apparent_state), e.state) = ?3)
                 AND (?4 IS NULL OR (e.opened_at, e.id) < (SELECT opened_at, id FROM emergencies WHERE id = ?4))
                 ORDER BY e.opened_at DESC, e.id DESC LIMIT ?5"
            ),
        };
        let found =
            query_as::<_, PartyRow>(sql).bind(user.0).bind(now.unix_ms()).bind(state.map(State::word));
        let found = found.bind(after.map(|e| e.0)).bind(limit);
        let rows = read(found.fetch_all(&self.db.readers)).await?;
        rows.into_iter().map(Party::try_from).collect()
    }

    async fn next_due(&self) -> Stored<Option<Timestamp>> {
        let due =
            query_scalar::<_, Option<i64>>("SELECT min(due_at) FROM emergencies WHERE due_at IS NOT NULL");
        Ok(read(due.fetch_one(&self.db.emergency_readers)).await?.map(Timestamp::from_unix_ms))
    }

    async fn due(&self, now: Timestamp) -> Stored<Vec<Emergency>> {
        let due = emergencies!("WHERE e.due_at <= ? ORDER BY e.due_at, e.id");
        all(self, query_as(due).bind(now.unix_ms())).await
    }

    async fn due_ids(&self, now: Timestamp) -> Stored<Vec<EmergencyId>> {
        let due =
            query_as::<_, (uuid::Uuid,)>("SELECT id FROM emergencies WHERE due_at <= ? ORDER BY due_at, id");
        let rows = read(due.bind(now.unix_ms()).fetch_all(&self.db.emergency_readers)).await?;
        Ok(rows.into_iter().map(|(id,)| EmergencyId(id)).collect())
    }

    async fn deliveries(&self, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
        super::inbox::deliveries(self, emergency).await
    }

    async fn inbox_heads(&self, users: &[UserId]) -> Stored<Vec<(UserId, i64)>> {
        let heads = query_as::<_, (uuid::Uuid, i64)>(
            "SELECT user_id, head FROM inbox_heads WHERE user_id IN (SELECT unhex(value) FROM json_each(?))",
        );
        let heads = heads.bind(super::inbox::hex_list(users));
        let rows = read(heads.fetch_all(&self.db.readers)).await?;
        Ok(rows.into_iter().map(|(user, head)| (UserId(user), head)).collect())
    }
    async fn inbox_head(&self, user: UserId) -> Stored<i64> {
        let head = query_scalar("SELECT head FROM inbox_heads WHERE user_id = ?").bind(user.0);
        Ok(read(head.fetch_optional(&self.db.readers)).await?.unwrap_or(0))
    }

    async fn inbox_after(&self, user: UserId, cursor: i64, limit: u32) -> Stored<Vec<Inboxed>> {
        super::inbox::after(self, user, cursor, limit).await
    }

    async fn ack(&self, user: UserId, alert: AlertId, state: DeliveryState, at: Timestamp) -> Stored<bool> {
        super::inbox::ack(self, user, alert, state, at).await
    }

    async fn sent(&self, user: UserId, from: i64, to: i64, at: Timestamp) -> Stored<()> {
        super::inbox::sent(self, user, from, to, at).await
    }
}
