//! The whole of a track in one answer: device by device, written as it is read.

use super::geojson::{LineProperties, TrackFeature};
use super::gpx;
use crate::clock::Timestamp;
use crate::geo::{Fix, simplified};
use crate::http::Problem;
use crate::http::pieces::Pieces;
use crate::id::{DeviceId, UserId};
use crate::services::Services;
use crate::tracking::{Reading, StoredFix, TrackPage, event_order};
use crate::usecases::positions;
use axum::body::Bytes;

/// Fixes read at a time.
const FIXES: u32 = 1_000;
/// Positions of one line, at most: a longer way goes on in another line, from its last position. A day of a fix each second has
/// 86,400.
const POSITIONS: usize = 100_000;
/// The columns of a CSV file (RFC 4180).
const HEAD: &str =
    "device,seq,fixed_at,received_at,lat,lon,accuracy_m,altitude_m,speed_mps,course_deg,battery\r\n";

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Csv,
    Gpx,
}

impl Form {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/geo+json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Gpx => "application/gpx+xml",
        }
    }
    pub(super) const fn disposition(self) -> &'static str {
        match self {
            Self::Lines => "inline",
            Self::Csv => "attachment; filename=\"track.csv\"",
            Self::Gpx => "attachment; filename=\"track.gpx\"",
        }
    }
}

/// What comes next.
#[derive(Clone, Copy)]
enum Step {
    Open,
    /// The next fixes of the device at this place of the list.
    Device(usize),
    Close,
}

/// A line that is put together.
#[derive(Default)]
struct Line {
    coordinates: Vec<[f64; 2]>,
    times: Vec<Timestamp>,
    fixes: u64,
}

impl Line {
    fn add(&mut self, fix: &Fix) {
        self.coordinates.push([fix.point.lon(), fix.point.lat()]);
        self.times.push(fix.fixed_at);
    }
}

/// A track on its way.
pub(super) struct Whole {
    services: Services,
    viewer: UserId,
    subject: UserId,
    devices: Vec<(DeviceId, String)>,
    /// What is read next of the device that is read.
    page: TrackPage,
    tolerance_m: f64,
    form: Form,
    step: Step,
    /// The last fix of the page before: what comes next goes on from there.
    last: Option<StoredFix>,
    /// A feature was written: before the next stands a comma.
    has_features: bool,
}

impl Whole {
    pub(super) async fn new(
        services: Services,
        (viewer, subject): (UserId, UserId),
        (from, to): (Timestamp, Timestamp),
        reading: Reading,
        tolerance_m: f64,
        form: Form,
    ) -> Result<Self, Problem> {
        let devices = positions::covered_devices(&services, viewer, subject).await?;
        let page = TrackPage { reading, ..TrackPage::between(from, to, None, FIXES) };
        Ok(Self {
            services,
            viewer,
            subject,
            devices,
            page,
            tolerance_m,
            form,
            step: Step::Open,
            last: None,
            has_features: false,
        })
    }

