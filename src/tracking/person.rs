//! A person whose fixes are coming in: the tracker of their tracked device, and their newest position.
//!
//! Folding never waits. While the tracker is being (re)built from the store, fixes are held and folded after.
//!
//! No fix is lost to the fold: each was read by the last build, or was folded after it, or is in the fold's past and
//! makes it fold again from there as soon as it is on disk.

use super::rebuild::{Built, Rebuild};
use super::zones::Around;
use super::{
    Crossing, Held, Place, Position, Recorded, SinkMessage, StoredFix, Tracker, TransitionBatch,
    TransitionSink,
};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, UserId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A fix older than this is late: it raises no fresh alarm.
pub(super) const LATE: Duration = Duration::from_secs(120);
/// Late transitions are decided by the newest fix if no fresh one comes for so long.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// Fixes held while a tracker is built; beyond, it is built once more from the store.
const HELD: usize = 10_000;
/// So many fixes may be folded before the fold's place is stored again.
const CHECKPOINT: u32 = 256;

/// One person; shared by their sockets, gone when the last is.
pub struct Person {
    user: UserId,
    fold: Mutex<Fold>,
    sink: TransitionSink,
    rebuilds: mpsc::Sender<Rebuild>,
    /// None where nothing is folded.
    zones: Option<Arc<Around>>,
}

pub(super) struct Fold {
    tracked: Option<DeviceId>,
    newest: HashMap<DeviceId, Place>,
    mode: Mode,
    /// What the recorder has not yet written, in the order of arrival. Of all devices: any may become the tracked one.
    in_flight: VecDeque<(DeviceId, Arc<[Fix]>)>,
    /// Fixes of the tracked device in flight that are in the past of the fold.
    missed: HashSet<Place>,
    /// The history is to be folded again from here, and is not yet.
    owed: Option<Place>,
    /// The late transitions of each fence since its membership last changed, not yet told.
    late: HashMap<GeofenceId, Vec<Crossing>>,
    late_since: Option<Timestamp>,
    unsaved: u32,
}

enum Mode {
    /// Not built, or to be built again.
    Stale,
    /// Being built. What was in flight when it began, and what came since: the build may or may not read it.
    Building { held: Vec<Arc<[Fix]>>, again: bool },
    /// Folds as fixes come.
    Ready(Box<Tracker>),
    /// Another node folds; a fix that comes here takes the fold back.
    Elsewhere,
}

impl Fold {
    fn owe(&mut self, places: impl IntoIterator<Item = Place>) {
        self.owed = self.owed.into_iter().chain(places).min();
    }

    /// What the tracked device sent and is not yet on disk.
    fn of_tracked(&self) -> impl Iterator<Item = &Arc<[Fix]>> {
        self.in_flight.iter().filter(|(device, _)| self.tracked == Some(*device)).map(|(_, fixes)| fixes)
    }

    /// Forgets the tracker; what was held for it is looked for in the past by the next.
    fn forget(&mut self) {
        if let Mode::Building { held, .. } = std::mem::replace(&mut self.mode, Mode::Stale) {
            self.owe(places(&held));
        }
    }
}

fn places(held: &[Arc<[Fix]>]) -> impl Iterator<Item = Place> {
    held.iter().flat_map(|fixes| fixes.iter()).map(Fix::order)
}

