//! The emergency state machine: values and a time in, values out.
//!
//! `countdown -> active | cancelled`, `active -> resolved | cancelled | expired`. An end under duress leaves the
//! state active and sets `apparent`, which is all that the subject's tokens are ever shown from then on.

use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::trust::EmergencyFacts;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An active emergency ends by itself so long after the last sign of it: a fix, a claim, a raise.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// That it will is announced so long before.
const WARNING: Duration = Duration::from_secs(30 * 60);
/// How far before its opening the trail that contacts see begins, unless a missed check-in raised it.
const LOOK_BACK: Duration = Duration::from_secs(600);

/// What is the matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmergencyKind {
    /// The button.
    Sos,
    /// The button, without a sound on the phone.
    Silent,
    /// A check-in was missed.
    CheckIn,
    /// The phone felt a fall.
    Fall,
    /// Anything else.
    Other,
}

impl EmergencyKind {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sos => "sos",
            Self::Silent => "silent",
            Self::CheckIn => "check_in",
            Self::Fall => "fall",
            Self::Other => "other",
        }
    }
    /// From [`EmergencyKind::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Sos, Self::Silent, Self::CheckIn, Self::Fall, Self::Other]
            .into_iter()
            .find(|k| k.word() == word)
    }
}

/// Where an emergency stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Raised; contacts are told when the countdown is over.
    Countdown,
    /// Contacts are told and see the position.
    Active,
    /// Ended: the person is safe.
    Resolved,
    /// Ended: it was no emergency.
    Cancelled,
    /// Ended: no sign of it for a day.
    Expired,
}

impl State {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Countdown => "countdown",
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
    /// From [`State::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Countdown, Self::Active, Self::Resolved, Self::Cancelled, Self::Expired]
            .into_iter()
            .find(|s| s.word() == word)
    }
    /// Whether it can still change.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Countdown | Self::Active)
    }
}

/// A contact who said "I am on it".
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Claim {
    /// Who.
    pub contact: UserId,
    /// When.
    pub at: Timestamp,
    /// When they took it back, or the subject voided it.
    pub dropped_at: Option<Timestamp>,
}

/// An end, true or apparent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ended {
    /// As what.
    pub state: State,
    /// When.
    pub at: Timestamp,
}

/// An emergency as it truly stands. Nothing of it leaves the server but through [`super::subject_view`] and
/// [`super::contact_view`].
#[derive(Clone, PartialEq, Debug)]
pub struct Emergency {
    /// The raising phone's id for it, unless somebody else had used that.
    pub id: EmergencyId,
    /// Who is in it.
    pub subject: UserId,
    /// What raised it; none for a check-in.
    pub device: Option<DeviceId>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// In the person's own words.
    pub message: Option<String>,
    /// Where it truly stands.
    pub state: State,
    /// When it was raised.
    pub opened_at: Timestamp,
    /// The oldest fix that contacts see: 10 minutes before the opening; if a missed check-in raised it, when that was
    /// set.
    pub trail_from: Timestamp,
    /// When contacts were told.
    pub active_at: Option<Timestamp>,
    /// When the countdown is over.
    pub countdown_until: Option<Timestamp>,
    /// When it truly ended.
    pub ended_at: Option<Timestamp>,
    /// The end that the subject's tokens see, if it was under duress.
    pub apparent: Option<Ended>,
    /// All claims, dropped ones too.
    pub claims: Vec<Claim>,
    /// Ids of further raises that joined it.
    pub joined: Vec<EmergencyId>,
    /// The fix that came with the raise.
    pub opening_fix: Option<Fix>,
    /// Grows with every change; a change names the version it was made from.
    pub version: i64,
    /// When a timer looks at it next.
    pub due_at: Option<Timestamp>,
    /// Its end by time was announced.
    pub warned: bool,
    /// The end that the subject sees is so long ago that they see no more than that it was.
    pub erased: bool,
}

