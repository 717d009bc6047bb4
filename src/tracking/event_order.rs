//! The order in which fixes of many devices are read: by time, then device, then number; forwards or backwards. And what a
//! device sent last.

use super::StoredFix;
use crate::clock::Timestamp;
use crate::id::DeviceId;
use std::cmp::Ordering;
use std::time::Duration;

/// Where a fix of any device stands.
pub type Place = (Timestamp, DeviceId, i64);

/// Where a fix of any device stands.
pub fn event_order(stored: &StoredFix) -> Place {
    (stored.fix.fixed_at, stored.device, stored.fix.seq)
}

/// From which end a track is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Oldest first.
    Forwards,
    /// Newest first.
    Backwards,
}

/// A page of a track: fixes with `from <= fixed_at < to` that were taken or received `since`, those that come after the place
/// `after` as it is read, at most `limit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackPage {
    /// Not older.
    pub from: Timestamp,
    /// Older.
    pub to: Timestamp,
    /// Taken or received not earlier: a phone whose clock is slow takes its fixes in the past.
    pub since: Timestamp,
    /// The last fix of the page before.
    pub after: Option<Place>,
    /// From which end.
    pub reading: Reading,
    /// At most.
    pub limit: u32,
}

/// Between which places a device's part of a page lies, without those two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// All are later.
    pub low: (Timestamp, i64),
    /// All are earlier.
    pub high: (Timestamp, i64),
}

impl TrackPage {
    /// All there is after a place, oldest first.
    pub fn forwards(after: Option<Place>, limit: u32) -> Self {
        Self::between(Timestamp::from_unix_ms(i64::MIN), Timestamp::from_unix_ms(i64::MAX), after, limit)
    }

    /// What was taken in a time, after a place, oldest first.
    pub fn between(from: Timestamp, to: Timestamp, after: Option<Place>, limit: u32) -> Self {
        Self { from, to, since: Timestamp::from_unix_ms(i64::MIN), after, reading: Reading::Forwards, limit }
    }

    /// A device's part. The devices of one moment follow each other: one that is read before the last seen device is through
    /// with that moment, one that is read after it has it before it.
    pub fn bounds(&self, device: DeviceId) -> Bounds {
        let mut bounds = Bounds { low: (self.from, i64::MIN), high: (self.to, i64::MIN) };
        let Some((at, last, seq)) = self.after else { return bounds };
        let seen = match device.cmp(&last) {
            Ordering::Less => (at, i64::MAX),
            Ordering::Equal => (at, seq),
            Ordering::Greater => (at, i64::MIN),
        };
        match self.reading {
            Reading::Forwards => bounds.low = bounds.low.max(seen),
            Reading::Backwards => bounds.high = bounds.high.min(seen),
        }
        bounds
    }

    /// Whether it was taken or received since then.
    pub fn is_recent(&self, stored: &StoredFix) -> bool {
        stored.fix.fixed_at.max(stored.received_at) >= self.since
    }

    /// The first of what was found for it, in its order, each once. Of two copies of a fix the one that stands first in `found`
    /// is taken.
    pub fn first_of(&self, mut found: Vec<StoredFix>) -> Vec<StoredFix> {
        found.sort_by(|one, other| match self.reading {
            Reading::Forwards => event_order(one).cmp(&event_order(other)),
            Reading::Backwards => event_order(other).cmp(&event_order(one)),
        });
        found.dedup_by_key(|fix| event_order(fix));
        found.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        found
    }
}

impl Bounds {
    /// All of one moment.
    pub fn at(at: Timestamp) -> Self {
        Self { low: (at, i64::MIN), high: (at, i64::MAX) }
    }
}

/// A device that has sent older fixes only for so long has set its clock back; before, they are late ones.
pub(super) const SET_BACK: Duration = Duration::from_secs(10);

/// The clocks of two nodes, and one node's before and after it looked at the store's, differ by less.
const TOGETHER: Duration = Duration::from_secs(2);

/// What tells which of two fixes of one device is the newer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    seq: i64,
    fixed_at: Timestamp,
    received_at: Timestamp,
}

impl Arrival {
    /// Of a fix.
    pub fn of(stored: &StoredFix) -> Self {
        let StoredFix { fix, received_at, .. } = stored;
        Self { seq: fix.seq, fixed_at: fix.fixed_at, received_at: *received_at }
    }

    /// When the server had it.
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Whether the phone took it after `other`, as far as can be known: by their numbers, since a phone counts on whatever its
    /// clock does. If one has none, by their times, unless its clock was set back.
    pub fn is_after(&self, other: &Self) -> bool {
        if self.seq > 0 && other.seq > 0 {
            return self.seq > other.seq;
        }
        self.fixed_at > other.fixed_at || self.received_at >= other.received_at + SET_BACK
    }

    /// Whether the server had it after `other`. Of two that came at almost the same moment, perhaps to two nodes, the phone's
    /// own count tells.
    pub fn came_after(&self, other: &Self) -> bool {
        let (one, two) = (self.received_at, other.received_at);
        let together = one < two + TOGETHER && two < one + TOGETHER;
        if together && self.seq > 0 && other.seq > 0 { self.seq > other.seq } else { one > two }
    }

    /// Whether it is older by its time than `other`, which the device sent shortly before: a late one, perhaps.
    pub(super) fn is_overtaken_by(&self, other: &Self) -> bool {
        self.fixed_at < other.fixed_at && self.received_at < other.received_at + SET_BACK
    }
}

/// What a device sent last, of what was found of it.
pub fn last_of(found: impl IntoIterator<Item = StoredFix>) -> Option<StoredFix> {
    found.into_iter().reduce(|last, next| match Arrival::of(&next).is_after(&Arrival::of(&last)) {
        true => next,
        false => last,
    })
}

/// The newest by event time.
pub fn newest_of(found: impl IntoIterator<Item = StoredFix>) -> Option<StoredFix> {
    found.into_iter().max_by_key(|stored| stored.fix.order())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_is_told_by_the_count_where_clocks_are_too_close_to_tell() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_800_000_000_000 + ms);
        let arrival = |seq, ms| Arrival { seq, fixed_at: at(0), received_at: at(ms) };
        // A raise, and the fix after it on a node whose clock is a little behind.
        assert!(arrival(4, 300).came_after(&arrival(2, 500)));
        assert!(!arrival(2, 500).came_after(&arrival(4, 300)));
        // An app that counts from the beginning again.
        assert!(arrival(1, 5_000).came_after(&arrival(700, 0)));
        // Without a number there is only the time.
        assert!(arrival(-7, 500).came_after(&arrival(4, 300)));
        assert!(!arrival(4, 300).came_after(&arrival(4, 300)));
    }
}
