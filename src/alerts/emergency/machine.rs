//! The emergency state machine: values and a time in, values out.
//!
//! `countdown -> active | cancelled`, `active -> resolved | cancelled | expired`. An end under duress leaves the
//! state active and sets `apparent`, which is all that the subject's tokens are ever shown from then on.

use super::life::sign_of_life;
use super::{Claim, Emergency, EndWith, Ended, Manner, Opening, State};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::trust::{EmergencyFacts, TrustLink};
use std::time::Duration;

/// How far before its opening the trail that contacts see begins, unless a missed check-in raised it.
const LOOK_BACK: Duration = Duration::from_secs(600);

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
    Wake(Option<Timestamp>),
    /// The account is being deleted: a true end, whatever it seemed to be.
    Forget,
}

/// Something that has to be told because of a change.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Notice {
    /// To contacts (if under duress: to those who hear of it): it is raised.
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

/// A contact who claims again so soon after their last claim is on it as before: nobody is told anew.
const CLAIMED_AGAIN: Duration = Duration::from_secs(60);

/// An emergency after a change, and what has to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Next {
    /// The emergency, its version one higher.
    pub emergency: Emergency,
    /// What has to be told.
    pub notices: Vec<Notice>,
    /// To the subject's tokens (and to who does not hear of duress) nothing changed: it had ended before.
    pub hidden: bool,
}

impl Emergency {
    /// A new one. Without a countdown contacts are told at once.
    pub fn open(opening: Opening, now: Timestamp) -> Next {
        let countdown_until = now + opening.countdown;
        let emergency = Self {
            id: opening.id,
            subject: opening.subject,
            device: opening.device,
            kind: opening.kind,
            message: opening.message,
            state: State::Countdown,
            opened_at: now,
            trail_from: now - LOOK_BACK,
            active_at: None,
            countdown_until: Some(countdown_until),
            ended_at: None,
            apparent: None,
            claims: Vec::new(),
            joined: Vec::new(),
            opening_fix: opening.fix,
            version: 1,
            due_at: Some(countdown_until),
            warned: false,
            erased: false,
        };
        match emergency.apply(Command::Wake(None), now) {
            Some(mut active) => {
                active.emergency.version = emergency.version;
                active
            }
            None => Next { emergency, notices: Vec::new(), hidden: false },
        }
    }

    /// The emergency after `command`, or `None` if that changes nothing.
    pub fn apply(&self, command: Command, now: Timestamp) -> Option<Next> {
        let mut next = self.clone();
        next.version += 1;
        let mut notices = match command {
            Command::Join(id) => next.join(id, now),
            Command::End(with, manner) => next.end(with, manner, now),
            Command::Claim(contact) => next.claim(contact, now),
            Command::Unclaim(contact) => next.unclaim(contact, now),
            Command::Wake(_) => next.wake(now),
            Command::Forget => next.truly_end(State::Cancelled, now),
        }?;
        if let Some(at) = sign_of_life(self.state, next.state, command, now) {
            next.live_on(at);
        }
        if matches!(command, Command::Wake(_)) {
            notices.extend(next.run_out(now));
        }
        Some(Next { emergency: next, notices, hidden: self.apparent.is_some() })
    }

    fn join(&mut self, id: EmergencyId, now: Timestamp) -> Option<Vec<Notice>> {
        if !self.state.is_open() || self.apparent.is_some() || self.joined.contains(&id) || self.id == id {
            return None;
        }
        self.joined.push(id);
        if self.state == State::Countdown {
            self.activate(now);
            Some(vec![Notice::Raised])
        } else {
            Some(vec![Notice::RaisedAgain])
        }
    }

