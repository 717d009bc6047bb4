//! A check-in: a timer on the server that its person completes in time, or an emergency is raised for them.
//!
//! `waiting -> completed | missed`, and from each of these `-> deleted`. Values and a time in, values out; every change
//! names the version it was made from, so of a completion and a miss at the same moment only one is ever stored.

use crate::alerts::{Emergency, EmergencyKind, Next, Opening};
use crate::clock::Timestamp;
use crate::id::{CheckInId, EmergencyId, UserId, derived};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a check-in stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckInState {
    /// It is to be completed.
    Waiting,
    /// It was completed, and does not repeat.
    Completed,
    /// It was not completed in time: an emergency was raised.
    Missed,
    /// Its person deleted it. Kept without its note, so that a late repeat of its making does not set it again.
    Deleted,
}

impl CheckInState {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Missed => "missed",
            Self::Deleted => "deleted",
        }
    }
    /// From [`CheckInState::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Waiting, Self::Completed, Self::Missed, Self::Deleted].into_iter().find(|s| s.word() == word)
    }
}

/// A check-in.
#[derive(Clone, PartialEq, Debug)]
pub struct CheckIn {
    /// Its id.
    pub id: CheckInId,
    /// Whose.
    pub subject: UserId,
    /// For the contacts, should it be missed.
    pub note: Option<String>,
    /// When it was set; a completion sets one that repeats again. Contacts see the trail since then.
    pub set_at: Timestamp,
    /// When it has to be completed, and its person is reminded.
    pub due_at: Timestamp,
    /// How long after that an emergency is raised.
    pub grace: Duration,
    /// How long after a completion it is due again.
    pub repeat: Option<Duration>,
    /// Where it stands.
    pub state: CheckInState,
    /// Its person was reminded that it is due.
    pub reminded: bool,
    /// When a timer looks at it next; none once it waits no more.
    pub wakes_at: Option<Timestamp>,
    /// The emergency that it raised or joined.
    pub emergency: Option<EmergencyId>,
    /// Grows with every change; a change names the version it was made from.
    pub version: i64,
}

/// What a timer has to do.
#[derive(Clone, PartialEq, Debug)]
pub enum CheckInDue {
    /// Remind its person, and store it so.
    Remind(CheckIn),
    /// Raise [`CheckIn::raise`] and store it as [`CheckIn::miss`].
    Miss,
}

impl CheckIn {
    /// When it is missed.
    pub fn missed_at(&self) -> Timestamp {
        self.due_at + self.grace
    }

    /// After a completion at `now`; `None` if it waits no more. One that repeats is set again.
    pub fn complete(&self, now: Timestamp) -> Option<Self> {
        let mut next = self.change_if(self.state == CheckInState::Waiting)?;
        match self.repeat {
            Some(repeat) => {
                next.set_at = now;
                next.due_at = now + repeat;
                next.reminded = false;
                next.wakes_at = Some(next.due_at);
            }
            None => next.end(CheckInState::Completed),
        }
        Some(next)
    }

    /// After its deletion; `None` if it is deleted. An emergency that it raised goes on.
    pub fn delete(&self) -> Option<Self> {
        let mut next = self.change_if(self.state != CheckInState::Deleted)?;
        next.end(CheckInState::Deleted);
        next.note = None;
        next.emergency = None;
        Some(next)
    }

    /// What is to be done at `now`.
    pub fn due(&self, now: Timestamp) -> Option<CheckInDue> {
        self.wakes_at.filter(|wakes| *wakes <= now)?;
        if self.missed_at() <= now {
            return Some(CheckInDue::Miss);
        }
        let mut next = Self { version: self.version + 1, ..self.clone() };
        next.reminded = true;
        next.wakes_at = Some(self.missed_at());
        Some(CheckInDue::Remind(next))
    }

    /// After it was missed and `emergency` was raised or joined for it. One that repeats stops.
    pub fn miss(&self, emergency: EmergencyId) -> Option<Self> {
        let mut next = self.change_if(self.state == CheckInState::Waiting)?;
        next.end(CheckInState::Missed);
        next.emergency = Some(emergency);
        Some(next)
    }

    /// The id that a miss raises with: however often it is tried, it is the same emergency.
    pub fn raises_as(&self) -> EmergencyId {
        let due = self.due_at.unix_ms().to_be_bytes();
        EmergencyId(derived("missed check-in", &[self.id.0.as_bytes(), &due]))
    }

    /// The emergency that a miss opens.
    pub fn raise(&self, id: EmergencyId, now: Timestamp) -> Next {
        let opening = Opening {
            id,
            subject: self.subject,
            device: None,
            kind: EmergencyKind::CheckIn,
            message: self.note.clone(),
            fix: None,
            countdown: Duration::ZERO,
        };
        let mut next = Emergency::open(opening, now);
        next.emergency.trail_from = self.set_at;
        next
    }

    fn change_if(&self, may: bool) -> Option<Self> {
        may.then(|| Self { version: self.version + 1, ..self.clone() })
    }

