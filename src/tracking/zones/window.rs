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

    fn evaluate(&mut self, fix: &Fix, moves: &mut ZoneMoves) {
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
            Some(view) if distance_m(view.center, fix.point) < view.radius_m => view.evaluate(fix, moves),
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
    pub(super) fn next_load(&mut self) -> Option<Point> {
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
                view.evaluate(fix, moves);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{RawShape, Shape};
    use crate::tracking::Severity;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(NOW.unix_ms() + s * 1_000)
    }

    /// A fix so many seconds from now, so many metres north of the origin.
    fn fix(s: i64, north_m: f64) -> Fix {
        Fix {
            seq: s + 1_000,
            fixed_at: at(s),
            point: Point::new(north_m / 110_574.0, 0.0).unwrap(),
            accuracy_m: Some(5.0),
            altitude_m: None,
            speed_mps: None,
            course_deg: None,
            battery: None,
        }
    }

    /// A circle of 100 m, so many metres north of the origin.
    fn zone(id: u128, north_m: f64) -> Zone {
        let center = vec![0.0, north_m / 110_574.0];
        Zone {
            id: ZoneId(Uuid::from_u128(id)),
            name: "flood".into(),
            shape: Arc::new(Shape::try_from(RawShape::Circle { center, radius_m: 100.0 }).unwrap()),
            severity: Severity::Warning,
            revision: 1,
            updated_at: NOW,
        }
    }

    fn visit(zone: &Zone) -> ZoneVisit {
        ZoneVisit { zone: zone.id, revision: zone.revision }
    }

    fn place(north_m: f64) -> Point {
        fix(0, north_m).point
    }

    /// What was entered and what was left, when.
    type Told = (Vec<(u128, i64)>, Vec<(u128, i64)>);

    fn told(act: impl FnOnce(&mut ZoneMoves)) -> Told {
        let mut moves = ZoneMoves::of(UserId(Uuid::nil()));
        act(&mut moves);
        let s = |at: Timestamp| (at.unix_ms() - NOW.unix_ms()) / 1_000;
        let entered = moves.entered.iter().map(|(zone, at)| (zone.id.0.as_u128(), s(*at)));
        (entered.collect(), moves.left.iter().map(|step| (step.zone.0.as_u128(), s(step.at))).collect())
    }

    fn see(window: &mut Window, s: i64, north_m: f64) -> Told {
        told(|moves| window.see(&fix(s, north_m), moves))
    }

    fn install(window: &mut Window, view: View) -> Told {
        told(|moves| window.install(view, at(-120), moves))
    }

    /// A window around the origin with these zones, at the origin.
    fn window(zones: Vec<Zone>, visits: &[ZoneVisit]) -> (Window, Told) {
        let mut window = Window::default();
        assert_eq!(see(&mut window, 0, 0.0), Told::default());
        assert_eq!(window.next_load(), Some(place(0.0)));
        let told = install(&mut window, View::new(place(0.0), zones, visits));
        (window, told)
    }

    #[test]
    fn a_visit_is_an_entry_and_an_exit() {
        let (mut window, first) = window(vec![zone(1, 500.0)], &[]);
        assert_eq!(first, Told::default());
        assert_eq!(see(&mut window, 1, 300.0), Told::default());
        assert_eq!(see(&mut window, 2, 450.0), (vec![(1, 2)], vec![]));
        assert_eq!(see(&mut window, 3, 500.0), Told::default());
        assert_eq!(see(&mut window, 4, 605.0), Told::default(), "a little outside is still in it");
        assert_eq!(see(&mut window, 5, 700.0), (vec![], vec![(1, 5)]));
        assert_eq!(see(&mut window, 4, 500.0), Told::default(), "an older fix says nothing");
    }

    #[test]
    fn who_was_told_is_not_told_again() {
        let here = zone(1, 0.0);
        assert_eq!(
            window(vec![here.clone()], &[]).1,
            (vec![(1, 0)], vec![]),
            "found inside by the first fix"
        );
        assert_eq!(window(vec![here.clone()], &[visit(&here)]).1, Told::default());
        let changed = Zone { revision: 2, ..here.clone() };
        assert_eq!(window(vec![changed], &[visit(&here)]).1, (vec![(1, 0)], vec![]));
    }

    #[test]
    fn what_is_not_near_any_more_was_left() {
        let away = zone(9, 90_000.0);
        assert_eq!(window(vec![], &[visit(&away)]).1, (vec![], vec![(9, 0)]));
    }

    #[test]
    fn half_way_out_another_view_is_loaded_and_the_old_one_serves_meanwhile() {
        let (near, far) = (zone(1, 1_500.0), zone(2, 2_500.0));
        let (mut window, _) = window(vec![near.clone()], &[]);
        see(&mut window, 1, 900.0);
        assert_eq!(window.next_load(), None);
        see(&mut window, 2, 1_100.0);
        assert_eq!(window.next_load(), Some(place(1_100.0)));
        assert_eq!(window.next_load(), None, "one at a time");
        assert_eq!(see(&mut window, 3, 1_500.0), (vec![(1, 3)], vec![]));
        assert_eq!(see(&mut window, 4, 2_500.0), Told::default(), "outside the view: it waits");
        // The store does not know of the entry yet.
        let view = View::new(place(1_100.0), vec![near, far], &[]);
        assert_eq!(install(&mut window, view), (vec![(2, 4)], vec![(1, 4)]));
        assert_eq!(window.next_load(), Some(place(2_500.0)));
    }

    #[test]
    fn who_stands_still_is_told_of_a_new_zone() {
        let (mut window, _) = window(vec![], &[]);
        window.touch(&[Area::around(place(90_000.0), 100.0)]);
        assert_eq!(window.next_load(), None, "it is far away");
        window.touch(&[Area::around(place(0.0), 100.0)]);
        assert_eq!(window.next_load(), Some(place(0.0)));
        let view = View::new(place(0.0), vec![zone(1, 0.0)], &[]);
        let mut later =
            Window { view: None, loading: Some(false), last: window.last.clone(), ..Window::default() };
        assert_eq!(
            told(|moves| later.install(view.clone(), at(1), moves)),
            Told::default(),
            "who knows where they are"
        );
        assert_eq!(install(&mut window, view), (vec![(1, 0)], vec![]));
    }

    #[test]
    fn a_change_during_a_load_is_looked_at_after_it() {
        let (mut window, _) = window(vec![], &[]);
        window.touch(&[Area::WORLD]);
        assert!(window.next_load().is_some());
        window.touch(&[Area::WORLD]);
        install(&mut window, View::new(place(0.0), vec![], &[]));
        assert!(window.next_load().is_some());
        window.touch(&[Area::WORLD]);
        window.failed();
        assert!(window.next_load().is_some());
    }

    #[test]
    fn what_was_forgotten_is_found_again() {
        let (mut window, _) = window(vec![zone(1, 0.0)], &[]);
        window.forget();
        assert_eq!(see(&mut window, 1, 1.0), Told::default());
        assert!(window.next_load().is_some());
        assert_eq!(
            install(&mut window, View::new(place(1.0), vec![zone(1, 0.0)], &[])),
            (vec![(1, 1)], vec![])
        );
    }

    #[test]
    fn what_waits_is_bounded_and_a_crowd_of_zones_makes_a_small_window() {
        let mut window = Window::default();
        for s in 0..1_000 {
            see(&mut window, s, 0.0);
        }
        assert_eq!(window.waiting.len(), WAITING);
        let many = |n: u32| (0..n).map(|n| zone(u128::from(n), 10.0 + f64::from(n))).collect::<Vec<_>>();
        assert!(View::new(place(0.0), many(MOST - 1), &[]).radius_m == RADIUS_M);
        let small = View::new(place(0.0), many(MOST), &[]).radius_m;
        assert!((LEAST_M..200.0).contains(&small), "{small}");
    }
}