    const fn open(&self) -> &'static str {
        match self.form {
            Form::Lines => "{\"type\":\"FeatureCollection\",\"features\":[",
            Form::Csv => HEAD,
            Form::Gpx => "",
        }
    }

    const fn close(&self) -> &'static str {
        match self.form {
            Form::Lines => "],\"next\":null}",
            Form::Csv => "",
            Form::Gpx => gpx::CLOSE,
        }
    }

    /// The next page of a device: what of it stays, how many it had, and whether there are more.
    async fn read(&mut self, device: DeviceId) -> Result<(Vec<StoredFix>, u64, bool), Problem> {
        // The right to see it is looked up for each page: it may end in between.
        let read = positions::track(&self.services, self.viewer, self.subject, Some(device), self.page).await;
        let (found, more) = read?;
        self.page.after = found.last().map(event_order).or(self.page.after);
        let count = found.len() as u64;
        Ok((self.thinned(found), count, more))
    }

    /// What of the fixes that were read stays.
    fn thinned(&mut self, found: Vec<StoredFix>) -> Vec<StoredFix> {
        let before = self.last.take();
        self.last = found.last().or(before.as_ref()).cloned();
        if self.tolerance_m == 0.0 {
            return found;
        }
        let track = before.iter().chain(&found).map(|stored| (stored.fix.fixed_at, stored.fix.point));
        let stays = simplified(&track.collect::<Vec<_>>(), self.tolerance_m);
        let written = usize::from(before.is_some());
        let mut stays = stays.into_iter().filter(|n| *n >= written).peekable();
        let mut is_kept = |n: usize| stays.next_if_eq(&(n + written)).is_some();
        found.into_iter().enumerate().filter_map(|(n, fix)| is_kept(n).then_some(fix)).collect()
    }

    /// The next device is read from its beginning.
    fn go_to(&mut self, place: usize) {
        (self.page.after, self.last) = (None, None);
        self.step = if place < self.devices.len() { Step::Device(place) } else { Step::Close };
    }

    async fn device(&mut self, place: usize) -> Result<String, Problem> {
        let Some((device, name)) = self.devices.get(place).cloned() else { return Ok(String::new()) };
        let is_first = self.page.after.is_none();
        if self.form == Form::Lines {
            return self.line(place, device, name).await;
        }
        let (fixes, _, more) = self.read(device).await?;
        if !more {
            self.go_to(place + 1);
        }
        Ok(match self.form {
            Form::Gpx => gpx::part(&fixes, is_first.then_some(name.as_str()), !more),
            Form::Csv | Form::Lines => fixes.iter().map(row).collect(),
        })
    }

    /// A line is written when the way is read, or is long.
    async fn line(&mut self, place: usize, device: DeviceId, name: String) -> Result<String, Problem> {
        let mut line = Line::default();
        // A long way goes on where the line before ended.
        self.last.iter().for_each(|before| line.add(&before.fix));
        let more = loop {
            let (fixes, count, more) = self.read(device).await?;
            fixes.iter().for_each(|stored| line.add(&stored.fix));
            line.fixes += count;
            if !more || line.times.len() >= POSITIONS {
                break more;
            }
        };
        if !more {
            self.go_to(place + 1);
        }
        if line.fixes == 0 {
            return Ok(String::new());
        }
        let Line { coordinates, times, fixes } = line;
        let feature = TrackFeature::line(coordinates, LineProperties { device, name, times, fixes });
        let text = serde_json::to_string(&feature).map_err(|error| {
            tracing::error!(%error, "a track could not be written");
            Problem::internal()
        })?;
        let comma = if std::mem::replace(&mut self.has_features, true) { "," } else { "" };
        Ok(format!("{comma}{text}"))
    }
}

impl Pieces for Whole {
    async fn next(mut self) -> Result<(Bytes, Option<Self>), Problem> {
        match self.step {
            Step::Open => {
                let open = if self.form == Form::Gpx { gpx::open() } else { self.open().to_owned() };
                self.go_to(0);
                Ok((open.into(), Some(self)))
            }
            Step::Device(place) => {
                let text = self.device(place).await?;
                Ok((text.into(), Some(self)))
            }
            Step::Close => Ok((Bytes::from_static(self.close().as_bytes()), None)),
        }
    }
}

/// A row of a CSV file. No value of it has a comma, a quote or a line break.
fn row(stored: &StoredFix) -> String {
    let StoredFix { device, fix, received_at } = stored;
    let (lat, lon) = (fix.point.lat(), fix.point.lon());
    let beside = [fix.accuracy_m, fix.altitude_m, fix.speed_mps, fix.course_deg, fix.battery];
    let beside = beside.map(|value| value.map_or_else(String::new, |value| value.to_string())).join(",");
    let seq = fix.number().map_or_else(String::new, |seq| seq.to_string());
    format!("{device},{seq},{},{received_at},{lat},{lon},{beside}\r\n", fix.fixed_at)
}