    fn end(&mut self, state: CheckInState) {
        self.state = state;
        self.wakes_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn after(s: u64) -> Timestamp {
        T0 + Duration::from_secs(s)
    }
    fn set(due_s: u64, grace_s: u64, repeat_s: Option<u64>) -> CheckIn {
        CheckIn {
            id: CheckInId(Uuid::from_u128(1)),
            subject: UserId(Uuid::from_u128(2)),
            note: Some("a walk".into()),
            set_at: T0,
            due_at: after(due_s),
            grace: Duration::from_secs(grace_s),
            repeat: repeat_s.map(Duration::from_secs),
            state: CheckInState::Waiting,
            reminded: false,
            wakes_at: Some(after(due_s)),
            emergency: None,
            version: 1,
        }
    }
    const RAISED: EmergencyId = EmergencyId(Uuid::from_u128(9));

    #[test]
    fn its_person_is_reminded_once_and_it_is_missed_after_the_grace() {
        let waiting = set(60, 30, None);
        assert_eq!(waiting.due(after(59)), None);
        let Some(CheckInDue::Remind(reminded)) = waiting.due(after(60)) else { panic!("no reminder") };
        assert_eq!((reminded.wakes_at, reminded.version), (Some(after(90)), 2));
        assert_eq!(reminded.due(after(89)), None);
        assert_eq!(reminded.due(after(90)), Some(CheckInDue::Miss));
        assert_eq!(waiting.due(after(90)), Some(CheckInDue::Miss), "nobody is reminded of what is missed");
        assert_eq!(set(60, 0, None).due(after(60)), Some(CheckInDue::Miss));
    }

    #[test]
    fn what_is_completed_missed_or_deleted_is_never_due() {
        let waiting = set(60, 0, None);
        let completed = waiting.complete(after(59)).unwrap();
        let missed = waiting.miss(RAISED).unwrap();
        let deleted = waiting.delete().unwrap();
        for ended in [&completed, &missed, &deleted] {
            assert_eq!((ended.due(after(9_999)), ended.complete(after(61))), (None, None));
            assert_eq!(ended.miss(RAISED), None);
        }
        assert_eq!((deleted.note.as_deref(), deleted.delete()), (None, None));
        assert_eq!(missed.delete().unwrap().emergency, None);
    }

    #[test]
    fn a_completion_sets_one_that_repeats_again_and_a_miss_stops_it() {
        let waiting = set(60, 30, Some(100));
        let Some(CheckInDue::Remind(reminded)) = waiting.due(after(70)) else { panic!("no reminder") };
        let again = reminded.complete(after(80)).unwrap();
        assert_eq!((again.state, again.set_at, again.due_at), (CheckInState::Waiting, after(80), after(180)));
        assert_eq!((again.reminded, again.wakes_at), (false, Some(after(180))));
        assert_ne!(
            again.raises_as(),
            waiting.raises_as(),
            "each time it is missed is an emergency of its own"
        );
        assert_eq!(again.miss(RAISED).unwrap().wakes_at, None);
    }

    #[test]
    fn a_miss_raises_the_same_emergency_whenever_it_is_tried() {
        let waiting = set(60, 0, None);
        let first = waiting.raise(waiting.raises_as(), after(60)).emergency;
        let retried = waiting.raise(waiting.raises_as(), after(600)).emergency;
        assert_eq!(first.id, retried.id);
        assert_eq!((first.kind, first.message.as_deref()), (EmergencyKind::CheckIn, Some("a walk")));
        assert_eq!(first.trail_from, T0, "the trail begins when it was set, not before");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Complete,
        Timer,
        Delete,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![4 => Just(Step::Timer), 4 => Just(Step::Complete), 1 => Just(Step::Delete)]
    }

    proptest! {
        #[test]
        fn no_history_is_illegal(
            due in 1..600_u64, grace in 0..600_u64, repeat in proptest::option::of(60..600_u64),
            steps in proptest::collection::vec((step(), 0..400_u64), 1..40),
        ) {
            let mut c = set(due, grace, repeat);
            let mut now = T0;
            for (step, wait) in steps {
                now = now + Duration::from_secs(wait);
                let next = match step {
                    Step::Complete => c.complete(now),
                    Step::Delete => c.delete(),
                    Step::Timer => {
                        let due = c.due(now);
                        prop_assert_eq!(due.is_some(), c.wakes_at.is_some_and(|w| w <= now), "a timer sleeps on");
                        due.map(|due| match due {
                            CheckInDue::Remind(next) => next,
                            CheckInDue::Miss => c.miss(c.raises_as()).unwrap(),
                        })
                    }
                };
                let Some(n) = next else { continue };
                prop_assert_eq!(n.version, c.version + 1);
                prop_assert_eq!(n.wakes_at.is_some(), n.state == CheckInState::Waiting);
                prop_assert_eq!(n.emergency.is_some(), n.state == CheckInState::Missed);
                prop_assert!(n.missed_at() >= n.due_at);
                match (c.state, n.state) {
                    (CheckInState::Waiting, CheckInState::Waiting) => {
                        let again = n.set_at == now && n.due_at == now + n.repeat.unwrap_or_default() && !n.reminded;
                        let reminded = !c.reminded && n.reminded && n.due_at == c.due_at && now < c.missed_at();
                        prop_assert!(again || reminded);
                    }
                    (CheckInState::Waiting, CheckInState::Completed) => prop_assert_eq!(c.repeat, None),
                    (CheckInState::Waiting, CheckInState::Missed) => prop_assert!(now >= c.missed_at(), "early"),
                    (from, to) => prop_assert!(from != CheckInState::Deleted && to == CheckInState::Deleted),
                }
                c = n;
            }
        }
    }
}
