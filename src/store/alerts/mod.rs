//! Emergencies, alerts, inboxes, check-ins; what of them has had its time.

mod check_ins;
mod deliveries;
mod expiry;
pub(super) mod inbox;
mod parties;
mod raising;
mod row;
mod transitions;

use super::Store;
use super::pool::Pool;
use super::sql::{query, sql};
use super::tracking::zones;
use crate::alerts::{
    AlertDraft, AlertsStore, Change, Committed, CommittedTransitions, Delivery, DeliveryState, Emergency,
    Inboxed, Lane, Names, Party, Raised, State, TransitionCommit, VisitCommit,
};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, DeviceId, EmergencyId, UserId};
use crate::trust::LinkRole;
use async_trait::async_trait;
use row::{all, by_any_id, emergencies, read};

#[async_trait]
impl AlertsStore for Store {
    async fn commit_transitions(&self, commits: &[TransitionCommit]) -> Stored<CommittedTransitions> {
        self.db.again(Lane::Routine, || transitions::commit(self, commits)).await
    }
    async fn commit_visits(&self, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
        zones::commit_visits(self, commits).await
    }
    async fn tell(&self, alerts: &[AlertDraft]) -> Stored<Committed> {
        let urgent = alerts.iter().any(|alert| alert.lane == Lane::Emergency);
        let lane = if urgent { Lane::Emergency } else { Lane::Routine };
        self.db.again(lane, || inbox::tell(self, lane, alerts)).await
    }

    async fn raise(
        &self,
        emergency: &Emergency,
        client_id: EmergencyId,
        alerts: &[AlertDraft],
    ) -> Stored<Raised> {
        self.db.again(Lane::Emergency, || raising::raise(self, emergency, client_id, alerts)).await
    }
    async fn change(&self, change: Change<'_>) -> Stored<Option<Committed>> {
        self.db.again(Lane::Emergency, || raising::change(self, &change)).await
    }
    async fn emergency_of(&self, subject: UserId, id: EmergencyId) -> Stored<Option<Emergency>> {
        Ok(all(&self.db, by_any_id(subject, id)).await?.pop())
    }
    async fn names(&self, people: &[UserId], devices: &[DeviceId]) -> Stored<Names> {
        parties::names(&self.db, people, devices).await
    }
    async fn names_of(&self, person: UserId) -> Stored<Names> {
        parties::names_of(&self.db, person).await
    }
    async fn emergency(&self, id: EmergencyId) -> Stored<Option<Emergency>> {
        Ok(all(&self.db, query(emergencies!("WHERE e.id = $1")).bind(id)).await?.pop())
    }
    async fn emergency_for(&self, contact: UserId, id: EmergencyId, now: Timestamp) -> Stored<Option<Party>> {
        parties::one(&self.db, contact, id, now).await
    }
    async fn open_of(&self, subject: UserId) -> Stored<Vec<Emergency>> {
        let open = emergencies!("WHERE e.subject_id = $1 AND e.ended_at IS NULL ORDER BY e.opened_at, e.id");
        read(&self.db, Pool::told(), query(open).bind(subject)).await
    }
    async fn open(&self) -> Stored<Vec<Emergency>> {
        all(&self.db, query(emergencies!("WHERE e.ended_at IS NULL ORDER BY e.opened_at, e.id"))).await
    }
    async fn emergencies(
        &self,
        user: UserId,
        role: LinkRole,
        state: Option<State>,
        after: Option<EmergencyId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<Party>> {
        parties::page(&self.db, user, role, state, after, limit, now).await
    }
    async fn next_due(&self) -> Stored<Option<Timestamp>> {
        let due = query("SELECT min(due_at) FROM emergencies WHERE due_at IS NOT NULL");
        Ok(self.db.one::<(Option<Timestamp>,)>(Lane::Emergency, due).await?.and_then(|(at,)| at))
    }
    async fn due_ids(&self, now: Timestamp) -> Stored<Vec<EmergencyId>> {
        let due = query("SELECT id FROM emergencies WHERE due_at <= $1 ORDER BY due_at, id").bind(now);
        self.db.list(Lane::Emergency, due, |(id,)| id).await
    }
    async fn due(&self, now: Timestamp) -> Stored<Vec<Emergency>> {
        all(&self.db, query(emergencies!("WHERE e.due_at <= $1 ORDER BY e.due_at, e.id")).bind(now)).await
    }

    async fn deliveries(&self, emergency: EmergencyId) -> Stored<Vec<Delivery>> {
        deliveries::of(&self.db, emergency).await
    }
    async fn inbox_head(&self, user: UserId) -> Stored<i64> {
        deliveries::head(&self.db, user).await
    }
    async fn inbox_heads(&self, users: &[UserId]) -> Stored<Vec<(UserId, i64)>> {
        deliveries::heads(&self.db, users).await
    }
    async fn inbox_after(&self, user: UserId, cursor: i64, limit: u32) -> Stored<Vec<Inboxed>> {
        deliveries::after(&self.db, user, cursor, limit).await
    }
    async fn ack(&self, user: UserId, alert: AlertId, state: DeliveryState, at: Timestamp) -> Stored<bool> {
        deliveries::ack(&self.db, user, alert, state, at).await
    }
    async fn sent(&self, user: UserId, from: i64, to: i64, at: Timestamp) -> Stored<()> {
        deliveries::sent(&self.db, user, from, to, at).await
    }
}
