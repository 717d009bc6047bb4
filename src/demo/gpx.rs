//! Reading a recorded track from GPX 1.1.

use crate::clock::Timestamp;
use crate::geo::Point;
use anyhow::{Context, bail};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::time::Duration;

/// One recorded point: where, and how long after the first.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Where.
    pub point: Point,
    /// After the first point.
    pub after: Duration,
}

/// Reads the points of all tracks that have a time, in the order of time.
///
/// # Errors
/// When it is not GPX or has no timed points.
pub fn read(xml: &str) -> anyhow::Result<Vec<Recorded>> {
    let mut reader = Reader::from_str(xml);
    let (mut timed, mut at, mut in_time) = (Vec::new(), None, false);
    loop {
        match reader.read_event().context("not GPX")? {
            Event::Start(tag) if tag.local_name().as_ref() == "trkpt" => {
                let number = |name: &str| -> Option<f64> {
                    let attribute = tag.try_get_attribute(name).ok()??;
                    attribute.value.parse().ok()
                };
                at = number("lat").zip(number("lon")).and_then(|(lat, lon)| Point::new(lat, lon));
            }
            Event::Start(tag) if tag.local_name().as_ref() == "time" => in_time = true,
            Event::End(tag) if tag.local_name().as_ref() == "time" => in_time = false,
            Event::Text(text) if in_time => {
                if let (Some(point), Ok(time)) = (at.take(), Timestamp::parse(&text)) {
                    timed.push((time, point));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    timed.sort_by_key(|(time, _)| *time);
    timed.dedup_by_key(|(time, _)| *time);
    let Some((start, _)) = timed.first().copied() else { bail!("the track has no points with a time") };
    Ok(timed.into_iter().map(|(time, point)| Recorded { point, after: time.since(start) }).collect())
}
