//! When a delivery is tried, tried again and given up: plain functions of times and counts.

use super::{Matter, Urgency};
use crate::clock::Timestamp;
use std::time::Duration;

/// What a routine alert waits for the app's own ack before it is pushed.
const ROUTINE_WAITS: Duration = Duration::from_secs(3);
/// The first pause after a failure; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pauses.
const LONGEST_EMERGENCY: Duration = Duration::from_secs(60);
const LONGEST_ROUTINE: Duration = Duration::from_secs(15 * 60);
/// An emergency waits no longer than this on a provider's word, for its first tries.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENT_TRIES: u32 = 3;

/// When a delivery stored at `now` is first due.
pub fn first_due(urgency: Urgency, now: Timestamp) -> Timestamp {
    match urgency {
        Urgency::Emergency => now,
        Urgency::Routine => now + ROUTINE_WAITS,
    }
}

/// When a delivery stored at `now` is given up.
pub fn deadline(matter: Matter, now: Timestamp) -> Timestamp {
    now + matter.lifetime()
}

/// How long to wait after the failure of try number `tries` (from 1). `asked` is the provider's Retry-After; `seed`
/// spreads those who failed together over half to one and a half of the pause.
pub(super) fn pause(urgency: Urgency, tries: u32, seed: u64, asked: Option<Duration>) -> Duration {
    let longest = match urgency {
        Urgency::Emergency => LONGEST_EMERGENCY,
        Urgency::Routine => LONGEST_ROUTINE,
    };
    let doubled = PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(longest);
    #[expect(clippy::cast_precision_loss, reason = "a spread needs no precision")]
    let part = 0.5 + (seed >> 11) as f64 / (1_u64 << 53) as f64;
    let own = doubled.mul_f64(part);
    match (urgency, asked) {
        (_, None) => own,
        (Urgency::Emergency, Some(asked)) if tries <= PATIENT_TRIES => asked.min(PATIENCE),
        (Urgency::Emergency, Some(asked)) => asked.min(longest).max(own),
        (Urgency::Routine, Some(asked)) => asked.max(own),
    }
}

/// Whether a push is still wanted, after what the app said meanwhile. A phone that has an emergency may lie unread
/// while another device of the same person is looked at, so only `seen` ends it.
pub(super) fn is_wanted(urgency: Urgency, received: bool, seen: bool) -> bool {
    match urgency {
        Urgency::Emergency => !seen,
        Urgency::Routine => !received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_emergency_waits_at_most_five_seconds_on_a_providers_word() {
        for tries in 1..=3 {
            assert_eq!(pause(Urgency::Emergency, tries, 0, Some(60 * SECOND)), PATIENCE);
        }
        assert_eq!(pause(Urgency::Emergency, 1, u64::MAX, Some(2 * SECOND)), 2 * SECOND);
        assert!(pause(Urgency::Emergency, 4, 0, Some(60 * SECOND)) >= 60 * SECOND, "then it gives way");
        assert!(pause(Urgency::Routine, 1, 0, Some(600 * SECOND)) >= 600 * SECOND);
    }

    #[test]
    fn what_the_app_has_said_ends_a_push() {
        assert!(is_wanted(Urgency::Emergency, true, false) && !is_wanted(Urgency::Emergency, true, true));
        assert!(is_wanted(Urgency::Routine, false, false) && !is_wanted(Urgency::Routine, true, false));
    }

    proptest! {
        #[test]
        fn pauses_grow_to_their_bound_and_are_spread(tries in 1_u32..100, seed: u64) {
            for (urgency, longest) in [(Urgency::Emergency, LONGEST_EMERGENCY), (Urgency::Routine, LONGEST_ROUTINE)] {
                let wait = pause(urgency, tries, seed, None);
                prop_assert!(wait >= PAUSE / 2 && wait <= longest.mul_f64(1.5));
                if tries < 6 {
                    let middle = PAUSE * (1 << (tries - 1));
                    prop_assert!(wait >= middle / 2 && wait <= middle.mul_f64(1.5));
                }
            }
        }
    }
}
