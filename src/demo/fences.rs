//! Where the demo puts its fences, and what they must then tell: counted on the track alone, without the tracker.

use super::Recorded;
use crate::geo::{Point, distance_m};

/// The radius of a demo fence, metres.
pub(super) const RADIUS_M: f64 = 120.0;
/// What a person must be past the edge to have left.
const MARGIN_M: f64 = 20.0;

/// A fence on the way.
pub(super) struct OnTheWay {
    pub(super) name: &'static str,
    pub(super) center: Point,
}

/// How often the track goes into and out of a circle.
pub(super) fn visits(track: &[Recorded], center: Point) -> (usize, usize) {
    let (mut entered, mut left) = (0, 0);
    let mut inside = distance_m(track[0].point, center) <= RADIUS_M;
    for recorded in track {
        let apart_m = distance_m(recorded.point, center);
        if !inside && apart_m <= RADIUS_M {
            (inside, entered) = (true, entered + 1);
        } else if inside && apart_m > RADIUS_M + MARGIN_M {
            (inside, left) = (false, left + 1);
        }
    }
    (entered, left)
}

/// The first place at or after `share` of the track that is passed exactly once.
pub(super) fn place(track: &[Recorded], name: &'static str, share: f64) -> Option<OnTheWay> {
    let from = (track.len() as f64 * share) as usize;
    let once = |r: &&Recorded| visits(track, r.point) == (1, 1);
    track.get(from..)?.iter().step_by(5).find(once).map(|r| OnTheWay { name, center: r.point })
}
