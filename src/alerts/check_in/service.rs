//! The check-ins of a person: set, completed, deleted; reminded of and fired by the timers.

use super::{CheckIn, CheckInCreated, CheckInCursor, CheckInDue, CheckInState, Fired};
use crate::alerts::emergency::{drafts, word_as_missed};
use crate::alerts::{
    AlertDraft, AlertError, AlertKind, Alerts, Change, Command, Emergency, Lane, Next, Raised,
};
use crate::bus::Event;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, CheckInId, EmergencyId, UserId, derived};
use crate::runtime::{Refusal, tried};
use crate::tracking::Severity;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Check-ins of a person that wait, at most.
const MAX_WAITING: u32 = 20;
/// Until it is due, and between repeats, at most: a week.
const MAX_DUE_S: u32 = 7 * 24 * 3600;
/// Between repeats, at least.
const MIN_REPEAT_S: u32 = 60;
/// Grace, at most: a day.
const MAX_GRACE_S: u32 = 24 * 3600;
/// Characters of a note, at most.
const MAX_NOTE: usize = 1_000;
/// Tries of a change that somebody else's change came before.
const TRIES: usize = 16;

/// A check-in as a client writes it.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CheckInIn)]
pub struct CheckInIn {
    /// A client-made id, so that a repeat is the same check-in.
    pub id: Option<CheckInId>,
    /// It is due after so long, seconds.
    #[schema(minimum = 1, maximum = 604_800)]
    pub due_in_s: u32,
    /// An emergency is raised so long after it was due, seconds.
    #[serde(default = "default_grace_s")]
    #[schema(maximum = 86_400)]
    pub grace_s: u32,
    /// For the contacts, should it be missed; at most 1,000 characters.
    pub note: Option<String>,
    /// A completion sets it again, due after so long, seconds. A miss stops it.
    #[schema(minimum = 60, maximum = 604_800)]
    pub repeat_s: Option<u32>,
}

fn default_grace_s() -> u32 {
    300
}

impl CheckInIn {
    fn check(self, subject: UserId, id: CheckInId, now: Timestamp) -> Result<CheckIn, AlertError> {
        let refused = |field, detail: &'static str| Err(AlertError::invalid(field, detail));
        if !(1..=MAX_DUE_S).contains(&self.due_in_s) {
            return refused("due_in_s", "1 second to 7 days");
        }
        if self.grace_s > MAX_GRACE_S {
            return refused("grace_s", "at most a day");
        }
        if self.repeat_s.is_some_and(|s| !(MIN_REPEAT_S..=MAX_DUE_S).contains(&s)) {
            return refused("repeat_s", "a minute to 7 days");
        }
        let note = self.note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
        if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE || note.contains('\0')) {
            return refused("note", "at most 1,000 characters, none of them NUL");
        }
        let due_at = now + seconds(self.due_in_s);
        Ok(CheckIn {
            id,
            subject,
            note,
            set_at: now,
            due_at,
            grace: seconds(self.grace_s),
            repeat: self.repeat_s.map(seconds),
            state: CheckInState::Waiting,
            reminded: false,
            wakes_at: Some(due_at),
            emergency: None,
            version: 1,
        })
    }
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(s.into())
}

/// The use cases of check-ins, over [`Alerts`].
pub struct CheckIns<'a>(&'a Alerts);

