//! A track with fewer positions: each one that is left out was, at its time, within a tolerance of where the rest says.
//!
//! The line is cut where it is furthest off until nothing is further off than the tolerance, as Douglas and Peucker do, but
//! measured at the same moment and not to the nearest point of the line (Meratnia and de By, "Spatiotemporal compression
//! techniques for moving point objects", 2004). So somebody who stays somewhere for hours is shown to stay, where a line
//! that knows no time would let them crawl.

use super::Point;
use crate::clock::Timestamp;

/// Metres in the longest degree there is, of latitude near a pole: no way is measured too short.
const DEGREE_M: f64 = 111_700.0;

/// A place on a plane, in metres, and when in milliseconds.
#[derive(Clone, Copy)]
struct Placed {
    x: f64,
    y: f64,
    at: f64,
}

impl Placed {
    /// How far it is from where a straight way from `from` to `to` is at its time.
    fn off(self, from: Self, to: Self) -> f64 {
        let whole = to.at - from.at;
        let part = if whole == 0.0 { 0.0 } else { ((self.at - from.at) / whole).clamp(0.0, 1.0) };
        let (x, y) = (from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part);
        (self.x - x).hypot(self.y - y)
    }
}

/// On a plane. East and west are measured as on the track's widest circle of latitude: no way is measured too short.
fn flat(track: &[(Timestamp, Point)]) -> Vec<Placed> {
    let widest = track.iter().map(|(_, point)| point.lat().abs()).fold(90.0, f64::min);
    let east_m = DEGREE_M * widest.to_radians().cos();
    let (first_at, first_lon) = track.first().map_or((0, 0.0), |(at, point)| (at.unix_ms(), point.lon()));
    let placed = |(at, point): &(Timestamp, Point)| {
        // The short way round, across the 180th meridian too.
        let east = (point.lon() - first_lon + 540.0).rem_euclid(360.0) - 180.0;
        let since = at.unix_ms().saturating_sub(first_at) as f64;
        Placed { x: east * east_m, y: point.lat() * DEGREE_M, at: since }
    };
    track.iter().map(placed).collect()
}

/// Which positions of a track stay, by their place in it: the first, the last, and so many between that no other was further off
/// than `tolerance_m`. The track is in the order of its times, forwards or backwards.
pub fn simplified(track: &[(Timestamp, Point)], tolerance_m: f64) -> Vec<usize> {
    let Some(last) = track.len().checked_sub(1) else { return Vec::new() };
    let placed = flat(track);
    let mut stays = vec![false; track.len()];
    (stays[0], stays[last]) = (true, true);
    let mut open = vec![(0, last)];
    while let Some((from, to)) = open.pop() {
        let off = |n: usize| placed[n].off(placed[from], placed[to]);
        let furthest = (from + 1..to).map(|n| (n, off(n))).max_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((cut, _)) = furthest.filter(|(_, off)| *off > tolerance_m) {
            stays[cut] = true;
            open.extend([(from, cut), (cut, to)]);
        }
    }
    (0..track.len()).filter(|n| stays[*n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::distance_m;
    use proptest::prelude::*;

    fn at(second: i64, lat: f64, lon: f64) -> (Timestamp, Point) {
        (Timestamp::from_unix_ms(1_800_000_000_000 + second * 1_000), Point::new(lat, lon).unwrap())
    }

    #[test]
    fn a_straight_steady_way_is_its_two_ends() {
        let way: Vec<_> = (0..100).map(|s| at(s, 48.0 + s as f64 * 1e-5, 16.0)).collect();
        assert_eq!(simplified(&way, 1.0), [0, 99]);
        assert_eq!(simplified(&way[..1], 1.0), [0]);
        assert_eq!(simplified(&[], 1.0), Vec::<usize>::new());
    }

    #[test]
    fn who_stays_is_shown_to_stay() {
        // An hour at one place, then 100 s of walking.
        let mut way: Vec<_> = (0..60).map(|minute| at(minute * 60, 48.0, 16.0)).collect();
        way.extend((1..=100).map(|s| at(3_540 + s, 48.0 + s as f64 * 1e-5, 16.0)));
        assert_eq!(simplified(&way, 5.0), [0, 59, 159]);
    }

    #[test]
    fn across_the_180th_meridian_is_no_way_round_the_earth() {
        let way = [at(0, 0.0, 179.999), at(1, 0.0, -180.0), at(2, 0.0, -179.999)];
        assert_eq!(simplified(&way, 1.0), [0, 2]);
    }

    proptest! {
        #[test]
        fn nothing_was_further_off_than_the_tolerance(
            steps in prop::collection::vec((0_i64..120, -40.0..40.0_f64, -40.0..40.0_f64), 1..80),
            tolerance_m in 1.0..50.0_f64,
            backwards in any::<bool>(),
        ) {
            let (mut second, mut lat, mut lon) = (0, 60.0, 179.99);
            let mut way = Vec::new();
            for (s, north_m, east_m) in steps {
                second += s;
                lat += north_m / DEGREE_M;
                lon += east_m / DEGREE_M;
                way.push(at(second, lat, if lon > 180.0 { lon - 360.0 } else { lon }));
            }
            if backwards {
                way.reverse();
            }
            let stays = simplified(&way, tolerance_m);
            prop_assert!(stays.first() == Some(&0) && stays.last() == Some(&(way.len() - 1)));
            for pair in stays.windows(2) {
                let (from, to) = (way[pair[0]], way[pair[1]]);
                for (when, place) in &way[pair[0]..pair[1]] {
                    let whole = (to.0.unix_ms() - from.0.unix_ms()) as f64;
                    let part = (when.unix_ms() - from.0.unix_ms()) as f64;
                    let part = if whole == 0.0 { 0.0 } else { part / whole };
                    let mut east = to.1.lon() - from.1.lon();
                    east -= (east / 360.0).round() * 360.0;
                    let mut lon = from.1.lon() + east * part;
                    lon -= (lon / 360.0).round() * 360.0;
                    let there = Point::new(from.1.lat() + (to.1.lat() - from.1.lat()) * part, lon).unwrap();
                    // The earth is no plane and no sphere: 1 %.
                    prop_assert!(distance_m(*place, there) <= tolerance_m * 1.01 + 0.01);
                }
            }
        }
    }
}