/// What a new emergency is made of.
pub struct Opening {
    /// Its id.
    pub id: EmergencyId,
    /// Who.
    pub subject: UserId,
    /// On what.
    pub device: Option<DeviceId>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// In the person's own words.
    pub message: Option<String>,
    /// The fix that came with it.
    pub fix: Option<Fix>,
    /// How long contacts are not told yet.
    pub countdown: Duration,
}

/// How an end was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// By the person.
    True,
    /// With the duress PIN.
    Duress,
}

/// What a person ends an emergency as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndWith {
    /// Safe.
    Resolve,
    /// A false alarm.
    Cancel,
}

/// What can happen to an emergency.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Command {
    /// The person raised again, with another id.
    Join(EmergencyId),
    /// The person ends it.
    End(EndWith, Manner),
    /// A contact is on it.
    Claim(UserId),
    /// A contact takes it back, or the subject voids it.
    Unclaim(UserId),
    /// A timer was due; with the time of the newest fix of the person.
    Due(Option<Timestamp>),
    /// The account is being deleted: a true end, whatever it seemed to be.
    Forget,
}

/// Something that has to be told because of a change.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Telling {
    /// To contacts: it is raised.
    Raised,
    /// To contacts: raised again.
    RaisedAgain,
    /// To those who hear of duress: ended under duress, take it as going on.
    UnderDuress,
    /// To contacts (if under duress: to those who do not hear of it): it ended.
    Ended(State),
    /// To those who heard of duress: now it has truly ended.
    TrulyEnded(State),
    /// To the subject: a contact is on it.
    Claimed(UserId),
    /// To contacts, and to the subject if it is open to them: it will end by itself in 30 minutes.
    ExpiresSoon,
}

/// An emergency after a change, and what has to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Next {
    /// The emergency, its version one higher.
    pub emergency: Emergency,
    /// What has to be told.
    pub tell: Vec<Telling>,
    /// To the subject's tokens (and to who does not hear of duress) nothing changed: it had ended before.
    pub hidden: bool,
}

impl Emergency {
    /// A new one.
    pub fn open(opening: Opening, now: Timestamp) -> Next {
        let waits = !opening.countdown.is_zero();
        let countdown_until = waits.then(|| now + opening.countdown);
        let emergency = Self {
            id: opening.id,
            subject: opening.subject,
            device: opening.device,
            kind: opening.kind,
            message: opening.message,
            state: if waits { State::Countdown } else { State::Active },
            opened_at: now,
            trail_from: now - LOOK_BACK,
            active_at: (!waits).then_some(now),
            countdown_until,
            ended_at: None,
            apparent: None,
            claims: Vec::new(),
            joined: Vec::new(),
            opening_fix: opening.fix,
            version: 1,
            due_at: countdown_until.or(Some(now + (LIFETIME - WARNING))),
            warned: false,
            erased: false,
        };
        let tell = if waits { vec![] } else { vec![Telling::Raised] };
        Next { emergency, tell, hidden: false }
    }

    /// The emergency after `command`, or `None` if that changes nothing.
    pub fn apply(&self, command: Command, now: Timestamp) -> Option<Next> {
        let mut next = self.clone();
        next.version += 1;
        let tell = match command {
            Command::Join(id) => next.join(id, now),
            Command::End(with, manner) => next.end(with, manner, now),
            Command::Claim(contact) => next.claim(contact, now),
            Command::Unclaim(contact) => next.unclaim(contact, now),
            Command::Due(newest_fix_at) => next.due(newest_fix_at, now),
            Command::Forget => next.truly_end(State::Cancelled, now),
        }?;
        Some(Next { emergency: next, tell, hidden: self.apparent.is_some() })
    }

    fn join(&mut self, id: EmergencyId, now: Timestamp) -> Option<Vec<Telling>> {
        if !self.state.is_open() || self.apparent.is_some() || self.joined.contains(&id) || self.id == id {
            return None;
        }
        self.joined.push(id);
        self.sign_of_life(now);
        if self.state == State::Countdown {
            self.activate(now);
            Some(vec![Telling::Raised])
        } else {
            Some(vec![Telling::RaisedAgain])
        }
    }

