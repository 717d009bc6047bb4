//! Who plays in the demo, on which track, and what they do on the way.

use super::fences::{OnTheWay, place};
use super::gpx::{self, Recorded};
use std::time::Duration;

const RIDE: &str = include_str!("../../data/tracks/los-angeles-ride.gpx");
const RUN: &str = include_str!("../../data/tracks/los-angeles-run.gpx");
const DRIVE: &str = include_str!("../../data/tracks/visnjan-drive.gpx");

/// Something a person does at a fix of their track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Presses SOS.
    Sos,
    /// Ends whatever emergency is open.
    Safe,
}

/// A check-in that a person sets at the start and then forgets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgotten {
    pub(super) due: Duration,
    pub(super) grace: Duration,
}

/// One person who moves.
pub(super) struct Mover {
    pub(super) name: &'static str,
    pub(super) track: Vec<Recorded>,
    pub(super) fences: Vec<OnTheWay>,
    /// (index of the fix, what is done there), in order.
    pub(super) script: Vec<(usize, Act)>,
    pub(super) check_in: Option<Forgotten>,
}

impl Mover {
    /// What the person signs in as.
    pub(super) fn handle(&self) -> String {
        format!("{}.demo", self.name.to_lowercase())
    }
    /// How long the track takes.
    pub(super) fn length(&self) -> Duration {
        self.track.last().map(|r| r.after).unwrap_or_default()
    }
    /// Emergencies that this person's contact has to hear of.
    pub(super) fn emergencies(&self) -> usize {
        usize::from(self.check_in.is_some()) + self.script.iter().filter(|(_, act)| *act == Act::Sos).count()
    }
}

/// Ada rides and presses SOS in the middle; Cleo runs; Mia drives and forgets her check-in.
///
/// # Errors
/// When a track cannot be read or has no place for a fence.
pub(super) fn cast() -> anyhow::Result<Vec<Mover>> {
    let (ride, run, drive) = (gpx::read(RIDE)?, gpx::read(RUN)?, gpx::read(DRIVE)?);
    let at = |track: &[Recorded], share: f64| (track.len() as f64 * share) as usize;
    let ada = Mover {
        name: "Ada",
        fences: fences(&ride, &[("the school", 0.2), ("the station", 0.65)]),
        script: vec![(at(&ride, 0.45), Act::Sos), (at(&ride, 0.55), Act::Safe)],
        track: ride,
        check_in: None,
    };
    let cleo = Mover {
        name: "Cleo",
        fences: fences(&run, &[("the park", 0.25), ("home", 0.6)]),
        script: Vec::new(),
        track: run,
        check_in: None,
    };
    let length = drive.last().map(|r| r.after).unwrap_or_default();
    let mia = Mover {
        name: "Mia",
        fences: fences(&drive, &[("the church", 0.3)]),
        script: vec![(at(&drive, 0.9), Act::Safe)],
        track: drive,
        check_in: Some(Forgotten { due: length.mul_f64(0.4), grace: length.mul_f64(0.15) }),
    };
    Ok(vec![ada, cleo, mia])
}

fn fences(track: &[Recorded], wanted: &[(&'static str, f64)]) -> Vec<OnTheWay> {
    wanted.iter().filter_map(|(name, share)| place(track, name, *share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_track_has_room_for_its_fences() {
        let fences: Vec<usize> = cast().unwrap().iter().map(|m| m.fences.len()).collect();
        assert_eq!(fences, [2, 2, 1]);
    }
}
