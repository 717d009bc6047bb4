//! A fix: one reading of a phone's position, refused here when it cannot be true.

use super::Point;
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The largest `seq`: what a JavaScript number holds exactly.
pub const MAX_SEQ: i64 = (1 << 53) - 1;
/// How far ahead of the server's clock a fix may be.
const MAX_AHEAD: Duration = Duration::from_secs(120);

/// A fix as a phone writes it, before anything is checked.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FixIn)]
pub struct RawFix {
    /// Per device, ascending, gaps legal, 1..2^53-1.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub seq: i64,
    /// Degrees north, WGS 84.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Degrees east, WGS 84.
    #[schema(minimum = -180, maximum = 180)]
    pub lon: f64,
    /// When the phone took the fix.
    pub fixed_at: Timestamp,
    /// Radius of the 68 % circle, metres.
    #[schema(minimum = 0)]
    pub accuracy_m: Option<f64>,
    /// Above the ellipsoid, metres.
    pub altitude_m: Option<f64>,
    /// Metres per second; a negative one means unknown, as iOS writes it.
    pub speed_mps: Option<f64>,
    /// Degrees from north, clockwise; a negative one means unknown, as iOS writes it.
    #[schema(maximum = 360)]
    pub course_deg: Option<f64>,
    /// Charge of the phone's battery, 0..1.
    #[schema(minimum = 0, maximum = 1)]
    pub battery: Option<f64>,
}

/// One believable reading of a phone's position. Identity is (device, `seq`); order is (`fixed_at`, `seq`).
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fix {
    /// The phone's own number of this fix.
    pub seq: i64,
    /// Where.
    #[serde(flatten)]
    pub point: Point,
    /// When, by the phone's clock.
    pub fixed_at: Timestamp,
    /// Radius of the 68 % circle, metres.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accuracy_m: Option<f64>,
    /// Above the ellipsoid, metres.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub altitude_m: Option<f64>,
    /// Metres per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_mps: Option<f64>,
    /// Degrees from north, clockwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub course_deg: Option<f64>,
    /// Charge of the phone's battery, 0..1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub battery: Option<f64>,
}

/// Why a fix was refused; the code a phone is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FixRefusal {
    /// A value outside what it can be on this earth.
    OutOfRange,
    /// A number that JSON can write and a float cannot hold.
    NotFinite,
    /// More than two minutes ahead of the server's clock.
    InFuture,
    /// Older than the person's fixes are kept.
    TooOld,
    /// This `seq` was already used with another time.
    SeqConflict,
    /// Not a fix: a field is missing, of another type or unknown.
    Invalid,
}

impl FixRefusal {
    /// The stable word for it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OutOfRange => "out_of_range",
            Self::NotFinite => "not_finite",
            Self::InFuture => "in_future",
            Self::TooOld => "too_old",
            Self::SeqConflict => "seq_conflict",
            Self::Invalid => "invalid_fix",
        }
    }
}

impl RawFix {
    /// Reads one fix leniently enough to say which kind of wrong it is.
    ///
    /// # Errors
    /// [`FixRefusal::NotFinite`] for a number no float holds (`1e999`), [`FixRefusal::Invalid`] for the rest.
    pub fn read(json: &str) -> Result<Self, FixRefusal> {
        serde_json::from_str(json).map_err(|e| {
            if e.to_string().starts_with("number out of range") {
                FixRefusal::NotFinite
            } else {
                FixRefusal::Invalid
            }
        })
    }