    fn end(&mut self, with: EndWith, manner: Manner, now: Timestamp) -> Option<Vec<Notice>> {
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
                let (first, at) = match self.active_at {
                    // Who does not hear of duress was told of it, also if that was this very millisecond.
                    Some(active) => (Notice::Ended(state), now.max(active + Duration::from_millis(1))),
                    None => {
                        self.activate(now);
                        (Notice::Raised, now)
                    }
                };
                self.apparent = Some(Ended { state, at });
                Some(vec![first, Notice::UnderDuress])
            }
        }
    }

    pub(super) fn truly_end(&mut self, state: State, now: Timestamp) -> Option<Vec<Notice>> {
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
            (true, false) => vec![Notice::Ended(state)],
            (true, true) => vec![Notice::TrulyEnded(state)],
        })
    }

    fn claim(&mut self, contact: UserId, now: Timestamp) -> Option<Vec<Notice>> {
        if self.state != State::Active {
            return None;
        }
        if self.is_claimed_by(contact) {
            // Said once more after the warning, it answers that.
            return self.warned.then(Vec::new);
        }
        let told = self.claims.iter().any(|c| c.contact == contact && now < c.at + CLAIMED_AGAIN);
        self.forget_dropped(contact);
        self.claims.push(Claim { contact, at: now, dropped_at: None });
        Some(if self.apparent.is_none() && !told { vec![Notice::Claimed(contact)] } else { vec![] })
    }

    /// A contact who claims and takes it back in a loop leaves no more than their newest claim, and the one that an apparent
    /// end found.
    fn forget_dropped(&mut self, contact: UserId) {
        let seen_at = self.apparent.map(|end| end.at);
        self.claims.retain(|c| {
            let dropped = c.dropped_at.is_some_and(|at| seen_at.is_none_or(|seen| at <= seen || seen < c.at));
            c.contact != contact || !dropped
        });
    }

    fn unclaim(&mut self, contact: UserId, now: Timestamp) -> Option<Vec<Notice>> {
        let claim = self.claims.iter_mut().find(|c| c.contact == contact && c.dropped_at.is_none())?;
        if self.state != State::Active {
            return None;
        }
        claim.dropped_at = Some(now);
        Some(vec![])
    }

    /// Its time has come: that of a countdown, or to look whether it runs out.
    fn wake(&mut self, now: Timestamp) -> Option<Vec<Notice>> {
        if self.due_at.is_none_or(|due| now < due) {
            return None;
        }
        if self.state == State::Active {
            return Some(vec![]);
        }
        self.activate(now);
        Some(vec![Notice::Raised])
    }

    fn activate(&mut self, now: Timestamp) {
        self.state = State::Active;
        self.active_at = Some(now);
        self.countdown_until = None;
        // The countdown's; that of an active one follows from its signs of life.
        self.due_at = None;
    }

    /// Takes what a further raise knows better: where the person is now, and words if there were none. A raise with a place on
    /// another phone shows that the person is with that one.
    pub fn enrich(&mut self, device: Option<DeviceId>, message: Option<&str>, fix: Option<&Fix>) {
        if self.message.is_none() {
            self.message = message.map(str::to_owned);
        }
        let moves = device.is_some() && device != self.device && (fix.is_some() || self.device.is_none());
        let newer =
            |new: &&Fix| moves || self.opening_fix.as_ref().is_none_or(|old| old.order() < new.order());
        let is_of_its_device = moves || device == self.device;
        if let Some(fix) = fix.filter(newer).filter(|_| is_of_its_device) {
            self.opening_fix = Some(fix.clone());
        }
        if moves {
            self.device = device;
        }
    }

    /// Whether `contact` is on it.
    pub fn is_claimed_by(&self, contact: UserId) -> bool {
        self.claims.iter().any(|c| c.contact == contact && c.dropped_at.is_none())
    }

    /// Whether contacts were told of it before it seemed to be over.
    pub(super) fn was_told(&self) -> bool {
        self.active_at.is_some_and(|active| self.apparent.is_none_or(|end| active < end.at))
    }

    /// Whether this contact is shown how it truly stands.
    pub(super) fn is_shown_truly_to(&self, link: &TrustLink) -> bool {
        self.apparent.is_none_or(|end| link.hears_what_goes_on_since(end.at))
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
            raised_on: self.device,
            seems_over_since: self.apparent.map(|end| end.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{T0, after, opening, user};
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn opened(countdown_s: u64) -> Next {
        Emergency::open(opening(Duration::from_secs(countdown_s)), T0)
    }

    #[test]
    fn contacts_hear_nothing_of_a_countdown_that_is_cancelled() {
        let counting = opened(10);
        assert_eq!((counting.emergency.state, counting.notices), (State::Countdown, vec![]));
        let ended = counting.emergency.apply(Command::End(EndWith::Resolve, Manner::True), after(5)).unwrap();
        assert_eq!((ended.emergency.state, ended.notices), (State::Cancelled, vec![]));
        assert!(ended.emergency.apply(Command::Wake(None), after(11)).is_none());
    }

    #[test]
    fn a_countdown_becomes_active_by_time_or_by_a_second_raise() {
        let counting = opened(10).emergency;
        assert!(counting.apply(Command::Wake(None), after(9)).is_none());
        assert_eq!(counting.apply(Command::Wake(None), after(10)).unwrap().notices, vec![Notice::Raised]);
        let joined = counting.apply(Command::Join(EmergencyId(Uuid::from_u128(9))), after(3)).unwrap();
        assert_eq!((joined.emergency.state, joined.notices), (State::Active, vec![Notice::Raised]));
    }

    #[test]
    fn duress_seems_an_end_and_is_none() {
        let active = opened(0).emergency;
        let forced = active.apply(Command::End(EndWith::Resolve, Manner::Duress), after(60)).unwrap();
        assert_eq!(forced.emergency.state, State::Active);
        assert_eq!(forced.emergency.apparent, Some(Ended { state: State::Resolved, at: after(60) }));
        assert_eq!(forced.notices, vec![Notice::Ended(State::Resolved), Notice::UnderDuress]);
        let again = Command::End(EndWith::Resolve, Manner::Duress);
        assert!(forced.emergency.apply(again, after(61)).is_none());
        let truly = forced.emergency.apply(Command::End(EndWith::Resolve, Manner::True), after(90)).unwrap();
        assert_eq!(
            (truly.emergency.state, truly.notices),
            (State::Resolved, vec![Notice::TrulyEnded(State::Resolved)])
        );
    }

    #[test]
    fn duress_in_a_countdown_raises_it() {
        let forced =
            opened(10).emergency.apply(Command::End(EndWith::Cancel, Manner::Duress), after(2)).unwrap();
        assert_eq!(forced.emergency.state, State::Active);
        assert_eq!(forced.notices, vec![Notice::Raised, Notice::UnderDuress]);
    }

    #[test]
    fn a_contact_who_claims_in_a_loop_leaves_one_claim_and_is_told_once() {
        let contact = user(7);
        let toggled = |mut e: Emergency, from: u64| {
            let mut told = 0;
            for n in 0..1_000 {
                let at = T0 + Duration::from_secs(from) + Duration::from_millis(n);
                for command in [Command::Claim(contact), Command::Unclaim(contact)] {
                    let next = e.apply(command, at).unwrap();
                    told += next.notices.len();
                    e = next.emergency;
                }
            }
            (e, told)
        };
        let (e, told) = toggled(opened(0).emergency, 1);
        assert_eq!((e.claims.len(), told), (1, 1));
        let later = e.apply(Command::Claim(contact), after(120)).unwrap();
        assert_eq!(later.notices, vec![Notice::Claimed(contact)], "after a minute it is news again");
        assert_eq!(later.emergency.claims.len(), 1);
        // Whoever was shown an end goes on seeing who was on it then.
        let forced =
            later.emergency.apply(Command::End(EndWith::Resolve, Manner::Duress), after(130)).unwrap();
        let (e, told) =
            toggled(forced.emergency.apply(Command::Unclaim(contact), after(140)).unwrap().emergency, 150);
        assert_eq!(told, 0);
        let claims: Vec<Timestamp> = e.claims.iter().map(|claim| claim.at).collect();
        assert_eq!(claims, [after(120), after(150) + Duration::from_millis(999)]);
    }

    fn command() -> impl Strategy<Value = Command> {
        let contact = (0..3_u128).prop_map(|n| user(100 + n));
        prop_oneof![
            (0..4_u128).prop_map(|n| Command::Join(EmergencyId(Uuid::from_u128(n)))),
            (any::<bool>(), any::<bool>()).prop_map(|(resolve, duress)| Command::End(
                if resolve { EndWith::Resolve } else { EndWith::Cancel },
                if duress { Manner::Duress } else { Manner::True }
            )),
            contact.clone().prop_map(Command::Claim),
            contact.prop_map(Command::Unclaim),
            proptest::option::of(0..200_000_u64).prop_map(|s| Command::Wake(s.map(after))),
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
                    prop_assert!(!next.notices.iter().any(|t| matches!(t, Notice::Claimed(_))), "the subject would hear");
                }
                e = n;
            }
        }
    }
}
