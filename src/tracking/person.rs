//! A person whose fixes are coming in: the tracker of their tracked device, and their newest position.
//!
//! Evaluating a fix never waits. While the tracker is being (re)built from the store, fixes are held back and evaluated
//! after it.
//!
//! No fix is left out. It was read by the last build, or is evaluated after it, or is older than what the tracker has
//! seen: then the history is evaluated again from there, as soon as the fix is on disk.

use super::rebuild::{Built, Rebuild};
use super::zones::Around;
use super::{
    Arrival, Crossing, FixKey, Owner, Position, Recorded, SinkMessage, StoredFix, Tracker, TransitionBatch,
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
/// Fixes held back while a tracker is built, at most; beyond, it is built once more from the store.
const MAX_HELD: usize = 10_000;
/// After so many fixes it is stored again up to which one they are evaluated.
const CHECKPOINT: u32 = 256;

/// One person; shared by their sockets, gone when the last is.
pub struct Person {
    user: UserId,
    state: Mutex<State>,
    sink: TransitionSink,
    rebuilds: mpsc::Sender<Rebuild>,
    /// `None` on a node that evaluates nothing.
    zones: Option<Arc<Around>>,
}
pub(super) struct State {
    tracked: Option<DeviceId>,
    newest: HashMap<DeviceId, Arrival>,
    mode: Mode,
    /// What the recorder has not yet written, in the order of arrival. Of all devices: any may become the tracked one.
    in_flight: VecDeque<(DeviceId, Arc<[Fix]>)>,
    /// Fixes of the tracked device in flight that are older than what the tracker has seen.
    missed: HashSet<FixKey>,
    /// The history has still to be evaluated again from here.
    owed: Option<FixKey>,
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
    /// Evaluates fixes as they come.
    Ready(Box<Tracker>),
    /// Another node owns the device; a fix that comes here takes it back.
    Elsewhere,
}

impl State {
    fn owe(&mut self, keys: impl IntoIterator<Item = FixKey>) {
        self.owed = self.owed.into_iter().chain(keys).min();
    }

    /// What the tracked device sent and is not yet on disk.
    fn of_tracked(&self) -> impl Iterator<Item = &Arc<[Fix]>> {
        self.in_flight.iter().filter(|(device, _)| self.tracked == Some(*device)).map(|(_, fixes)| fixes)
    }

    /// Forgets the tracker. The next one evaluates again from the oldest fix that was held back for it.
    fn forget(&mut self) {
        if let Mode::Building { held, .. } = std::mem::replace(&mut self.mode, Mode::Stale) {
            self.owe(keys(&held));
        }
    }
}

fn keys(held: &[Arc<[Fix]>]) -> impl Iterator<Item = FixKey> {
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
        let state = State {
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
        Self { user, state: Mutex::new(state), sink, rebuilds, zones }
    }

    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The zones around them.
    pub(super) fn zones(&self) -> Option<&Arc<Around>> {
        self.zones.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves at worst a stale tracker, which the next build replaces.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracked device, and from which fix its history has to be evaluated again: what a build begins with.
    pub(super) fn to_build(&self) -> (Option<DeviceId>, Option<FixKey>) {
        let state = self.lock();
        (state.tracked, state.owed)
    }

    /// Evaluates fixes that just came from `device`. Returns the person's newest position if one of them is it.
    ///
    /// [`Person::recorded`] is called with the same fixes once they are on disk.
    pub(super) fn observe(
        self: &Arc<Self>,
        device: DeviceId,
        fixes: &Arc<[Fix]>,
        now: Timestamp,
    ) -> Option<Position> {
        let mut state = self.lock();
        let tracked = state.tracked == Some(device);
        state.in_flight.push_back((device, Arc::clone(fixes)));
        if tracked {
            self.evaluate(&mut state, fixes, now);
        }
        let position = self.newest_of(&mut state, device, fixes, now);
        drop(state);
        if tracked && let Some(zones) = &self.zones {
            zones.see(fixes, now);
        }
        position
    }

    fn newest_of(
        &self,
        state: &mut State,
        device: DeviceId,
        fixes: &[Fix],
        now: Timestamp,
    ) -> Option<Position> {
        // A phone counts on whatever its clock does; what it did not count is below that, in the order of its times.
        let newest = fixes.iter().max_by_key(|f| f.seq)?;
        let stored = StoredFix { device, fix: newest.clone(), received_at: now };
        let this = Arrival::of(&stored);
        let known = state.newest.entry(device).or_insert(this);
        if known.is_after(&this) {
            return None;
        }
        let overtaken = this.is_overtaken_by(known);
        if !overtaken {
            *known = this;
        }
        let tracked = state.tracked == Some(device);
        Some(Position { user: self.user, tracked, overtaken, stored })
    }

    /// Devices of theirs that sent fixes here since then and are not the tracked one, each with that.
    pub(super) fn others_that_send(&self, since: Timestamp) -> Vec<(UserId, DeviceId, DeviceId)> {
        let state = self.lock();
        let Some(tracked) = state.tracked else { return Vec::new() };
        let lately = state.newest.iter().filter(|(_, last)| last.received_at() >= since);
        lately
            .filter(|(device, _)| **device != tracked)
            .map(|(device, _)| (self.user, tracked, *device))
            .collect()
    }

    /// The fixes are on disk. Those that were older than what the tracker has seen can be read now; those that the store
    /// refused must not stay in it.
    pub(super) fn recorded(self: &Arc<Self>, device: DeviceId, fixes: &Arc<[Fix]>, recorded: &Recorded) {
        let mut state = self.lock();
        if let Some(place) = state.in_flight.iter().position(|(_, held)| Arc::ptr_eq(held, fixes)) {
            state.in_flight.remove(place);
        }
        if state.tracked != Some(device) || (state.missed.is_empty() && recorded.conflicts.is_empty()) {
            return;
        }
        let mut again = Vec::new();
        for fix in fixes.iter() {
            let missed = state.missed.remove(&fix.order()) && !recorded.duplicates.contains(&fix.seq);
            if missed || recorded.conflicts.contains(&fix.seq) {
                again.push(fix.order());
            }
        }
        if !again.is_empty() {
            self.build_from(&mut state, again);
        }
    }

    fn evaluate(self: &Arc<Self>, state: &mut State, fixes: &Arc<[Fix]>, now: Timestamp) {
        match &mut state.mode {
            Mode::Stale | Mode::Elsewhere => self.ask(state),
            Mode::Building { held, again } => {
                held.push(Arc::clone(fixes));
                if held.iter().map(|f| f.len()).sum::<usize>() > MAX_HELD {
                    // Most of it is on disk by now: the next build reads it.
                    *again = true;
                    let held = std::mem::take(held);
                    state.owe(keys(&held));
                }
            }
            // What was evaluated in vain is on disk or in flight: the build finds it.
            Mode::Ready(tracker) if tracker.ownership().owner() != Owner::ThisNode => self.ask(state),
            Mode::Ready(tracker) => {
                let mut crossings = Vec::new();
                for fix in fixes.iter() {
                    if tracker.is_past(fix) {
                        state.missed.insert(fix.order());
                    } else {
                        let late = fix.fixed_at < now - LATE;
                        let found = tracker.fold(fix, late);
                        crossings.extend(decide(&mut state.late, tracker, found, late));
                        state.unsaved += 1;
                    }
                }
                self.after_evaluation(state, crossings, now);
            }
        }
    }

    /// Sends what was found to be stored, and keeps the settling time of late transitions.
    fn after_evaluation(&self, state: &mut State, crossings: Vec<Crossing>, now: Timestamp) {
        state.late_since = if state.late.is_empty() { None } else { Some(now) };
        if crossings.is_empty() && state.unsaved < CHECKPOINT {
            return;
        }
        self.save(state, crossings);
    }

    fn save(&self, state: &mut State, crossings: Vec<Crossing>) {
        let Mode::Ready(tracker) = &state.mode else { return };
        let Some(batch) = tracker.batch(crossings) else { return };
        self.send(state, batch);
    }

    /// `false` if it could not be sent. The stored states are then older than the tracker's: it is built again from them.
    fn send(&self, state: &mut State, batch: TransitionBatch) -> bool {
        let sent = self.sink.try_send(SinkMessage::Batch(batch)).is_ok();
        state.unsaved = 0;
        if !sent {
            state.forget();
        }
        sent
    }

    /// Called every second. Decides late transitions that no fresh fix has decided in time, finds dwells that no fix has
    /// shown, and builds the tracker again if what it found could not be stored.
    pub(super) fn settle(self: &Arc<Self>, now: Timestamp) {
        let mut guard = self.lock();
        match &guard.mode {
            Mode::Stale => self.ask(&mut guard),
            Mode::Ready(tracker) => match tracker.ownership().owner() {
                Owner::ThisNode => {}
                Owner::Another => guard.mode = Mode::Elsewhere,
                Owner::AnotherMissesNews => self.ask(&mut guard),
            },
            Mode::Building { .. } | Mode::Elsewhere => {}
        }
        let state = &mut *guard;
        let Mode::Ready(tracker) = &mut state.mode else { return };
        let mut told = tracker.dwells_until(now, false);
        told.iter_mut().for_each(|c| c.tell = c.is_news());
        if state.late_since.is_some_and(|since| now >= since + SETTLE) {
            told.extend(decide(&mut state.late, tracker, Vec::new(), false));
        }
        if !told.is_empty() || state.late.is_empty() {
            self.after_evaluation(state, told, now);
        }
    }

    /// Builds the tracker again: its fences or its device changed.
    pub(super) fn rebuild(self: &Arc<Self>) {
        self.rebuild_from(None);
    }

    /// Builds the tracker again, and evaluates the history again from this fix if one is named.
    pub(super) fn rebuild_from(self: &Arc<Self>, from: Option<FixKey>) {
        self.build_from(&mut self.lock(), from);
    }

    /// Evaluates again from there, unless another node owns the device by now.
    pub(super) fn look_again(self: &Arc<Self>, from: FixKey) {
        let mut state = self.lock();
        let ours = match &state.mode {
            Mode::Ready(tracker) => tracker.ownership().owner() == Owner::ThisNode,
            Mode::Building { .. } | Mode::Stale => true,
            Mode::Elsewhere => false,
        };
        if ours {
            self.build_from(&mut state, [from]);
        }
    }

    /// Builds the tracker again, and evaluates the history again from the oldest of these fixes.
    fn build_from(self: &Arc<Self>, state: &mut State, keys: impl IntoIterator<Item = FixKey>) {
        state.owe(keys);
        match &mut state.mode {
            Mode::Building { again, .. } => *again = true,
            // The owner does it.
            Mode::Elsewhere if state.owed.is_none() => {}
            Mode::Stale | Mode::Ready(_) | Mode::Elsewhere => self.ask(state),
        }
    }

    /// Asks for a build. What is on disk when it begins is read by it; the rest is in flight, and held back.
    fn ask(self: &Arc<Self>, state: &mut State) {
        state.missed.clear();
        state.mode = Mode::Building { held: state.of_tracked().cloned().collect(), again: false };
        if self.rebuilds.try_send(Rebuild(Arc::clone(self))).is_err() {
            // The queue of rebuilds is full: the sweep asks again.
            state.forget();
        }
    }

    /// Makes a built tracker the person's, stores what it found, and evaluates what came meanwhile.
    pub(super) fn install(self: &Arc<Self>, built: Built, now: Timestamp) {
        let Built { tracker, found, retracted, read, .. } = built;
        let mut guard = self.lock();
        let state = &mut *guard;
        let Mode::Building { held, again } = std::mem::replace(&mut state.mode, Mode::Stale) else { return };
        if again || state.tracked != Some(tracker.device()) {
            state.owe(keys(&held));
            self.ask(state);
            return;
        }
        // What waited and was not undone waits on.
        for waiting in state.late.values_mut() {
            waiting.retain(|c| !retracted.contains(&c.transition.id));
        }
        let mut told = Vec::new();
        for (crossing, late) in found {
            told.extend(decide(&mut state.late, &tracker, vec![crossing], late));
        }
        state.late_since = if state.late.is_empty() { None } else { Some(now) };
        let batch = tracker.rebuilt(told, retracted);
        state.mode = Mode::Ready(Box::new(tracker));
        if let Some(batch) = batch
            && !self.send(state, batch)
        {
            state.owe(keys(&held));
            return;
        }
        state.owed = None;
        self.catch_up(state, &held, &read, now);
    }

    /// Evaluates what was held back and not read by the build. A fix that is older than what the new tracker has seen makes
    /// it evaluate again from there: at once if it is on disk by now, else when it is.
    fn catch_up(
        self: &Arc<Self>,
        state: &mut State,
        held: &[Arc<[Fix]>],
        read: &HashSet<FixKey>,
        now: Timestamp,
    ) {
        let Mode::Ready(tracker) = &state.mode else { return };
        let (mut new, mut waiting, mut on_disk) = (Vec::new(), Vec::new(), Vec::new());
        for fixes in held {
            // Of this frame: a repeat that is in flight says nothing of the first, which may be on disk.
            let flies = state.in_flight.iter().any(|(_, other)| Arc::ptr_eq(other, fixes));
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
        state.missed.extend(waiting);
        self.evaluate(state, &new, now);
        if !on_disk.is_empty() {
            self.build_from(state, on_disk);
        }
    }

    /// Gives up building; the sweep tries again.
    pub(super) fn abandon(&self) {
        self.lock().forget();
    }

    /// Changes the tracked device; the tracker is built for the new one.
    pub(super) fn track(self: &Arc<Self>, device: Option<DeviceId>) {
        let mut state = self.lock();
        if state.tracked != device {
            state.tracked = device;
            state.owed = None;
            self.build_from(&mut state, []);
            if let Some(zones) = &self.zones {
                zones.start_anew();
            }
        }
    }
}

impl Drop for Person {
    /// Decides what waits, stores how far fixes are evaluated, so that the next owner repeats little, and gives the device
    /// back.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Mode::Ready(tracker) = &state.mode else { return };
        let told = decide(&mut state.late, tracker, Vec::new(), false);
        if let Some(batch) = tracker.batch(told) {
            // Full: the next owner evaluates a little more.
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
