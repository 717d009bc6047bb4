//! What is in the journal and not yet in the store, as reads want it: by device, in event order.

use crate::clock::Timestamp;
use crate::id::DeviceId;
use crate::tracking::{Bounds, FixKey, NewFix, StoredFix, last_of};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::Excluded;
use std::ops::RangeBounds;
use std::sync::Arc;

/// The fixes of a device that were appended since the last flush began, or that the flush is writing.
#[derive(Default)]
struct OfDevice {
    fixes: BTreeMap<FixKey, NewFix>,
    last_streamed: i64,
    /// Known before, but not as streamed: the store has to hear of it.
    streamed_again: Option<NewFix>,
}

/// Fixes that go to the store together.
#[derive(Default)]
pub(super) struct Heap {
    devices: BTreeMap<DeviceId, OfDevice>,
    fixes: usize,
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.fixes
    }

    fn insert(&mut self, fix: NewFix) {
        let of = self.devices.entry(fix.device).or_default();
        if fix.streamed {
            of.last_streamed = of.last_streamed.max(fix.fix.seq);
        }
        if of.fixes.insert(fix.fix.order(), fix).is_none() {
            self.fixes += 1;
        }
    }

    fn streamed_again(&mut self, fix: NewFix) {
        let of = self.devices.entry(fix.device).or_default();
        if fix.fix.seq > of.last_streamed {
            of.last_streamed = fix.fix.seq;
            of.streamed_again = Some(fix);
        }
    }

    /// All of it, by device and in event order: neighbours in the store are neighbours here.
    pub(super) fn sorted(&self) -> impl Iterator<Item = &NewFix> {
        self.devices.values().flat_map(|of| of.fixes.values().chain(&of.streamed_again))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

/// Both heaps.
#[derive(Default)]
pub(super) struct Pending {
    filling: Heap,
    flushing: Option<Arc<Heap>>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.filling.len() + self.flushing.as_ref().map_or(0, |heap| heap.len())
    }

    /// Fixes that no flush has taken up yet.
    pub(super) fn filling(&self) -> usize {
        self.filling.len()
    }

    pub(super) fn insert(&mut self, fixes: impl Iterator<Item = NewFix>) {
        fixes.for_each(|fix| self.filling.insert(fix));
    }

    /// Fixes that are known, and were streamed now: they move what the device streamed last, and nothing else.
    pub(super) fn streamed_again(&mut self, fixes: impl Iterator<Item = NewFix>) {
        fixes.for_each(|fix| self.filling.streamed_again(fix));
    }

    /// Whether everything is in the store.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.is_empty() && self.flushing.is_none()
    }

    /// What is to be flushed now; further fixes go to a new heap. Reads find it until [`Pending::flushed`].
    pub(super) fn take(&mut self) -> Arc<Heap> {
        let heap = Arc::new(std::mem::take(&mut self.filling));
        self.flushing = Some(Arc::clone(&heap));
        heap
    }

    /// The heap that was taken is in the store.
    pub(super) fn flushed(&mut self) {
        self.flushing = None;
    }

    fn of(&self, device: DeviceId) -> impl DoubleEndedIterator<Item = &OfDevice> {
        let heaps = self.flushing.as_deref().into_iter().chain([&self.filling]);
        heaps.filter_map(move |heap| heap.devices.get(&device))
    }

    /// The device's fixes between two places. Each heap's are in order; both together need not be.
    pub(super) fn between(&self, device: DeviceId, bounds: Bounds) -> impl Iterator<Item = StoredFix> {
        let Bounds { low, high } = bounds;
        // The tree panics at a range that ends before it begins; here that has nothing.
        let heaps = self.of(device).filter(move |_| low < high);
        heaps.flat_map(move |of| of.fixes.range((Excluded(low), Excluded(high)))).map(|(_, fix)| stored(fix))
    }

    /// The device's newest fix in a range of event order.
    pub(super) fn newest(
        &self,
        device: DeviceId,
        range: impl RangeBounds<FixKey> + Clone,
    ) -> Option<StoredFix> {
        let newest = self.of(device).filter_map(|of| of.fixes.range(range.clone()).next_back());
        newest.max_by_key(|(place, _)| **place).map(|(_, fix)| stored(fix))
    }

    /// What the device sent last: of its fixes with a number, and of those without one.
    pub(super) fn latest(&self, device: DeviceId) -> Option<StoredFix> {
        let highest = |numbered: bool| {
            let fixes = self.of(device).flat_map(|of| of.fixes.iter());
            let fixes = fixes.filter(|((_, seq), _)| (*seq > 0) == numbered);
            fixes.max_by_key(|((_, seq), _)| *seq).map(|(_, fix)| stored(fix))
        };
        last_of(highest(true).into_iter().chain(highest(false)))
    }

    /// The highest number that the device streamed; 0 if none.
    pub(super) fn last_streamed(&self, device: DeviceId) -> i64 {
        self.of(device).map(|of| of.last_streamed).max().unwrap_or(0)
    }

    /// The highest number of the device's; 0 if none.
    pub(super) fn highest(&self, device: DeviceId) -> i64 {
        let numbers = self.of(device).flat_map(|of| of.fixes.keys());
        numbers.map(|(_, seq)| *seq).max().unwrap_or(0).max(0)
    }

    /// Puts the times of those numbers that are here where they are asked for.
    pub(super) fn times(&self, asked: &mut HashMap<(DeviceId, i64), Option<Timestamp>>) {
        let devices: std::collections::BTreeSet<DeviceId> = asked.keys().map(|(device, _)| *device).collect();
        for device in devices {
            for (at, seq) in self.of(device).flat_map(|of| of.fixes.keys()) {
                if let Some(time) = asked.get_mut(&(device, *seq)) {
                    *time = Some(*at);
                }
            }
        }
    }
}

fn stored(fix: &NewFix) -> StoredFix {
    StoredFix { device: fix.device, fix: fix.fix.clone(), received_at: fix.received_at }
}
