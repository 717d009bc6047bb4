//! Fences on people's ways, and what they must tell: counted on the positions alone, by a rule that knows nothing of
//! the tracker.

use crate::people::{self, AT_ONCE};
use anyhow::Context;
use cima::client::{Api, Session};
use cima::geo::{Point, distance_m};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

/// One person in so many has a contact and fences.
pub(crate) const WATCHED_EVERY: usize = 10;
/// The radius of a fence on the way, metres.
pub(crate) const RADIUS_M: f64 = 25.0;
/// What a person must be past the edge to have left.
const MARGIN_M: f64 = 20.0;
/// The first fix is at least this far outside, so that the first state is beyond doubt.
const CLEAR_M: f64 = 60.0;

/// A fence on a watched person's way.
pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) person: usize,
    pub(crate) center: Point,
}

/// Two fences for each watched person, one in each half of the way, so that crossings come all the time.
pub(crate) fn gates(ways: &[Vec<Point>]) -> Vec<Gate> {
    let mut gates = Vec::new();
    for person in (0..ways.len()).step_by(WATCHED_EVERY) {
        // The golden ratio spreads any number of people evenly.
        let spread = (person as f64 * 0.618_034).fract();
        for (n, share) in [0.15 + 0.35 * spread, 0.5 + 0.35 * spread].into_iter().enumerate() {
            if let Some(center) = place(&ways[person], share) {
                gates.push(Gate { name: format!("gate {person} {n}"), person, center });
            }
        }
    }
    gates
}

/// Links each watched person to their contact and makes the fences.
pub(crate) async fn trust_and_fences(
    api: &Api,
    phones: &[Session],
    contacts: &[Session],
    gates: &[Gate],
) -> anyhow::Result<()> {
    let links = stream::iter(contacts.iter().enumerate()).map(|(n, contact)| async move {
        let handle = people::handle("contact", n);
        api.link(&phones[n * WATCHED_EVERY], contact, &handle, &["alerts"]).await.map(|_| ())
    });
    links.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let fences = stream::iter(gates).map(|gate| async move {
        let center = [gate.center.lon(), gate.center.lat()];
        let shape = json!({"type": "Circle", "center": center, "radius_m": RADIUS_M});
        let fence = json!({"name": gate.name, "shape": shape, "triggers": ["enter", "exit"]});
        let made = api.post("/v1/geofences", &phones[gate.person].access, fence).await?;
        made.ok().context("fence").map(|_| ())
    });
    fences.buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// A crossing that must be told: at which fix, and as what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Crossing {
    /// The index of the fix.
    pub(crate) fix: usize,
    /// `enter` or `exit`.
    pub(crate) transition: &'static str,
}

/// The crossings of a circle on a way.
pub(crate) fn crossings(way: &[Point], center: Point) -> Vec<Crossing> {
    let mut inside = way.first().is_some_and(|p| distance_m(*p, center) <= RADIUS_M);
    let mut found = Vec::new();
    for (fix, point) in way.iter().enumerate() {
        let apart_m = distance_m(*point, center);
        if !inside && apart_m <= RADIUS_M {
            inside = true;
            found.push(Crossing { fix, transition: "enter" });
        } else if inside && apart_m > RADIUS_M + MARGIN_M {
            inside = false;
            found.push(Crossing { fix, transition: "exit" });
        }
    }
    found
}

/// The centre of a fence that is entered at about `share` of the way or after; `None` if the way stands still there.
pub(crate) fn place(way: &[Point], share: f64) -> Option<Point> {
    let (first, from) = (*way.first()?, (way.len() as f64 * share) as usize);
    way.get(from..)?.iter().copied().find(|center| distance_m(first, *center) > RADIUS_M + CLEAR_M)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracks::{Tracks, as_sent};
    use std::time::Duration;

    #[test]
    fn a_fence_on_the_way_is_entered() {
        let tracks = Tracks::read(&[]).unwrap();
        for n in 0..10 {
            let way = as_sent(&tracks.way(n, 10, 60, Duration::from_secs(1)));
            if let Some(center) = place(&way, 0.3) {
                assert_eq!(crossings(&way, center)[0].transition, "enter");
            }
        }
    }
}
