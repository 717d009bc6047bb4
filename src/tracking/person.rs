//! A person whose fixes are coming in: the tracker of their tracked device, and their newest position.
//!
//! Folding never waits. While the tracker is being (re)built from the store, fixes are held and folded after.

use super::rebuild::{Built, Rebuild};
use super::{Crossing, SinkMessage, StoredFix, Tracker, TransitionSink};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, UserId};
use crate::trust::{Basis, Grant};
use std::collections::HashMap;
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

/// The newest fix of a device, on its way to whoever may see it.
#[derive(Clone)]
pub struct Position {
    user: UserId,
    tracked: bool,
    stored: StoredFix,
}

impl Position {
    /// Whose.
    pub fn user(&self) -> UserId {
        self.user
    }
    /// The fix, for the holder of a grant: a live one covers the tracked device, an emergency's any device.
    pub fn reveal(&self, grant: &Grant) -> Option<&StoredFix> {
        let covered = self.tracked || !matches!(grant.basis(), Basis::LiveLocation);
        (grant.subject() == self.user && covered).then_some(&self.stored)
    }
}

/// One person; shared by their sockets, gone when the last is.
pub struct Person {
    user: UserId,
    fold: Mutex<Fold>,
    sink: TransitionSink,
    rebuilds: mpsc::Sender<Rebuild>,
}

pub(super) struct Fold {
    pub(super) tracked: Option<DeviceId>,
    pub(super) newest: HashMap<DeviceId, (Timestamp, i64)>,
    pub(super) mode: Mode,
    /// The late transitions of each fence since its membership last changed, not yet told.
    late: HashMap<GeofenceId, Vec<Crossing>>,
    late_since: Option<Timestamp>,
    unsaved: u32,
}

pub(super) enum Mode {
    /// Not built, or to be built again.
    Stale,
    /// Being built; these are folded after.
    Building { held: Vec<Fix>, again: Option<Rebuild> },
    /// Folds as fixes come.
    Ready(Tracker),
}