    fn end(&mut self, with: EndWith, manner: Manner, now: Timestamp) -> Option<Vec<Telling>> {
        if !self.state.is_open() {
            return None;
        }
        // Before contacts were told there is nothing to resolve: it is cancelled.
        let state = match with {
            EndWith::Resolve if self.state == State::Active => State::Resolved,
            _ => State::Cancelled,
        };
        match (manner, self.apparent) {
            (Manner::True, _) => self.truly_end(state, now),
            (Manner::Duress, Some(_)) => None,
            (Manner::Duress, None) => {
                let mut tell = vec![];
                if self.state == State::Countdown {
                    self.activate(now);
                    tell.push(Telling::Raised);
                } else {
                    tell.push(Telling::Ended(state));
                }
                tell.push(Telling::UnderDuress);
                self.apparent = Some(Ended { state, at: now });
                Some(tell)
            }
        }
    }

    fn truly_end(&mut self, state: State, now: Timestamp) -> Option<Vec<Telling>> {
        if !self.state.is_open() {
            return None;
        }
        let told = self.state == State::Active;
        let after_duress = self.apparent.is_some();
        self.state = state;
        self.ended_at = Some(now);
        self.due_at = None;
        Some(match (told, after_duress) {
            (false, _) => vec![],
            (true, false) => vec![Telling::Ended(state)],
            (true, true) => vec![Telling::TrulyEnded(state)],
        })
    }

    fn claim(&mut self, contact: UserId, now: Timestamp) -> Option<Vec<Telling>> {
        if self.state != State::Active || self.is_claimed_by(contact) {
            return None;
        }
        self.claims.push(Claim { contact, at: now, dropped_at: None });
        self.sign_of_life(now);
        Some(if self.apparent.is_none() { vec![Telling::Claimed(contact)] } else { vec![] })
    }

    fn unclaim(&mut self, contact: UserId, now: Timestamp) -> Option<Vec<Telling>> {
        let claim = self.claims.iter_mut().find(|c| c.contact == contact && c.dropped_at.is_none())?;
        if self.state != State::Active {
            return None;
        }
        claim.dropped_at = Some(now);
        Some(vec![])
    }

    fn due(&mut self, newest_fix_at: Option<Timestamp>, now: Timestamp) -> Option<Vec<Telling>> {
        if self.due_at.is_none_or(|due| now < due) {
            return None;
        }
        if self.state == State::Countdown {
            self.activate(now);
            return Some(vec![Telling::Raised]);
        }
        let claimed = self.claims.iter().map(|c| c.at).max();
        let last_sign = [self.active_at, claimed, newest_fix_at].into_iter().flatten().max()?;
        let end = last_sign + LIFETIME;
        if now >= end {
            self.truly_end(State::Expired, now)
        } else if now >= end - WARNING {
            self.due_at = Some(end);
            let first = !self.warned;
            self.warned = true;
            Some(if first { vec![Telling::ExpiresSoon] } else { vec![] })
        } else {
            self.warned = false;
            self.due_at = Some(end - WARNING);
            Some(vec![])
        }
    }

    fn activate(&mut self, now: Timestamp) {
        self.state = State::Active;
        self.active_at = Some(now);
        self.countdown_until = None;
        self.sign_of_life(now);
    }

    fn sign_of_life(&mut self, now: Timestamp) {
        if self.state == State::Active {
            self.warned = false;
            self.due_at = Some(now + (LIFETIME - WARNING));
        }
    }

    /// Takes what a further raise knows better: where the person is now, and words if there were none.
    pub fn enrich(&mut self, message: Option<&str>, fix: Option<&Fix>) {
        if self.message.is_none() {
            self.message = message.map(str::to_owned);
        }
        let newer = |new: &&Fix| self.opening_fix.as_ref().is_none_or(|old| old.order() < new.order());
        if let Some(fix) = fix.filter(newer) {
            self.opening_fix = Some(fix.clone());
        }
    }

