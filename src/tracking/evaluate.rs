//! The rule of a fence: what one fix makes of a membership.

use super::{Geofence, Trigger};
use crate::geo::{Area, Fix, Placement, Shape};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whether a device is in a fence. Unknown is neither: it is never told to anybody as one or the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// No fix has shown it.
    #[default]
    Unknown,
    /// In it.
    Inside,
    /// Out of it.
    Outside,
}

impl Membership {
    /// The word it is stored as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
    /// From [`Membership::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Unknown, Self::Inside, Self::Outside].into_iter().find(|m| m.word() == word)
    }
    /// What a change to this membership is called.
    pub const fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Unknown => None,
            Self::Inside => Some(Trigger::Enter),
            Self::Outside => Some(Trigger::Exit),
        }
    }
}

/// An exit needs at least so many metres past the edge: what a good receiver wanders while it lies still.
const EXIT_MARGIN_M: f64 = 20.0;
/// A fix coarser than this, and than the fence itself, says nothing while its circle lies across the edge.
const COARSE_M: f64 = 100.0;

/// Receivers that have no position write 0,0, a place in the sea. Of a fence that is not within so much of it, metres, such a fix
/// says nothing.
const NOWHERE_M: f64 = 100_000.0;

/// Whether a fix says no place, as far as this shape goes.
fn is_nowhere(fix: &Fix, shape: &Shape) -> bool {
    let is_origin = fix.point.lat() == 0.0 && fix.point.lon() == 0.0;
    is_origin && !Area::around(fix.point, NOWHERE_M).meets(&Area::of(shape))
}

/// The membership after a fix: enter at the edge, leave past edge + max(20 m, 10 % of the fence's size, accuracy).
///
/// The hysteresis keeps noise at an edge from raising alarms; a fix whose circle of uncertainty is larger than the
/// fence and lies across its edge changes nothing.
pub fn evaluate(before: Membership, shape: &Shape, fix: &Fix) -> Membership {
    let accuracy_m = fix.accuracy_m.unwrap_or(0.0);
    let size_m = shape.size_m();
    let margin_m = EXIT_MARGIN_M.max(0.1 * size_m).max(accuracy_m);
    let Placement { inside, edge_m } = shape.place(fix.point, margin_m);
    let says_nothing = accuracy_m > size_m.max(COARSE_M) && edge_m < accuracy_m;
    match before {
        _ if says_nothing || is_nowhere(fix, shape) => before,
        _ if inside => Membership::Inside,
        Membership::Inside if edge_m <= margin_m => Membership::Inside,
        Membership::Unknown if edge_m <= accuracy_m => Membership::Unknown,
        _ => Membership::Outside,
    }
}

/// Two fixes further apart in time say nothing of the way between them.
const MAX_GAP: Duration = Duration::from_secs(600);

/// Whether the way from one fix outside to the next one outside passed through the fence.
///
/// Taken as straight. Both fixes must be fine enough to be believed outside, and no more than ten minutes apart.
pub fn crosses(fence: &Geofence, from: &Fix, to: &Fix) -> bool {
    let fine = |fix: &Fix| fix.accuracy_m.unwrap_or(0.0) <= COARSE_M;
    fine(from)
        && fine(to)
        && !is_nowhere(from, &fence.shape)
        && !is_nowhere(to, &fence.shape)
        && to.fixed_at.since(from.fixed_at) <= MAX_GAP
        && fence.shape.meets_segment(from.point, to.point)
}

#[cfg(test)]
mod tests {
    use super::Membership::{Inside, Outside, Unknown};
    use super::*;
    use crate::clock::Timestamp;
    use crate::geo::{Point, RawShape};
    use crate::id::{GeofenceId, UserId};
    use crate::tracking::Severity;
    use std::sync::Arc;

    fn fence(radius_m: f64) -> Geofence {
        let shape = RawShape::Circle { center: vec![16.0, 48.0], radius_m };
        Geofence {
            id: GeofenceId(uuid::Uuid::from_u128(1)),
            owner: UserId(uuid::Uuid::from_u128(2)),
            name: "home".into(),
            shape: Arc::new(Shape::try_from(shape).unwrap()),
            triggers: vec![Trigger::Enter],
            dwell: Duration::from_secs(300),
            cooldown: Duration::ZERO,
            severity: Severity::Info,
            notify: None,
            created_at: Timestamp::from_unix_ms(0),
            revision: 1,
        }
    }
    /// A fix so many metres north of the centre.
    fn fix(north_m: f64, accuracy_m: f64) -> Fix {
        Fix {
            seq: 1,
            point: Point::new(48.0 + north_m / 111_200.0, 16.0).unwrap(),
            fixed_at: Timestamp::from_unix_ms(0),
            accuracy_m: Some(accuracy_m),
            altitude_m: None,
            speed_mps: None,
            course_deg: None,
            battery: None,
        }
    }

