//! The books of a run: what was asked, what was promised, what came; and what they say in the end.
//!
//! All times are of this process's monotonic clock, in which phones, contacts and the provider are tasks. Nothing is judged
//! while a run goes on: [`Books::judge`] reads everything when all is quiet.

use crate::listener::Heards;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// After the answer that an emergency is over, for what is on its way to its contacts.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// One SOS, from the frame on.
#[derive(Clone, Debug)]
pub struct Sos {
    /// Its id, made by the phone.
    pub id: String,
    /// The subject's user id.
    pub subject: String,
    /// Which contact is to hear of it.
    pub contact: usize,
    /// When its frame was first written.
    pub sent: Instant,
    /// How often it was answered with a refusal.
    pub refused: usize,
    /// When it was first answered as taken.
    pub accepted: Option<Instant>,
    /// It must not be told earlier.
    pub not_before: Instant,
    /// When its end was answered as taken.
    pub ended: Option<Instant>,
    /// How long that took.
    pub end_took: Option<Duration>,
}

/// All of them.
#[derive(Default, Debug)]
pub struct Books {
    /// In the order in which they were raised.
    pub raised: Vec<Sos>,
}

/// How many acked items have come to what.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Acked, and there once.
    pub stable: usize,
    /// Acked, and not there.
    pub lost: usize,
    /// There twice.
    pub doubled: usize,
    /// Told or shown to somebody who must not know, or what never was.
    pub forbidden: usize,
}

impl Verdict {
    /// Nothing is wrong.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.forbidden == 0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            stable: self.stable + other.stable,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            forbidden: self.forbidden + other.forbidden,
        }
    }

    /// Of things that were acked, by how often each is there.
    pub fn of_counts<'a, K: Ord + 'a>(
        acked: impl IntoIterator<Item = &'a K>,
        found: &BTreeMap<K, i64>,
    ) -> Self {
        let mut verdict = Self::default();
        for item in acked {
            match found.get(item) {
                None => verdict.lost += 1,
                Some(1) => verdict.stable += 1,
                Some(_) => verdict.doubled += 1,
            }
        }
        verdict
    }
}

impl Books {
    /// What came of every SOS that was acked, by what each contact's app has.
    pub fn judge(&self, contacts: &[&Heards]) -> Verdict {
        let mut verdict = Verdict::default();
        let known: BTreeMap<&str, &Sos> = self.raised.iter().map(|sos| (sos.id.as_str(), sos)).collect();
        let (mut first, mut again) = (BTreeMap::new(), BTreeSet::new());
        for (n, heard) in contacts.iter().enumerate() {
            for told in heard.told.iter().filter(|told| told.kind == "emergency") {
                let right = known
                    .get(told.emergency.as_str())
                    .is_some_and(|sos| sos.contact == n && told.at >= sos.not_before);
                if !right {
                    verdict.forbidden += 1;
                }
                // The same alert may come again: apps know it by its id.
                let alert = first.entry((n, told.emergency.as_str())).or_insert(told.alert.as_str());
                if *alert != told.alert {
                    again.insert((n, told.emergency.as_str()));
                }
            }
            verdict.forbidden += self.shown_too_long(n, heard);
        }
        for sos in self.raised.iter().filter(|sos| sos.accepted.is_some()) {
            let key = (sos.contact, sos.id.as_str());
            match (first.contains_key(&key), again.contains(&key)) {
                (false, _) => verdict.lost += 1,
                (true, true) => verdict.doubled += 1,
                (true, false) => verdict.stable += 1,
            }
        }
        verdict
    }

    /// Subjects whose position a contact was shown after all their emergencies were over.
    fn shown_too_long(&self, contact: usize, heard: &Heards) -> usize {
        let too_long = |(user, at): (&String, &Instant)| {
            let theirs = self.raised.iter().filter(|sos| sos.contact == contact && sos.subject == *user);
            let over: Option<Vec<Instant>> = theirs.map(|sos| sos.ended).collect();
            over.is_some_and(|over| over.iter().all(|end| *at > *end + ON_ITS_WAY))
        };
        heard.shown.iter().filter(|shown| too_long(*shown)).count()
    }

    /// From the frame to the contact's alert, of all that came.
    pub fn told_after(&self, contacts: &[&Heards]) -> Spread {
        let mut spread = Spread::default();
        for sos in &self.raised {
            let told = contacts[sos.contact].told.iter();
            let first =
                told.filter(|told| told.emergency == sos.id && told.kind == "emergency").map(|told| told.at);
            if let Some(at) = first.min() {
                spread.add(at.duration_since(sos.sent));
            }
        }
        spread
    }

