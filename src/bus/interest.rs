//! Who is watched: on this node by a count, on other nodes by what they announced lately.

use crate::id::UserId;
use dashmap::DashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A node announces whom it watches this often.
pub(super) const ANNOUNCED_EVERY: Duration = Duration::from_secs(10);
/// What another node announced counts for so long; two announcements may be lost.
const BELIEVED: Duration = Duration::from_secs(35);
/// People watched on other nodes that are remembered; whoever watches more reads the store.
const REMEMBERED: usize = 200_000;

#[derive(Default)]
pub(super) struct Interest {
    here: DashMap<UserId, usize>,
    elsewhere: DashMap<UserId, Instant>,
}

impl Interest {
    pub(super) fn is_watched(&self, subject: UserId) -> bool {
        self.is_watched_here(subject) || self.is_watched_elsewhere(subject, Instant::now())
    }
    pub(super) fn is_watched_here(&self, subject: UserId) -> bool {
        self.here.contains_key(&subject)
    }
    pub(super) fn is_watched_elsewhere(&self, subject: UserId, now: Instant) -> bool {
        self.elsewhere.get(&subject).is_some_and(|until| now < *until)
    }

    /// One more watches here; whether it is the first.
    pub(super) fn watch(&self, subject: UserId) -> bool {
        let mut count = self.here.entry(subject).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// One less watches here; whether it was the last.
    pub(super) fn unwatch(&self, subject: UserId) -> bool {
        let dashmap::Entry::Occupied(mut count) = self.here.entry(subject) else { return false };
        *count.get_mut() -= 1;
        let last = *count.get() == 0;
        if last {
            count.remove();
        }
        last
    }

    pub(super) fn watched_here(&self) -> Vec<UserId> {
        self.here.iter().map(|entry| *entry.key()).collect()
    }

    /// Another node watches these people.
    pub(super) fn watched_there(&self, people: &[UserId], now: Instant) {
        let until = now + BELIEVED;
        for subject in people {
            if self.elsewhere.len() >= REMEMBERED && !self.elsewhere.contains_key(subject) {
                metrics::counter!("cima_bus_dropped_total", "what" => "interest").increment(1);
                continue;
            }
            self.elsewhere.insert(*subject, until);
        }
    }

    /// Forgets what was not announced again.
    pub(super) fn forget_old(&self, now: Instant) {
        self.elsewhere.retain(|_, until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ADA: UserId = UserId(Uuid::from_u128(1));

    #[test]
    fn a_person_is_watched_until_the_last_one_goes() {
        let interest = Interest::default();
        assert!(interest.watch(ADA));
        assert!(!interest.watch(ADA));
        assert!(!interest.unwatch(ADA));
        assert!(interest.is_watched(ADA));
        assert!(interest.unwatch(ADA));
        assert!(!interest.is_watched(ADA));
        assert!(interest.watched_here().is_empty());
    }

    #[test]
    fn what_another_node_announced_is_forgotten() {
        let (interest, now) = (Interest::default(), Instant::now());
        interest.watched_there(&[ADA], now);
        assert!(interest.is_watched(ADA) && !interest.is_watched_here(ADA));
        let later = now + ANNOUNCED_EVERY * 3;
        interest.forget_old(later);
        assert!(interest.is_watched_elsewhere(ADA, later), "two announcements may be lost");
        let later = later + ANNOUNCED_EVERY;
        assert!(!interest.is_watched_elsewhere(ADA, later));
        interest.forget_old(later);
        assert!(interest.elsewhere.is_empty());
    }
}
