//! Real tracks, replayed for many people: each starts somewhere else on one of them.

use anyhow::Context;
use cima::demo::{Recorded, read};
use cima::geo::Point;
use std::path::PathBuf;
use std::time::Duration;

/// The ride that is replayed unless others are named.
const RIDE: &str = include_str!("../../data/tracks/los-angeles-ride.gpx");
/// The tracks of a run.
pub(crate) struct Tracks(Vec<Vec<Recorded>>);

impl Tracks {
    /// Reads the named files, or takes the recorded ride.
    pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Self> {
        if files.is_empty() {
            return Ok(Self(vec![read(RIDE)?]));
        }
        let one = |file: &PathBuf| {
            let gpx = std::fs::read_to_string(file)?;
            read(&gpx)
        };
        let tracks = files.iter().map(|f| one(f).with_context(|| f.display().to_string()));
        let tracks = tracks.collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(tracks.iter().all(|t| t.len() > 1), "a track has two points with a time at least");
        Ok(Self(tracks))
    }

    /// So many positions of the n-th of `people`, `interval` apart.
    pub(crate) fn way(&self, n: usize, people: usize, count: usize, interval: Duration) -> Vec<Point> {
        let track = &self.0[n % self.0.len()];
        let length = track.last().map_or(Duration::ZERO, |r| r.after);
        let spare = length.saturating_sub(interval * u32::try_from(count).unwrap_or(u32::MAX));
        let start = spare.mul_f64(n as f64 / people.max(1) as f64);
        (0..count).map(|k| position(track, start + interval.mul_f64(k as f64))).collect()
    }
}

/// Where the track is so long after its start: on the line between two recorded points. It ends where it ends.
fn position(track: &[Recorded], after: Duration) -> Point {
    let next = track.partition_point(|r| r.after <= after).clamp(1, track.len() - 1);
    let (a, b) = (&track[next - 1], &track[next]);
    let between = (b.after - a.after).as_secs_f64().max(f64::EPSILON);
    let share = (after.saturating_sub(a.after).as_secs_f64() / between).min(1.0);
    let mix = |a: f64, b: f64| a + (b - a) * share;
    Point::new(mix(a.point.lat(), b.point.lat()), mix(a.point.lon(), b.point.lon())).unwrap_or(a.point)
}

/// A position as the frame carries it: the counting rule must see what the server sees.
pub(crate) fn as_sent(way: &[Point]) -> Vec<Point> {
    let cut = |degrees: f64| (degrees * 1e6).round() / 1e6;
    way.iter().map(|p| Point::new(cut(p.lat()), cut(p.lon())).unwrap_or(*p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cima::geo::distance_m;

    #[test]
    fn people_start_at_different_places_and_move() {
        let tracks = Tracks::read(&[]).unwrap();
        let way = |n| tracks.way(n, 10, 60, Duration::from_secs(1));
        assert!(distance_m(way(0)[0], way(5)[0]) > 500.0);
        assert!((0..10).all(|n| way(n).len() == 60));
        assert!(distance_m(way(3)[0], way(3)[59]) > 50.0);
    }
}