    /// Whether `contact` is on it.
    pub fn is_claimed_by(&self, contact: UserId) -> bool {
        self.claims.iter().any(|c| c.contact == contact && c.dropped_at.is_none())
    }

    /// Whether a new raise joins it: open, also to the subject's tokens.
    pub fn takes_joins(&self) -> bool {
        self.state.is_open() && self.apparent.is_none()
    }

    /// What visibility has to know of it; `None` unless active.
    pub fn facts(&self) -> Option<EmergencyFacts> {
        (self.state == State::Active).then_some(EmergencyFacts {
            id: self.id,
            subject: self.subject,
            trail_from: self.trail_from,
            duress: self.apparent.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn opened(countdown_s: u64) -> Next {
        let opening = Opening {
            id: EmergencyId(Uuid::from_u128(1)),
            subject: UserId(Uuid::from_u128(2)),
            device: None,
            kind: EmergencyKind::Sos,
            message: None,
            fix: None,
            countdown: Duration::from_secs(countdown_s),
        };
        Emergency::open(opening, T0)
    }
    fn after(s: u64) -> Timestamp {
        T0 + Duration::from_secs(s)
    }

    #[test]
    fn contacts_hear_nothing_of_a_countdown_that_is_cancelled() {
        let counting = opened(10);
        assert_eq!((counting.emergency.state, counting.tell), (State::Countdown, vec![]));
        let ended = counting.emergency.apply(Command::End(EndWith::Resolve, Manner::True), after(5)).unwrap();
        assert_eq!((ended.emergency.state, ended.tell), (State::Cancelled, vec![]));
        assert!(ended.emergency.apply(Command::Due(None), after(11)).is_none());
    }

    #[test]
    fn a_countdown_becomes_active_by_time_or_by_a_second_raise() {
        let counting = opened(10).emergency;
        assert!(counting.apply(Command::Due(None), after(9)).is_none());
        assert_eq!(counting.apply(Command::Due(None), after(10)).unwrap().tell, vec![Telling::Raised]);
        let joined = counting.apply(Command::Join(EmergencyId(Uuid::from_u128(9))), after(3)).unwrap();
        assert_eq!((joined.emergency.state, joined.tell), (State::Active, vec![Telling::Raised]));
    }

    #[test]
    fn duress_seems_an_end_and_is_none() {
        let active = opened(0).emergency;
        let forced = active.apply(Command::End(EndWith::Resolve, Manner::Duress), after(60)).unwrap();
        assert_eq!(forced.emergency.state, State::Active);
        assert_eq!(forced.emergency.apparent, Some(Ended { state: State::Resolved, at: after(60) }));
        assert_eq!(forced.tell, vec![Telling::Ended(State::Resolved), Telling::UnderDuress]);
        let again = Command::End(EndWith::Resolve, Manner::Duress);
        assert!(forced.emergency.apply(again, after(61)).is_none());
        let truly = forced.emergency.apply(Command::End(EndWith::Resolve, Manner::True), after(90)).unwrap();
        assert_eq!(
            (truly.emergency.state, truly.tell),
            (State::Resolved, vec![Telling::TrulyEnded(State::Resolved)])
        );
    }

    #[test]
    fn duress_in_a_countdown_raises_it() {
        let forced =
            opened(10).emergency.apply(Command::End(EndWith::Cancel, Manner::Duress), after(2)).unwrap();
        assert_eq!(forced.emergency.state, State::Active);
        assert_eq!(forced.tell, vec![Telling::Raised, Telling::UnderDuress]);
    }

    #[test]
    fn it_expires_a_day_after_the_last_sign_and_says_so_before() {
        let day = 24 * 3600;
        let active = opened(0).emergency;
        let waits = active.apply(Command::Due(Some(after(1000))), after(day - 1800)).unwrap();
        assert_eq!((waits.tell, waits.emergency.due_at), (vec![], Some(after(day - 800))));
        let warned = waits.emergency.apply(Command::Due(Some(after(1000))), after(day - 800)).unwrap();
        assert_eq!(warned.tell, vec![Telling::ExpiresSoon]);
        let over = warned.emergency.apply(Command::Due(Some(after(1000))), after(day + 1000)).unwrap();
        assert_eq!(over.tell, vec![Telling::Ended(State::Expired)]);
    }

    #[test]
    fn raised_again_it_expires_a_day_after_that_and_says_so_before() {
        let hour = 3600;
        let again = Command::Join(EmergencyId(Uuid::from_u128(9)));
        let joined = opened(0).emergency.apply(again, after(10 * hour)).unwrap().emergency;
        let warned = joined.apply(Command::Due(None), after(33 * hour + 1800)).unwrap();
        assert_eq!((warned.emergency.state, &warned.tell), (State::Active, &vec![Telling::ExpiresSoon]));
        assert_eq!(warned.emergency.apply(Command::Due(None), after(34 * hour - 1)), None);
        let over = warned.emergency.apply(Command::Due(None), after(34 * hour)).unwrap();
        assert_eq!(over.tell, vec![Telling::Ended(State::Expired)]);
    }

    #[test]
    fn a_timer_that_comes_too_late_still_leaves_time_to_answer_its_warning() {
        let hour = 3600;
        let late = opened(0).emergency.apply(Command::Due(None), after(30 * hour)).unwrap();
        assert_eq!((late.emergency.state, &late.tell), (State::Active, &vec![Telling::ExpiresSoon]));
        assert_eq!(late.emergency.apply(Command::Due(None), after(30 * hour + 1799)), None);
        let over = late.emergency.apply(Command::Due(None), after(30 * hour + 1800)).unwrap();
        assert_eq!(over.tell, vec![Telling::Ended(State::Expired)]);
    }

    fn command() -> impl Strategy<Value = Command> {
        let contact = (0..3_u128).prop_map(|n| UserId(Uuid::from_u128(100 + n)));
        prop_oneof![
            (0..4_u128).prop_map(|n| Command::Join(EmergencyId(Uuid::from_u128(n)))),
            (any::<bool>(), any::<bool>()).prop_map(|(resolve, duress)| Command::End(
                if resolve { EndWith::Resolve } else { EndWith::Cancel },
                if duress { Manner::Duress } else { Manner::True }
            )),
            contact.clone().prop_map(Command::Claim),
            contact.prop_map(Command::Unclaim),
            proptest::option::of(0..200_000_u64).prop_map(|s| Command::Due(s.map(after))),
            Just(Command::Forget),
        ]
    }

    proptest! {
        #[test]
        fn no_history_is_illegal(countdown in 0..30_u64, steps in proptest::collection::vec((command(), 0..50_000_u64), 1..30)) {
            let mut e = opened(countdown).emergency;
            let mut now = T0;
            for (command, wait) in steps {
                now = now + Duration::from_secs(wait);
                let Some(next) = e.apply(command, now) else { continue };
                let n = next.emergency;
                prop_assert!(e.state.is_open(), "an ended emergency changed");
                prop_assert_eq!(n.version, e.version + 1);
                let legal = n.state == e.state || matches!((e.state, n.state),
                    (State::Countdown, State::Active | State::Cancelled) | (State::Active, State::Resolved | State::Cancelled | State::Expired));
                prop_assert!(legal, "{:?} -> {:?}", e.state, n.state);
                prop_assert_eq!(n.ended_at.is_some(), !n.state.is_open());
                prop_assert_eq!(n.due_at.is_some(), n.state.is_open());
                prop_assert!(e.apparent.is_none() || n.apparent == e.apparent, "an apparent end changed");
                if n.apparent.is_some() {
                    prop_assert!(!n.takes_joins());
                    prop_assert!(!next.tell.iter().any(|t| matches!(t, Telling::Claimed(_))), "the subject would hear");
                }
                e = n;
            }
        }
    }
}
