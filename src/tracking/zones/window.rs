//! The zones around one person, and what a fix makes of them.

use super::{Zone, ZoneVisit};
use crate::clock::Timestamp;
use crate::geo::{Area, Fix, Point, distance_m};
use crate::id::{UserId, ZoneId};
use crate::tracking::{Membership, evaluate};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How far around a person zones are kept in memory.
pub(super) const RADIUS_M: f64 = 2_000.0;
/// Zones kept around a person, at most; where there are more, the window is smaller.
pub(super) const MOST: u32 = 256;
/// A window is never smaller than this, however many zones there are.
const LEAST_M: f64 = 100.0;
/// Fixes that wait for a window, at most; the oldest give way.
const WAITING: usize = 256;

/// A person enters a zone, or leaves it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ZoneStep {
    /// Which.
    pub zone: ZoneId,
    /// As it was then.
    pub revision: i64,
    /// When the fix was taken that shows it.
    pub at: Timestamp,
}

/// What fixes of one person showed: to be stored, and told to them.
#[derive(Clone, PartialEq, Debug)]
pub struct ZoneMoves {
    /// Who.
    pub user: UserId,
    /// Into which zones, in the order of the fixes.
    pub entered: Vec<(Arc<Zone>, Timestamp)>,
    /// Out of which.
    pub left: Vec<ZoneStep>,
}

impl ZoneMoves {
    /// Of somebody who did not move yet.
    pub fn of(user: UserId) -> Self {
        Self { user, entered: Vec::new(), left: Vec::new() }
    }

    /// Nothing happened.
    pub fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.left.is_empty()
    }
}

/// Where moves go; when it is full the window is forgotten and loaded again, and finds them again.
pub type ZoneSink = mpsc::Sender<ZoneMoves>;

/// The zones near a place, as they were when it was loaded.
#[derive(Clone, Debug)]
pub(super) struct View {
    center: Point,
    radius_m: f64,
    zones: Vec<(Arc<Zone>, Membership)>,
    /// Told of and not near any more.
    gone: Vec<ZoneVisit>,
}

impl View {
    /// Of zones that are nearest first, of which at most [`MOST`] were asked for. Who was told of a zone as it is now is
    /// in it; everything else the next fix shows.
    pub(super) fn new(center: Point, zones: Vec<Zone>, visits: &[ZoneVisit]) -> Self {
        let radius_m = match zones.last() {
            Some(last) if zones.len() >= MOST as usize => {
                let placed = last.shape.place(center, RADIUS_M);
                if placed.inside { LEAST_M } else { placed.edge_m.clamp(LEAST_M, RADIUS_M) }
            }
            _ => RADIUS_M,
        };
        let gone = visits.iter().filter(|v| zones.iter().all(|zone| zone.id != v.zone)).copied().collect();
        let placed = zones.into_iter().map(|zone| {
            let told = visits.contains(&ZoneVisit { zone: zone.id, revision: zone.revision });
            (Arc::new(zone), if told { Membership::Inside } else { Membership::Unknown })
        });
        Self { center, radius_m, zones: placed.collect(), gone }
    }

    /// What was found since the store was read is newer than the store.
    fn take_over(&mut self, older: &Self) {
        for (zone, membership) in &mut self.zones {
            let known = older.zones.iter().find(|(z, _)| (z.id, z.revision) == (zone.id, zone.revision));
            if let Some((_, known)) = known.filter(|(_, known)| *known != Membership::Unknown) {
                *membership = *known;
            }
        }
    }

    fn fold(&mut self, fix: &Fix, moves: &mut ZoneMoves) {
        let at = fix.fixed_at;
        for visit in self.gone.drain(..) {
            moves.left.push(ZoneStep { zone: visit.zone, revision: visit.revision, at });
        }
        for (zone, membership) in &mut self.zones {
            let before = std::mem::replace(membership, evaluate(*membership, &zone.shape, fix));
            match (before, *membership) {
                (Membership::Unknown | Membership::Outside, Membership::Inside) => {
                    moves.entered.push((Arc::clone(zone), at));
                }
                (Membership::Inside, Membership::Outside) => {
                    moves.left.push(ZoneStep { zone: zone.id, revision: zone.revision, at });
                }
                _ => {}
            }
        }
    }
}

/// The view around a person, and what to do about it.
#[derive(Default, Debug)]
pub(super) struct Window {
    view: Option<View>,
    /// Being loaded; whether once more after that.
    loading: Option<bool>,
    /// Zones in it changed.
    stale: bool,
    /// Fixes outside the view.
    waiting: VecDeque<Fix>,
    last: Option<Fix>,
}

impl Window {
    /// Takes a fresh fix. One that is older than the last says nothing.
    pub(super) fn see(&mut self, fix: &Fix, moves: &mut ZoneMoves) {
        if self.last.as_ref().is_some_and(|last| last.order() >= fix.order()) {
            return;
        }
        self.last = Some(fix.clone());
        match &mut self.view {
            Some(view) if distance_m(view.center, fix.point) < view.radius_m => view.fold(fix, moves),
            _ => {
                if self.waiting.len() >= WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(fix.clone());
            }
        }
    }

    /// Around which place a view is to be loaded now, if one is: there is none, zones in it changed, or the person is
    /// half way out of it. The caller loads it, and then calls [`Window::install`] or [`Window::failed`].
    pub(super) fn to_load(&mut self) -> Option<Point> {
        let at = self.last.as_ref()?.point;
        let fits = |view: &View| !self.stale && distance_m(view.center, at) <= view.radius_m / 2.0;
        if self.loading.is_some() || self.view.as_ref().is_some_and(fits) {
            return None;
        }
        self.loading = Some(false);
        self.stale = false;
        Some(at)
    }

    /// Takes a view that was loaded, and looks at the fixes that waited for it, and at the last one if it was taken at or
    /// after `fresh`: it may be in a zone that is new.
    pub(super) fn install(&mut self, mut view: View, fresh: Timestamp, moves: &mut ZoneMoves) {
        self.stale |= self.loading.take() == Some(true);
        if let Some(older) = &self.view {
            view.take_over(older);
        }
        let last = self.last.iter().filter(|last| last.fixed_at >= fresh);
        for fix in self.waiting.iter().chain(last) {
            if distance_m(view.center, fix.point) < view.radius_m {
                view.fold(fix, moves);
            }
        }
        // The others are outside this view too: the person went on, and another view is loaded.
        self.waiting.retain(|fix| distance_m(view.center, fix.point) >= view.radius_m);
        self.view = Some(view);
    }

    /// The view could not be loaded.
    pub(super) fn failed(&mut self) {
        self.stale |= self.loading.take() == Some(true);
    }

    /// Zones changed there.
    pub(super) fn touch(&mut self, areas: &[Area]) {
        let seen = self.view.as_ref().map(|view| Area::around(view.center, view.radius_m));
        let seen = seen.or_else(|| self.last.as_ref().map(|last| Area::around(last.point, RADIUS_M)));
        if let Some(again) = &mut self.loading {
            *again = true;
        } else if seen.is_some_and(|seen| areas.iter().any(|area| area.meets(&seen))) {
            self.stale = true;
        }
    }

    /// Forgets everything but where the person is: what was found could not be stored.
    pub(super) fn forget(&mut self) {
        self.view = None;
    }
}
