//! When an active emergency ends by itself: a day after the last sign of life, and half an hour after its people were told
//! that it will.
//!
//! There is no column for the last sign of life. It follows from what is stored: [`Emergency::due_at`] is when the warning is
//! due while nobody was warned, and the end from then on. So it is the same after a restart and on every node.

use super::machine::{Command, Notice};
use super::{Emergency, State};
use crate::clock::Timestamp;
use std::time::Duration;

/// An active emergency ends by itself so long after the last sign of life.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// That it will is announced so long before.
const WARNING: Duration = Duration::from_secs(30 * 60);

/// When a change shows that the person in an emergency, or somebody for them, still acts on it; `None` if it does not. Deadline,
/// warning and end follow from this alone.
///
/// That it becomes active is one, so are a further raise, a claim (after the warning also one that is repeated), and the
/// newest fix of the person, which the timer brings along. A claim that is taken back is none, nor is an end under duress of what was active before.
pub(super) fn sign_of_life(was: State, is: State, command: Command, now: Timestamp) -> Option<Timestamp> {
    if is != State::Active {
        return None;
    }
    if was != State::Active {
        return Some(now);
    }
    match command {
        Command::Join(_) | Command::Claim(_) => Some(now),
        Command::Wake(newest_fix_at) => newest_fix_at,
        Command::Unclaim(_) | Command::End(..) | Command::Forget => None,
    }
}

impl Emergency {
    /// The last sign of life, as far as it is known here: a fix is not until the timer asks for it. A warning that came late
    /// counts as one of half an hour before, so that there is time to answer it. `None` unless active.
    fn last_sign_of_life(&self) -> Option<Timestamp> {
        let due = self.due_at.filter(|_| self.state == State::Active)?;
        Some(if self.warned { due - LIFETIME } else { due - (LIFETIME - WARNING) })
    }

    /// Puts warning and end off if this sign of life is newer than the last.
    pub(super) fn live_on(&mut self, sign: Timestamp) {
        if self.last_sign_of_life().is_none_or(|last| sign > last) {
            self.warned = false;
            self.due_at = Some(sign + (LIFETIME - WARNING));
        }
    }

    /// Warns or ends what is due. An end always comes half an hour after its warning, also when the timer is late.
    pub(super) fn run_out(&mut self, now: Timestamp) -> Vec<Notice> {
        if self.state != State::Active || self.due_at.is_none_or(|due| now < due) {
            return Vec::new();
        }
        if self.warned {
            return self.truly_end(State::Expired, now).unwrap_or_default();
        }
        self.warned = true;
        self.due_at = Some(now + WARNING);
        vec![Notice::ExpiresSoon]
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{T0, after, opening, user};
    use super::*;
    use crate::id::EmergencyId;
    use uuid::Uuid;

    fn active() -> Emergency {
        Emergency::open(opening(Duration::ZERO), T0).emergency
    }

    #[test]
    fn it_expires_a_day_after_the_last_sign_and_says_so_before() {
        let day = 24 * 3600;
        let active = active();
        let waits = active.apply(Command::Wake(Some(after(1000))), after(day - 1800)).unwrap();
        assert_eq!((waits.notices, waits.emergency.due_at), (vec![], Some(after(day - 800))));
        let warned = waits.emergency.apply(Command::Wake(Some(after(1000))), after(day - 800)).unwrap();
        assert_eq!(warned.notices, vec![Notice::ExpiresSoon]);
        let over = warned.emergency.apply(Command::Wake(Some(after(1000))), after(day + 1000)).unwrap();
        assert_eq!(over.notices, vec![Notice::Ended(State::Expired)]);
    }

    #[test]
    fn raised_again_it_expires_a_day_after_that_and_says_so_before() {
        let hour = 3600;
        let again = Command::Join(EmergencyId(Uuid::from_u128(9)));
        let joined = active().apply(again, after(10 * hour)).unwrap().emergency;
        let warned = joined.apply(Command::Wake(None), after(33 * hour + 1800)).unwrap();
        assert_eq!((warned.emergency.state, &warned.notices), (State::Active, &vec![Notice::ExpiresSoon]));
        assert_eq!(warned.emergency.apply(Command::Wake(None), after(34 * hour - 1)), None);
        let over = warned.emergency.apply(Command::Wake(None), after(34 * hour)).unwrap();
        assert_eq!(over.notices, vec![Notice::Ended(State::Expired)]);
    }

    #[test]
    fn a_timer_that_comes_too_late_still_leaves_time_to_answer_its_warning() {
        let hour = 3600;
        let late = active().apply(Command::Wake(None), after(30 * hour)).unwrap();
        assert_eq!((late.emergency.state, &late.notices), (State::Active, &vec![Notice::ExpiresSoon]));
        assert_eq!(late.emergency.apply(Command::Wake(None), after(30 * hour + 1799)), None);
        let over = late.emergency.apply(Command::Wake(None), after(30 * hour + 1800)).unwrap();
        assert_eq!(over.notices, vec![Notice::Ended(State::Expired)]);
    }

    #[test]
    fn a_contact_who_is_on_it_answers_the_warning_by_saying_so_again() {
        let (hour, bo) = (3600, user(3));
        let claimed = active().apply(Command::Claim(bo), after(hour)).unwrap().emergency;
        assert_eq!(
            claimed.apply(Command::Claim(bo), after(2 * hour)),
            None,
            "nothing new before the warning"
        );
        let warned = claimed.apply(Command::Wake(None), after(24 * hour + 1800)).unwrap().emergency;
        let again = warned.apply(Command::Claim(bo), after(24 * hour + 2000)).unwrap();
        assert_eq!((again.notices, again.emergency.claims.len()), (vec![], 1));
        assert_eq!(again.emergency.due_at, Some(after(48 * hour + 200)));
    }
}
