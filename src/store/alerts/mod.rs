//! Emergencies, alerts, inboxes, check-ins; what of them has had its time.

mod check_ins;
mod deliveries;
mod emergencies;
mod expiry;
pub(super) mod inbox;
mod parties;
mod raising;
mod row;
mod transitions;

use super::database::Database;
use super::sql::query;
use super::tracking::zones;
use super::{Store, sqlite};
use crate::alerts::{
    AlertDraft, AlertsStore, Change, CheckIn, CheckInCreated, CheckInCursor, CheckInStore, Committed,
    CommittedTransitions, Delivery, DeliveryState, Emergency, ExpiryStore, Fired, Inboxed, Lane, Party,
    Raised, State, TransitionCommit, VisitCommit,
};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, CheckInId, EmergencyId, UserId};
use crate::trust::LinkRole;
use async_trait::async_trait;
use std::time::Duration;

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
    async fn openings_since(&self, subject: UserId, since: Timestamp) -> Stored<u32> {
        emergencies::openings_since(&self.db, subject, since).await
    }
    async fn change(&self, change: Change<'_>) -> Stored<Option<Committed>> {
        self.db.again(Lane::Emergency, || raising::change(self, &change)).await
    }
    async fn emergency_of(&self, subject: UserId, id: EmergencyId) -> Stored<Option<Emergency>> {
        emergencies::one_of(&self.db, subject, id).await
    }
    async fn emergency(&self, id: EmergencyId) -> Stored<Option<Emergency>> {
        emergencies::one(&self.db, id).await
    }
    async fn emergency_for(&self, contact: UserId, id: EmergencyId, now: Timestamp) -> Stored<Option<Party>> {
        parties::one(&self.db, contact, id, now).await
    }
    async fn open_of(&self, subject: UserId) -> Stored<Vec<Emergency>> {
        emergencies::open_of(&self.db, subject).await
    }
    async fn open(&self) -> Stored<Vec<Emergency>> {
        emergencies::open(&self.db).await
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
        emergencies::next_due(&self.db).await
    }
    async fn due_ids(&self, now: Timestamp) -> Stored<Vec<EmergencyId>> {
        let due = query("SELECT id FROM emergencies WHERE due_at <= $1 ORDER BY due_at, id").bind(now);
        self.db.list(Lane::Emergency, due, |(id,)| id).await
    }
    async fn due(&self, now: Timestamp) -> Stored<Vec<Emergency>> {
        emergencies::due(&self.db, now).await
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

#[async_trait]
impl CheckInStore for Store {
    async fn create_check_in(&self, new: &CheckIn, max_waiting: u32) -> Stored<CheckInCreated> {
        self.db.again(Lane::Routine, || check_ins::create(&self.db, new, max_waiting)).await
    }
    async fn check_in(&self, subject: UserId, id: CheckInId) -> Stored<Option<CheckIn>> {
        check_ins::one(&self.db, subject, id).await
    }
    async fn check_ins(
        &self,
        subject: UserId,
        after: Option<CheckInCursor>,
        limit: u32,
    ) -> Stored<Vec<CheckIn>> {
        check_ins::page(&self.db, subject, after, limit).await
    }
    async fn change_check_in(&self, check_in: &CheckIn, alerts: &[AlertDraft]) -> Stored<Option<Committed>> {
        self.db.again(Lane::Emergency, || check_ins::change(self, check_in, alerts)).await
    }
    async fn fire_check_in(&self, missed: &CheckIn, change: Change<'_>) -> Stored<Fired> {
        self.db.again(Lane::Emergency, || check_ins::fire(self, missed, &change)).await
    }
    async fn next_check_in(&self) -> Stored<Option<Timestamp>> {
        check_ins::next(&self.db).await
    }
    async fn due_check_ins(&self, now: Timestamp) -> Stored<Vec<CheckIn>> {
        check_ins::due(&self.db, now).await
    }
    async fn due_check_in_ids(&self, now: Timestamp) -> Stored<Vec<(UserId, CheckInId)>> {
        let due = query("SELECT subject_id, id FROM check_ins WHERE wakes_at <= $1 ORDER BY wakes_at, id");
        self.db.all(Lane::Emergency, due.bind(now)).await
    }
    async fn forget_check_ins(&self, subject: UserId) -> Stored<()> {
        check_ins::forget(&self.db, subject).await
    }
}

#[async_trait]
impl ExpiryStore for Store {
    async fn expire_alerts(&self, before: Timestamp) -> Stored<u64> {
        expiry::older(&self.db, expiry::ALERTS, before).await
    }
    async fn expire_transitions(&self, before: Timestamp, now: Timestamp, fixes: Duration) -> Stored<u64> {
        expiry::transitions(&self.db, before, now, fixes).await
    }
    async fn expire_zone_visits(&self, before: Timestamp) -> Stored<u64> {
        expiry::older(&self.db, expiry::ZONE_VISITS, before).await
    }
    async fn bare_emergencies(&self, before: Timestamp) -> Stored<u64> {
        expiry::older(&self.db, expiry::BARE, before).await
    }
    async fn past_emergencies(&self, before: Timestamp, limit: u32) -> Stored<Vec<EmergencyId>> {
        expiry::past_emergencies(&self.db, before, limit).await
    }
    async fn erase_emergency(&self, id: EmergencyId) -> Stored<()> {
        expiry::erase_emergency(&self.db, id).await
    }
    /// PostgreSQL reuses the space of what was deleted; its own vacuum does that, and its operator decides on the rest.
    async fn wipe(&self) -> Stored<()> {
        match &self.db {
            Database::Lite(db) => sqlite::wipe(db).await,
            Database::Pg(_) => Ok(()),
        }
    }
}