    #[test]
    fn enters_at_the_edge_and_leaves_past_the_margin() {
        let home = fence(100.0);
        assert_eq!(evaluate(Outside, &home.shape, &fix(105.0, 5.0)), Outside);
        assert_eq!(evaluate(Outside, &home.shape, &fix(95.0, 5.0)), Inside);
        assert_eq!(evaluate(Inside, &home.shape, &fix(115.0, 5.0)), Inside);
        assert_eq!(evaluate(Inside, &home.shape, &fix(125.0, 5.0)), Outside);
        assert_eq!(evaluate(Inside, &home.shape, &fix(125.0, 40.0)), Inside);
        assert_eq!(evaluate(Inside, &fence(1000.0).shape, &fix(1090.0, 5.0)), Inside);
        assert_eq!(evaluate(Inside, &fence(1000.0).shape, &fix(1110.0, 5.0)), Outside);
    }

    #[test]
    fn a_fix_of_0_0_says_nothing_of_fences_elsewhere() {
        let home = fence(100.0);
        let nowhere = Fix { point: Point::new(0.0, -0.0).unwrap(), ..fix(0.0, 5.0) };
        for before in [Unknown, Inside, Outside] {
            assert_eq!(evaluate(before, &home.shape, &nowhere), before);
        }
        let shape = RawShape::Circle { center: vec![0.5, 0.0], radius_m: 100.0 };
        let buoy = Geofence { shape: Arc::new(Shape::try_from(shape).unwrap()), ..fence(100.0) };
        assert_eq!(evaluate(Inside, &buoy.shape, &nowhere), Outside);
        let beyond = Fix { point: Point::new(0.0, 1.0).unwrap(), ..fix(0.0, 5.0) };
        assert!(crosses(&buoy, &nowhere, &beyond));
        let shape = RawShape::Circle { center: vec![5.0, 0.0], radius_m: 100.0 };
        let far = Geofence { shape: Arc::new(Shape::try_from(shape).unwrap()), ..fence(100.0) };
        let beyond = Fix { point: Point::new(0.0, 6.0).unwrap(), ..fix(0.0, 5.0) };
        assert!(!crosses(&far, &nowhere, &beyond));
    }

    #[test]
    fn a_coarse_fix_says_nothing_across_an_edge() {
        let home = fence(100.0);
        for before in [Unknown, Inside, Outside] {
            assert_eq!(evaluate(before, &home.shape, &fix(0.0, 3000.0)), before);
        }
        assert_eq!(evaluate(Inside, &home.shape, &fix(5000.0, 3000.0)), Outside);
    }

    #[test]
    fn passing_through_is_seen_and_passing_by_is_not() {
        let home = fence(100.0);
        let after = |s: u64, fix: Fix| Fix { fixed_at: fix.fixed_at + Duration::from_secs(s), ..fix };
        assert!(crosses(&home, &fix(300.0, 5.0), &after(30, fix(-300.0, 5.0))));
        assert!(!crosses(&home, &fix(300.0, 5.0), &after(30, fix(200.0, 5.0))));
        assert!(!crosses(&home, &fix(300.0, 5.0), &after(3600, fix(-300.0, 5.0))), "an hour is no way");
        assert!(
            !crosses(&home, &fix(300.0, 500.0), &after(30, fix(-300.0, 5.0))),
            "a coarse fix is not outside"
        );
        let aside = Fix { point: Point::new(48.0, 16.003).unwrap(), ..fix(0.0, 5.0) };
        let way = Fix { point: Point::new(48.01, 16.003).unwrap(), ..fix(0.0, 5.0) };
        assert!(!crosses(&home, &aside, &after(30, way)));
    }

    #[test]
    fn from_unknown_only_what_is_sure() {
        let home = fence(100.0);
        assert_eq!(evaluate(Unknown, &home.shape, &fix(110.0, 30.0)), Unknown);
        assert_eq!(evaluate(Unknown, &home.shape, &fix(140.0, 30.0)), Outside);
        assert_eq!(evaluate(Unknown, &home.shape, &fix(50.0, 30.0)), Inside);
    }
}
