//! Units that are refused for good and still may not be given up: each is tried again, later and later, and the others
//! do not wait for it.

use super::Backoff;
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Before one is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The units of one kind that are stuck.
pub struct Stuck<K>(HashMap<K, (Backoff, Timestamp)>);

impl<K> Default for Stuck<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Copy> Stuck<K> {
    /// Whether it is not its time yet.
    pub fn waits(&self, unit: K, now: Timestamp) -> bool {
        self.0.get(&unit).is_some_and(|(_, again)| *again > now)
    }

    /// Whether it was refused before.
    pub fn holds(&self, unit: K) -> bool {
        self.0.contains_key(&unit)
    }

    /// It was refused. Whether that is news.
    pub fn refused(&mut self, unit: K, now: Timestamp) -> bool {
        let is_new = !self.0.contains_key(&unit);
        let (backoff, again) = self.0.entry(unit).or_insert((Backoff::between(AGAIN.0, AGAIN.1), now));
        *again = now + backoff.pause();
        is_new
    }

    /// It is stuck no more.
    pub fn freed(&mut self, unit: K) {
        self.0.remove(&unit);
    }

    /// Forgets those that are not in question any more.
    pub fn retain(&mut self, is_due: impl Fn(K) -> bool) {
        self.0.retain(|unit, _| is_due(*unit));
    }

    /// When the first of them is tried again.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.values().map(|(_, again)| *again).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_stuck_waits_and_is_news_once() {
        let (mut stuck, now) = (Stuck::default(), Timestamp::from_unix_ms(0));
        assert!(!stuck.waits(1, now) && stuck.next().is_none());
        assert!(stuck.refused(1, now));
        assert!(stuck.waits(1, now) && stuck.holds(1) && !stuck.waits(2, now) && !stuck.holds(2));
        assert!(!stuck.waits(1, now + AGAIN.0), "it is tried again");
        for _ in 0..20 {
            assert!(!stuck.refused(1, now), "it is told once");
            assert!(stuck.next() <= Some(now + AGAIN.1));
        }
        stuck.retain(|unit| unit != 1);
        assert!(stuck.refused(1, now));
        stuck.freed(1);
        assert!(stuck.next().is_none());
    }
}