impl CheckIns<'_> {
    /// Sets a check-in; `true` if it is new, `false` if the id was there already (it is returned as it is).
    ///
    /// # Errors
    /// A field out of range, a taken id, or too many that wait.
    pub async fn create(&self, subject: UserId, given: CheckInIn) -> Result<(CheckIn, bool), AlertError> {
        let Alerts { store, clock, .. } = self.0;
        let id = given.id.unwrap_or_else(|| CheckInId::fresh(clock));
        let check_in = given.check(subject, id, clock.now())?;
        match store.create_check_in(&check_in, MAX_WAITING).await? {
            CheckInCreated::Created => {
                self.0.reschedule();
                Ok((check_in, true))
            }
            CheckInCreated::Repeated(known) => Ok((known, false)),
            CheckInCreated::Conflict => Err(AlertError::Conflict("this id is taken")),
            CheckInCreated::TooMany => {
                Err(AlertError::Conflict("20 check-ins wait already; complete or delete one"))
            }
        }
    }

    /// A page of check-ins.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn list(
        &self,
        subject: UserId,
        after: Option<CheckInCursor>,
        limit: u32,
    ) -> Result<Vec<CheckIn>, AlertError> {
        Ok(self.0.store.check_ins(subject, after, limit).await?)
    }

    /// The person is safe: one that repeats is set again, any other is over. Again, it is that completion.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if it is not theirs, [`AlertError::Conflict`] if it was missed.
    pub async fn complete(&self, subject: UserId, id: CheckInId) -> Result<CheckIn, AlertError> {
        for _ in 0..TRIES {
            let check_in = self.own(subject, id).await?;
            let Some(next) = check_in.complete(self.0.clock.now()) else {
                return match check_in.state {
                    CheckInState::Missed => {
                        Err(AlertError::Conflict("the check-in was missed; end its emergency"))
                    }
                    _ => Ok(check_in),
                };
            };
            if self.0.store.change_check_in(&next, &[]).await?.is_some() {
                self.0.reschedule();
                return Ok(next);
            }
        }
        Err(AlertError::Conflict("the check-in is changing too fast; try again"))
    }

    /// Deletes a check-in; an emergency that it raised goes on.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if it is not theirs.
    pub async fn delete(&self, subject: UserId, id: CheckInId) -> Result<(), AlertError> {
        for _ in 0..TRIES {
            let check_in = self.own(subject, id).await?;
            let next = check_in.delete().ok_or(AlertError::NotFound("check-in"))?;
            if self.0.store.change_check_in(&next, &[]).await?.is_some() {
                return Ok(());
            }
        }
        Err(AlertError::Conflict("the check-in is changing too fast; try again"))
    }

    async fn own(&self, subject: UserId, id: CheckInId) -> Result<CheckIn, AlertError> {
        let found = self.0.store.check_in(subject, id).await?;
        found.filter(|c| c.state != CheckInState::Deleted).ok_or(AlertError::NotFound("check-in"))
    }

    /// Reminds of one that is due, or raises one that is missed. `alone`: the store has refused before to store the miss
    /// with its emergency.
    pub(in crate::alerts) async fn fire(
        &self,
        check_in: &CheckIn,
        alone: bool,
        now: Timestamp,
    ) -> Result<(), AlertError> {
        match check_in.due(now) {
            Some(CheckInDue::Remind(reminded)) => self.remind(&reminded, now).await,
            Some(CheckInDue::Miss) if alone => self.miss_alone(check_in, now).await,
            Some(CheckInDue::Miss) => match tried(self.miss(check_in, now)).await {
                Ok(missed) => missed,
                Err(Refusal::Passing(error)) => Err(error.into()),
                Err(why) => {
                    self.0.aside.check_in.note(check_in.id, why);
                    self.miss_alone(check_in, now).await
                }
            },
            None => Ok(()),
        }
    }

    /// Asks the person on all of their devices.
    async fn remind(&self, reminded: &CheckIn, now: Timestamp) -> Result<(), AlertError> {
        let due = reminded.due_at.unix_ms().to_be_bytes();
        let mut params = BTreeMap::from([
            ("check_in".to_owned(), reminded.id.to_string()),
            ("missed_at".to_owned(), reminded.missed_at().to_string()),
        ]);
        params.extend(reminded.note.clone().map(|note| ("note".to_owned(), note)));
        let alert = AlertDraft {
            id: AlertId(derived("check-in due", &[reminded.id.0.as_bytes(), &due])),
            at: now,
            template: "check_in.due",
            params,
            // Who hears of it too late is looked for in vain.
            lane: Lane::Emergency,
            ..self.0.draft_to(reminded.subject, AlertKind::CheckIn, Severity::Warning)
        };
        // If it has changed meanwhile there is nothing to remind of.
        if let Some(committed) = self.0.store.change_check_in(reminded, &[alert]).await? {
            self.0.bus.publish(Event::Inbox(committed.told.into()));
        }
        Ok(())
    }

    /// Raises the emergency of a missed check-in, or joins the open one: with the miss, or not at all.
    async fn miss(&self, check_in: &CheckIn, now: Timestamp) -> Stored<Result<(), AlertError>> {
        let mut id = check_in.raises_as();
        let mut open: Option<Emergency> = None;
        for _ in 0..TRIES {
            let joins = open.take().and_then(|open| open.apply(Command::Join(id), now));
            let joined: Option<EmergencyId> = joins.is_some().then_some(id);
            let next = joins.unwrap_or_else(|| check_in.raise(id, now));
            let Some(missed) = check_in.miss(next.emergency.id) else { return Ok(Ok(())) };
            let mut told = drafts(&next.emergency, &next.notices, None, now);
            word_as_missed(&mut told, check_in);
            let change = Change { emergency: &next.emergency, joined, alerts: &told };
            match self.0.store.fire_check_in(&missed, change).await? {
                Fired::Stored(committed) => {
                    metrics::counter!("cima_check_ins_missed_total").increment(1);
                    if joined.is_none() {
                        metrics::counter!("cima_emergencies_opened_total").increment(1);
                    }
                    self.0.publish(&next, committed).await;
                    return Ok(Ok(()));
                }
                Fired::Stale => return Ok(Ok(())),
                Fired::Open(emergency) => open = Some(*emergency),
                Fired::Changed => {}
                Fired::IdTaken => id = EmergencyId::fresh(&self.0.clock),
            }
        }
        Ok(Err(AlertError::Conflict("the emergency to join is changing too fast")))
    }

    /// The store refuses to do both at once. The emergency comes first: it is raised or joined by itself, once for each miss
    /// whatever becomes of the check-in, and that is marked after.
    async fn miss_alone(&self, check_in: &CheckIn, now: Timestamp) -> Result<(), AlertError> {
        let newest = self.0.store.check_in(check_in.subject, check_in.id).await?;
        if newest.is_none_or(|newest| newest.version != check_in.version) {
            return Ok(());
        }
        let id = check_in.raises_as();
        let mut own_id = id;
        for _ in 0..TRIES {
            let next = check_in.raise(own_id, now);
            let told = || {
                let mut told = drafts(&next.emergency, &next.notices, None, now);
                word_as_missed(&mut told, check_in);
                told
            };
            let (raised, stored) = self.0.open(&next.emergency, id, told).await?;
            let emergency = match raised {
                Raised::Opened(committed) => {
                    metrics::counter!("cima_emergencies_opened_total").increment(1);
                    let next = Next { emergency: stored, ..next };
                    self.0.publish(&next, committed).await;
                    next.emergency
                }
                Raised::Repeated(emergency) => emergency,
                Raised::Open(open) => match open.apply(Command::Join(id), now) {
                    Some(joins) => match self.0.store_change(joins, Some(id), now).await? {
                        Some(joined) => joined,
                        None => continue,
                    },
                    None => open,
                },
                Raised::IdTaken => {
                    own_id = EmergencyId::fresh(&self.0.clock);
                    continue;
                }
            };
            if let Some(missed) = check_in.miss(emergency.id)
                && self.0.store.change_check_in(&missed, &[]).await?.is_some()
            {
                metrics::counter!("cima_check_ins_missed_total").increment(1);
            }
            return Ok(());
        }
        Err(AlertError::Conflict("the emergency to join is changing too fast"))
    }
}

impl Alerts {
    /// The check-ins of people.
    pub fn check_ins(&self) -> CheckIns<'_> {
        CheckIns(self)
    }
}