impl Person {
    pub(super) fn new(
        user: UserId,
        tracked: Option<DeviceId>,
        sink: TransitionSink,
        rebuilds: mpsc::Sender<Rebuild>,
    ) -> Self {
        let fold = Fold {
            tracked,
            newest: HashMap::new(),
            mode: Mode::Stale,
            late: HashMap::new(),
            late_since: None,
            unsaved: 0,
        };
        Self { user, fold: Mutex::new(fold), sink, rebuilds }
    }

    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Fold> {
        // A panic while folding leaves at worst a stale fold, which the next rebuild replaces.
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds fixes that just came from `device`. Returns the person's newest position if one of them is it.
    pub(super) fn observe(
        self: &Arc<Self>,
        device: DeviceId,
        fixes: &[Fix],
        now: Timestamp,
    ) -> Option<Position> {
        let mut fold = self.lock();
        let tracked = fold.tracked == Some(device);
        if tracked {
            self.fold_forward(&mut fold, fixes, now);
        }
        let newest = fixes.iter().max_by_key(|f| f.order())?;
        let known = fold.newest.entry(device).or_insert(newest.order());
        if *known > newest.order() {
            return None;
        }
        *known = newest.order();
        let stored = StoredFix { device, fix: newest.clone(), received_at: now };
        Some(Position { user: self.user, tracked, stored })
    }

    fn fold_forward(self: &Arc<Self>, fold: &mut Fold, fixes: &[Fix], now: Timestamp) {
        let mut crossings = Vec::new();
        match &mut fold.mode {
            Mode::Stale => {
                fold.mode = Mode::Building { held: fixes.to_vec(), again: None };
                self.ask(fold, Rebuild { person: Arc::clone(self), late_from: None });
                return;
            }
            Mode::Building { held, again } => {
                if held.len() + fixes.len() > HELD {
                    held.clear();
                    *again = Some(Rebuild { person: Arc::clone(self), late_from: None });
                } else {
                    held.extend_from_slice(fixes);
                }
                return;
            }
            Mode::Ready(tracker) => {
                for fix in fixes {
                    if !tracker.is_past(fix) {
                        let late = fix.fixed_at < now - LATE;
                        let found = tracker.fold(fix, late);
                        let told = decide(&mut fold.late, tracker, found, late);
                        crossings.extend(told);
                        fold.unsaved += 1;
                    }
                }
            }
        }
        self.after_fold(fold, crossings, now);
    }

    /// Sends what a fold found to be stored, and keeps the settling time of late transitions.
    pub(super) fn after_fold(&self, fold: &mut Fold, crossings: Vec<Crossing>, now: Timestamp) {
        fold.late_since = if fold.late.is_empty() { None } else { Some(now) };
        if crossings.is_empty() && fold.unsaved < CHECKPOINT {
            return;
        }
        self.save(fold, crossings);
    }

    fn save(&self, fold: &mut Fold, crossings: Vec<Crossing>) {
        let Mode::Ready(tracker) = &fold.mode else { return };
        let Some(batch) = tracker.batch(crossings, Vec::new()) else { return };
        fold.unsaved = 0;
        if self.sink.try_send(SinkMessage::Batch(batch)).is_err() {
            // The fixes are durable and the store's states are older: fold again from there.
            fold.mode = Mode::Stale;
        }
    }

    /// Decides late transitions that no fresh fix has decided in time, finds dwells that no fix has shown, and retries
    /// a fold that could not be stored.
    pub(super) fn settle(self: &Arc<Self>, now: Timestamp) {
        let mut guard = self.lock();
        if matches!(guard.mode, Mode::Stale) {
            guard.mode = Mode::Building { held: Vec::new(), again: None };
            self.ask(&mut guard, Rebuild { person: Arc::clone(self), late_from: None });
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

    /// Builds the tracker again: its fences, its device or its past changed.
    pub(super) fn rebuild(self: &Arc<Self>, late_from: Option<(Timestamp, i64)>) {
        let mut fold = self.lock();
        let rebuild = Rebuild { person: Arc::clone(self), late_from };
        if let Mode::Building { again, .. } = &mut fold.mode {
            let earlier = again.take().and_then(|a| a.late_from);
            *again = Some(Rebuild { late_from: [earlier, late_from].into_iter().flatten().min(), ..rebuild });
            return;
        }
        fold.mode = Mode::Building { held: Vec::new(), again: None };
        self.ask(&mut fold, rebuild);
    }

    fn ask(&self, fold: &mut Fold, rebuild: Rebuild) {
        if self.rebuilds.try_send(rebuild).is_err() {
            // The queue of rebuilds is full: the sweep asks again.
            fold.mode = Mode::Stale;
        }
    }

    /// Makes a built tracker the person's, and folds what came meanwhile.
    pub(super) fn install(self: &Arc<Self>, built: Built, now: Timestamp) {
        let Built { tracker, found, retracted, folded } = built;
        let mut guard = self.lock();
        let fold = &mut *guard;
        let Mode::Building { held, again } = std::mem::replace(&mut fold.mode, Mode::Stale) else { return };
        if let Some(again) = again {
            fold.mode = Mode::Building { held, again: None };
            self.ask(fold, again);
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
        let reached = tracker.folded_to().unwrap_or((Timestamp::from_unix_ms(i64::MIN), 0));
        fold.mode = Mode::Ready(tracker);
        fold.unsaved = CHECKPOINT;
        self.after_fold(fold, told, now);
        let mut held = held;
        held.sort_by_key(Fix::order);
        self.fold_forward(fold, &held, now);
        // A fix that came late while the tracker was built, and that the store did not have yet.
        let missed = |f: &&Fix| !folded.contains(&f.seq) && f.order() <= reached;
        let late_from = held.iter().filter(missed).map(Fix::order).min();
        drop(guard);
        if late_from.is_some() {
            self.rebuild(late_from);
        }
    }

    /// Gives up building; the sweep tries again.
    pub(super) fn abandon(&self) {
        self.lock().mode = Mode::Stale;
    }

    /// Changes the tracked device; the tracker is built for the new one.
    pub(super) fn track(self: &Arc<Self>, device: Option<DeviceId>) {
        let mut fold = self.lock();
        if fold.tracked != device {
            fold.tracked = device;
            drop(fold);
            self.rebuild(None);
        }
    }
}

impl Drop for Person {
    /// Stores the fold's place, so that a later start folds little again, and decides what waits: nobody else will.
    fn drop(&mut self) {
        let fold = self.fold.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Mode::Ready(tracker) = &fold.mode else { return };
        let told = decide(&mut fold.late, tracker, Vec::new(), false);
        if fold.unsaved == 0 && told.is_empty() {
            return;
        }
        if let Some(batch) = tracker.batch(told, Vec::new()) {
            // Full: the next start folds a little more.
            let _ = self.sink.try_send(SinkMessage::Batch(batch));
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