impl Person {
    pub(super) fn new(
        user: UserId,
        tracked: Option<DeviceId>,
        sink: TransitionSink,
        rebuilds: mpsc::Sender<Rebuild>,
        zones: Option<Arc<Around>>,
    ) -> Self {
        let fold = Fold {
            tracked,
            newest: HashMap::new(),
            mode: Mode::Stale,
            in_flight: VecDeque::new(),
            missed: HashSet::new(),
            owed: None,
            late: HashMap::new(),
            late_since: None,
            unsaved: 0,
        };
        Self { user, fold: Mutex::new(fold), sink, rebuilds, zones }
    }

    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The zones around them.
    pub(super) fn zones(&self) -> Option<&Arc<Around>> {
        self.zones.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Fold> {
        // A panic while folding leaves at worst a stale fold, which the next rebuild replaces.
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracked device, and the place from which its history is to be folded again: what a build begins with.
    pub(super) fn to_build(&self) -> (Option<DeviceId>, Option<Place>) {
        let fold = self.lock();
        (fold.tracked, fold.owed)
    }

    /// Folds fixes that just came from `device`. Returns the person's newest position if one of them is it.
    ///
    /// [`Person::recorded`] is called with the same fixes once they are on disk.
    pub(super) fn observe(
        self: &Arc<Self>,
        device: DeviceId,
        fixes: &Arc<[Fix]>,
        now: Timestamp,
    ) -> Option<Position> {
        let mut fold = self.lock();
        let tracked = fold.tracked == Some(device);
        fold.in_flight.push_back((device, Arc::clone(fixes)));
        if tracked {
            self.fold_forward(&mut fold, fixes, now);
        }
        let position = self.newest_of(&mut fold, device, fixes, now);
        drop(fold);
        if tracked && let Some(zones) = &self.zones {
            zones.see(fixes, now);
        }
        position
    }

    fn newest_of(
        &self,
        fold: &mut Fold,
        device: DeviceId,
        fixes: &[Fix],
        now: Timestamp,
    ) -> Option<Position> {
        let newest = fixes.iter().max_by_key(|f| f.order())?;
        let known = fold.newest.entry(device).or_insert(newest.order());
        if *known > newest.order() {
            return None;
        }
        *known = newest.order();
        let stored = StoredFix { device, fix: newest.clone(), received_at: now };
        Some(Position { user: self.user, tracked: fold.tracked == Some(device), stored })
    }

    /// The fixes are on disk: those that came too late for the fold can be read now, and those that were refused
    /// must not stay in it.
    pub(super) fn recorded(self: &Arc<Self>, device: DeviceId, fixes: &Arc<[Fix]>, recorded: &Recorded) {
        let mut fold = self.lock();
        if let Some(place) = fold.in_flight.iter().position(|(_, held)| Arc::ptr_eq(held, fixes)) {
            fold.in_flight.remove(place);
        }
        if fold.tracked != Some(device) || (fold.missed.is_empty() && recorded.conflicts.is_empty()) {
            return;
        }
        let mut again = Vec::new();
        for fix in fixes.iter() {
            let missed = fold.missed.remove(&fix.order()) && !recorded.duplicates.contains(&fix.seq);
            if missed || recorded.conflicts.contains(&fix.seq) {
                again.push(fix.order());
            }
        }
        if !again.is_empty() {
            self.build_from(&mut fold, again);
        }
    }

    fn fold_forward(self: &Arc<Self>, fold: &mut Fold, fixes: &Arc<[Fix]>, now: Timestamp) {
        match &mut fold.mode {
            Mode::Stale | Mode::Elsewhere => self.ask(fold),
            Mode::Building { held, again } => {
                held.push(Arc::clone(fixes));
                if held.iter().map(|f| f.len()).sum::<usize>() > HELD {
                    // Most of it is on disk by now: the next build reads it.
                    *again = true;
                    let held = std::mem::take(held);
                    fold.owe(places(&held));
                }
            }
            // What was folded in vain is on disk or in flight: the build finds it.
            Mode::Ready(tracker) if tracker.hold().state() != Held::Yes => self.ask(fold),
            Mode::Ready(tracker) => {
                let mut crossings = Vec::new();
                for fix in fixes.iter() {
                    if tracker.is_past(fix) {
                        fold.missed.insert(fix.order());
                    } else {
                        let late = fix.fixed_at < now - LATE;
                        let found = tracker.fold(fix, late);
                        crossings.extend(decide(&mut fold.late, tracker, found, late));
                        fold.unsaved += 1;
                    }
                }
                self.after_fold(fold, crossings, now);
            }
        }
    }

    /// Sends what a fold found to be stored, and keeps the settling time of late transitions.
    fn after_fold(&self, fold: &mut Fold, crossings: Vec<Crossing>, now: Timestamp) {
        fold.late_since = if fold.late.is_empty() { None } else { Some(now) };
        if crossings.is_empty() && fold.unsaved < CHECKPOINT {
            return;
        }
        self.save(fold, crossings);
    }

    fn save(&self, fold: &mut Fold, crossings: Vec<Crossing>) {
        let Mode::Ready(tracker) = &fold.mode else { return };
        let Some(batch) = tracker.batch(crossings) else { return };
        self.send(fold, batch);
    }

    /// `false` if it could not be sent. The store's states are then older than the tracker's: it folds again from them.
    fn send(&self, fold: &mut Fold, batch: TransitionBatch) -> bool {
        let sent = self.sink.try_send(SinkMessage::Batch(batch)).is_ok();
        fold.unsaved = 0;
        if !sent {
            fold.forget();
        }
        sent
    }

    /// Decides late transitions that no fresh fix has decided in time, finds dwells that no fix has shown, and retries
    /// a fold that could not be stored.
    pub(super) fn settle(self: &Arc<Self>, now: Timestamp) {
        let mut guard = self.lock();
        match &guard.mode {
            Mode::Stale => self.ask(&mut guard),
            Mode::Ready(tracker) => match tracker.hold().state() {
                Held::Yes => {}
                Held::Elsewhere => guard.mode = Mode::Elsewhere,
                Held::Missing => self.ask(&mut guard),
            },
            Mode::Building { .. } | Mode::Elsewhere => {}
        }
        let fold = &mut *guard;
        let Mode::Ready(tracker) = &mut fold.mode else { return };
        let mut told = tracker.dwells_until(now, false);
        told.iter_mut().for_each(|c| c.tell = c.is_news());
        if fold.late_since.is_some_and(|since| now >= since + SETTLE) {
            told.extend(decide(&mut fold.late, tracker, Vec::new(), false));
        }
        if !told.is_empty() || fold.late.is_empty() {
            self.after_fold(fold, told, now);
        }
    }

    /// Builds the tracker again: its fences or its device changed.
    pub(super) fn rebuild(self: &Arc<Self>) {
        self.rebuild_from(None);
    }

    /// Builds the tracker again, and folds the history again from there if a place is named.
    pub(super) fn rebuild_from(self: &Arc<Self>, place: Option<Place>) {
        self.build_from(&mut self.lock(), place);
    }

    /// Folds again from there, unless another node folds by now.
    pub(super) fn look_again(self: &Arc<Self>, from: Place) {
        let mut fold = self.lock();
        let ours = match &fold.mode {
            Mode::Ready(tracker) => tracker.hold().state() == Held::Yes,
            Mode::Building { .. } | Mode::Stale => true,
            Mode::Elsewhere => false,
        };
        if ours {
            self.build_from(&mut fold, [from]);
        }
    }

    /// Builds the tracker again, and folds the history again from these places.
    fn build_from(self: &Arc<Self>, fold: &mut Fold, places: impl IntoIterator<Item = Place>) {
        fold.owe(places);
        match &mut fold.mode {
            Mode::Building { again, .. } => *again = true,
            // The node that folds does it.
            Mode::Elsewhere if fold.owed.is_none() => {}
            Mode::Stale | Mode::Ready(_) | Mode::Elsewhere => self.ask(fold),
        }
    }

    /// Whatever is on disk when a build begins is read by it; the rest is in flight, and held.
    fn ask(self: &Arc<Self>, fold: &mut Fold) {
        fold.missed.clear();
        fold.mode = Mode::Building { held: fold.of_tracked().cloned().collect(), again: false };
        if self.rebuilds.try_send(Rebuild(Arc::clone(self))).is_err() {
            // The queue of rebuilds is full: the sweep asks again.
            fold.forget();
        }
    }

    /// Makes a built tracker the person's, stores what it found, and folds what came meanwhile.
    pub(super) fn install(self: &Arc<Self>, built: Built, now: Timestamp) {
        let Built { tracker, found, retracted, read, .. } = built;
        let mut guard = self.lock();
        let fold = &mut *guard;
        let Mode::Building { held, again } = std::mem::replace(&mut fold.mode, Mode::Stale) else { return };
        if again || fold.tracked != Some(tracker.device()) {
            fold.owe(places(&held));
            self.ask(fold);
            return;
        }
        // What waited and was not undone waits on.
        for waiting in fold.late.values_mut() {
            waiting.retain(|c| !retracted.contains(&c.transition.id));
        }
        let mut told = Vec::new();
        for (crossing, late) in found {
            told.extend(decide(&mut fold.late, &tracker, vec![crossing], late));
        }
        fold.late_since = if fold.late.is_empty() { None } else { Some(now) };
        let batch = tracker.rebuilt(told, retracted);
        fold.mode = Mode::Ready(Box::new(tracker));
        if let Some(batch) = batch
            && !self.send(fold, batch)
        {
            fold.owe(places(&held));
            return;
        }
        fold.owed = None;
        self.catch_up(fold, &held, &read, now);
    }

    /// Folds what was held and not read. What is in the past of the new tracker is folded again from there: at once if
    /// it is on disk by now, else when it is.
    fn catch_up(
        self: &Arc<Self>,
        fold: &mut Fold,
        held: &[Arc<[Fix]>],
        read: &HashSet<Place>,
        now: Timestamp,
    ) {
        let Mode::Ready(tracker) = &fold.mode else { return };
        let (mut new, mut waiting, mut on_disk) = (Vec::new(), Vec::new(), Vec::new());
        for fixes in held {
            // Of this frame: a repeat that is in flight says nothing of the first, which may be on disk.
            let flies = fold.in_flight.iter().any(|(_, other)| Arc::ptr_eq(other, fixes));
            for fix in fixes.iter().filter(|f| !read.contains(&f.order())) {
                match (tracker.is_past(fix), flies) {
                    (false, _) => new.push(fix.clone()),
                    (true, true) => waiting.push(fix.order()),
                    (true, false) => on_disk.push(fix.order()),
                }
            }
        }
        new.sort_unstable_by_key(Fix::order);
        let new: Arc<[Fix]> = new.into();
        fold.missed.extend(waiting);
        self.fold_forward(fold, &new, now);
        if !on_disk.is_empty() {
            self.build_from(fold, on_disk);
        }
    }

    /// Gives up building; the sweep tries again.
    pub(super) fn abandon(&self) {
        self.lock().forget();
    }

    /// Changes the tracked device; the tracker is built for the new one.
    pub(super) fn track(self: &Arc<Self>, device: Option<DeviceId>) {
        let mut fold = self.lock();
        if fold.tracked != device {
            fold.tracked = device;
            fold.owed = None;
            self.build_from(&mut fold, []);
            if let Some(zones) = &self.zones {
                zones.start_anew();
            }
        }
    }
}

impl Drop for Person {
    /// Stores the fold's place, so that whoever takes it folds little again, decides what waits, and gives the fold back.
    fn drop(&mut self) {
        let fold = self.fold.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Mode::Ready(tracker) = &fold.mode else { return };
        let told = decide(&mut fold.late, tracker, Vec::new(), false);
        if let Some(batch) = tracker.batch(told) {
            // Full: the next to take it folds a little more.
            let _ = self.sink.try_send(SinkMessage::Batch(TransitionBatch { last: true, ..batch }));
        }
    }
}

/// What is told of the transitions found at one fix.
///
/// Transitions at late fixes wait, those since the fence's membership last changed only; at the next fresh fix the
/// waiting ones are told if their membership still holds. Everything is stored as history at once.
fn decide(
    waiting: &mut HashMap<GeofenceId, Vec<Crossing>>,
    tracker: &Tracker,
    found: Vec<Crossing>,
    late: bool,
) -> Vec<Crossing> {
    let mut out = Vec::new();
    if !late {
        for (fence, crossings) in waiting.drain() {
            let undone = |c: &Crossing| {
                found.iter().any(|f| {
                    f.transition.fence == fence
                        && f.changes_membership()
                        && f.transition.id != c.transition.id
                })
            };
            for mut crossing in crossings {
                if tracker.membership(fence) == crossing.led_to() && !undone(&crossing) {
                    crossing.tell = true;
                    out.push(crossing);
                }
            }
        }
    }
    for mut crossing in found {
        if late {
            let waits = waiting.entry(crossing.transition.fence).or_default();
            if crossing.changes_membership() {
                waits.clear();
            }
            if crossing.is_news() {
                waits.push(crossing.clone());
            }
        } else {
            crossing.tell = crossing.is_news();
        }
        out.push(crossing);
    }
    waiting.retain(|_, crossings| !crossings.is_empty());
    out
}