    /// The fix, if it can be true at `now` for fixes that are kept for `retention`.
    ///
    /// # Errors
    /// The first reason why it cannot.
    pub fn check(self, now: Timestamp, retention: Duration) -> Result<Fix, FixRefusal> {
        let numbers = [
            Some(self.lat),
            Some(self.lon),
            self.accuracy_m,
            self.altitude_m,
            self.speed_mps,
            self.course_deg,
            self.battery,
        ];
        if numbers.iter().flatten().any(|n| !n.is_finite()) {
            return Err(FixRefusal::NotFinite);
        }
        let known = |n: Option<f64>| n.filter(|n| *n >= 0.0);
        let within = |n: Option<f64>, low: f64, high: f64| n.is_none_or(|n| (low..=high).contains(&n));
        let fix = Fix {
            seq: self.seq,
            point: Point::new(self.lat, self.lon).ok_or(FixRefusal::OutOfRange)?,
            fixed_at: self.fixed_at,
            accuracy_m: self.accuracy_m,
            altitude_m: self.altitude_m,
            speed_mps: known(self.speed_mps),
            course_deg: known(self.course_deg),
            battery: self.battery,
        };
        let in_range = (1..=MAX_SEQ).contains(&fix.seq)
            && within(fix.accuracy_m, 0.0, 20_040_000.0)
            && within(fix.altitude_m, -12_000.0, 1_000_000.0)
            && within(fix.speed_mps, 0.0, 12_000.0)
            && within(fix.course_deg, 0.0, 360.0)
            && within(fix.battery, 0.0, 1.0);
        if !in_range {
            return Err(FixRefusal::OutOfRange);
        }
        if fix.fixed_at > now + MAX_AHEAD {
            return Err(FixRefusal::InFuture);
        }
        if fix.fixed_at < now - retention {
            return Err(FixRefusal::TooOld);
        }
        Ok(fix)
    }
}

impl Fix {
    /// Its place in event time: fixes are folded in this order.
    pub fn order(&self) -> (Timestamp, i64) {
        (self.fixed_at, self.seq)
    }
}

impl fmt::Debug for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fix(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn refusal(edit: impl FnOnce(&mut RawFix)) -> Option<&'static str> {
        let mut raw = RawFix {
            seq: 1,
            lat: 48.2,
            lon: 16.37,
            fixed_at: NOW,
            accuracy_m: Some(5.0),
            altitude_m: None,
            speed_mps: Some(-1.0),
            course_deg: Some(-1.0),
            battery: Some(0.5),
        };
        edit(&mut raw);
        raw.check(NOW, Duration::from_secs(3600)).err().map(FixRefusal::code)
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_its_code() {
        assert_eq!(refusal(|_| ()), None);
        assert_eq!(refusal(|f| f.lat = 91.0), Some("out_of_range"));
        assert_eq!(refusal(|f| f.lon = -180.1), Some("out_of_range"));
        assert_eq!(refusal(|f| f.lat = f64::NAN), Some("not_finite"));
        assert_eq!(refusal(|f| f.battery = Some(1.1)), Some("out_of_range"));
        assert_eq!(refusal(|f| f.accuracy_m = Some(-1.0)), Some("out_of_range"));
        assert_eq!(refusal(|f| f.seq = 0), Some("out_of_range"));
        assert_eq!(refusal(|f| f.seq = MAX_SEQ + 1), Some("out_of_range"));
        assert_eq!(refusal(|f| f.fixed_at = NOW + Duration::from_secs(121)), Some("in_future"));
        assert_eq!(refusal(|f| f.fixed_at = NOW - Duration::from_secs(3601)), Some("too_old"));
    }

    #[test]
    fn unreadable_fixes_say_how() {
        let read = |json: &str| RawFix::read(json).err().map(FixRefusal::code);
        assert_eq!(
            read(r#"{"seq":1,"lat":1e999,"lon":1,"fixed_at":"2026-01-01T00:00:00Z"}"#),
            Some("not_finite")
        );
        assert_eq!(
            read(r#"{"seq":1,"lat":"x","lon":1,"fixed_at":"2026-01-01T00:00:00Z"}"#),
            Some("invalid_fix")
        );
        assert_eq!(
            read(r#"{"seq":1,"lat":1,"lon":1,"fixed_at":"2026-01-01T00:00:00Z","z":1}"#),
            Some("invalid_fix")
        );
        assert_eq!(read(r#"{"seq":1,"lat":1,"lon":1,"fixed_at":"2026-01-01T00:00:00Z"}"#), None);
    }

    #[test]
    fn a_fix_prints_no_coordinate() {
        let raw =
            RawFix::read(r#"{"seq":1,"lat":48.25,"lon":16.5,"fixed_at":"2027-01-15T08:00:00Z"}"#).unwrap();
        let fix = raw.check(NOW, Duration::from_secs(3600)).unwrap();
        assert_eq!(format!("{fix:?} {:?}", fix.point), "Fix(..) Point(..)");
    }
}