    /// From the frame to its answer.
    pub fn accepted_after(&self) -> Spread {
        let mut spread = Spread::default();
        for sos in &self.raised {
            if let Some(at) = sos.accepted {
                spread.add(at.duration_since(sos.sent));
            }
        }
        spread
    }

    /// From the question to end it to its answer.
    pub fn ended_after(&self) -> Spread {
        let mut spread = Spread::default();
        for took in self.raised.iter().filter_map(|sos| sos.end_took) {
            spread.add(took);
        }
        spread
    }

    /// The longest time between `from` and `to` in which no SOS was accepted.
    pub fn longest_without(&self, from: Instant, to: Instant) -> Duration {
        let mut accepted: Vec<Instant> = self.raised.iter().filter_map(|sos| sos.accepted).collect();
        accepted.retain(|at| (from..=to).contains(at));
        accepted.sort_unstable();
        let (mut before, mut longest) = (from, Duration::ZERO);
        for at in accepted.into_iter().chain([to]) {
            longest = longest.max(at.duration_since(before));
            before = at;
        }
        longest
    }

    /// How many were answered with a refusal, and how many were never taken.
    pub fn refused(&self) -> (usize, usize) {
        let refused = self.raised.iter().map(|sos| sos.refused).sum();
        (refused, self.raised.iter().filter(|sos| sos.accepted.is_none()).count())
    }
}

/// How long things took.
pub struct Spread(Histogram<u64>);

impl Default for Spread {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).unwrap())
    }
}

impl Spread {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// At most so long took this part of them, such as 0.99.
    pub fn at(&self, part: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(part))
    }
    /// The longest.
    pub fn max(&self) -> Duration {
        self.at(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Told;

    struct Case {
        books: Books,
        heard: Heards,
        now: Instant,
    }

    fn case() -> Case {
        let now = Instant::now();
        let sos = Sos {
            id: "a".into(),
            subject: "ada".into(),
            contact: 0,
            sent: now,
            refused: 0,
            accepted: Some(now),
            not_before: now,
            ended: None,
            end_took: None,
        };
        Case { books: Books { raised: vec![sos] }, heard: Heards::default(), now }
    }

    impl Case {
        fn told(&mut self, alert: &str, emergency: &str) {
            let (at, kind) = (self.now + Duration::from_millis(5), "emergency".to_owned());
            let told = Told { at, alert: alert.into(), kind, emergency: emergency.into() };
            self.heard.told.push(told);
        }
        fn verdict(&self) -> (usize, usize, usize, usize) {
            let found = self.books.judge(&[&self.heard]);
            (found.stable, found.lost, found.doubled, found.forbidden)
        }
    }

    #[test]
    fn what_was_acked_is_stable_lost_or_doubled() {
        let mut case = case();
        assert_eq!(case.verdict(), (0, 1, 0, 0));
        case.told("x", "a");
        assert_eq!(case.verdict(), (1, 0, 0, 0));
        case.told("x", "a");
        assert_eq!(case.verdict(), (1, 0, 0, 0), "the same alert again");
    }

    #[test]
    fn two_alerts_of_one_sos_are_one_too_many() {
        let mut case = case();
        case.told("x", "a");
        case.told("y", "a");
        assert_eq!(case.verdict(), (0, 0, 1, 0));
    }

    #[test]
    fn what_never_was_or_is_not_yet_must_not_be_told() {
        let mut case = case();
        case.told("x", "a");
        case.told("y", "nobody's");
        assert_eq!(case.verdict(), (1, 0, 0, 1));
        case.books.raised[0].not_before = case.now + Duration::from_secs(1);
        assert_eq!(case.verdict(), (1, 0, 0, 2));
    }

    #[test]
    fn a_position_after_the_end_must_not_be_shown() {
        let mut case = case();
        case.told("x", "a");
        case.heard.shown.insert("ada".into(), case.now + ON_ITS_WAY + Duration::from_secs(2));
        assert_eq!(case.verdict(), (1, 0, 0, 0), "it goes on");
        case.books.raised[0].ended = Some(case.now + Duration::from_secs(1));
        assert_eq!(case.verdict(), (1, 0, 0, 1));
    }

    #[test]
    fn the_longest_time_without_is_found() {
        let mut case = case();
        let at = |s| case.now + Duration::from_secs(s);
        let end = at(9);
        case.books.raised[0].accepted = Some(at(3));
        assert_eq!(case.books.longest_without(case.now, end), Duration::from_secs(6));
    }
}
