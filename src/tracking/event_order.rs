//! The order in which fixes of many devices are read: by time, then device, then number.

use super::StoredFix;
use crate::clock::Timestamp;
use crate::id::DeviceId;

/// Where a fix of any device stands.
pub fn event_order(stored: &StoredFix) -> (Timestamp, DeviceId, i64) {
    (stored.fix.fixed_at, stored.device, stored.fix.seq)
}

/// The first `limit`, each once. Of two copies of a fix the one that stands first in `found` is taken.
pub fn first_of(mut found: Vec<StoredFix>, limit: u32) -> Vec<StoredFix> {
    found.sort_by_key(event_order);
    found.dedup_by_key(|fix| event_order(fix));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

/// The newest by event time.
pub fn newest_of(found: impl IntoIterator<Item = StoredFix>) -> Option<StoredFix> {
    found.into_iter().max_by_key(|stored| stored.fix.order())
}

/// Where a device's part of a page begins. The devices of one moment follow each other: those before the last seen
/// device are through with that moment, those after it have it before them.
pub fn page_start(
    device: DeviceId,
    from: Timestamp,
    after: Option<(Timestamp, DeviceId, i64)>,
) -> (Timestamp, i64) {
    let seen = after.map(|(at, last, seq)| match device.cmp(&last) {
        std::cmp::Ordering::Less => (at, i64::MAX),
        std::cmp::Ordering::Equal => (at, seq),
        std::cmp::Ordering::Greater => (at, 0),
    });
    seen.map_or((from, 0), |seen| seen.max((from, 0)))
}
