//! Reading a fix as phones write it. A place that can be used is kept: what stands beside it and cannot be used is left out
//! and named in a [`Note`].

use super::Point;
use super::fix::{ANYWHERE_M, Fix, FixRefusal, MAX_SEQ, unnumbered};
use super::note::Note;
use crate::clock::Timestamp;
use crate::json::{Members, whole};
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// How far ahead of the server's clock a fix may be.
const MAX_AHEAD: Duration = Duration::from_secs(120);
/// A time that is a number of seconds or of milliseconds is believed if it is not older.
const CERTAIN: Duration = Duration::from_secs(24 * 3600);
/// What may stand beside a place, with what it can be.
const SIDES: [(&str, f64, f64); 5] = [
    ("accuracy_m", 0.0, 20_040_000.0),
    ("altitude_m", -12_000.0, 1_000_000.0),
    ("speed_mps", 0.0, 12_000.0),
    ("course_deg", 0.0, 360.0),
    ("battery", 0.0, 1.0),
];
/// Unknown members of a fix that are named.
const NAMED: usize = 8;

/// A fix as a phone writes it, before anything is checked. Members that are not listed here are ignored and named in `notes`.
#[derive(Clone, utoipa::ToSchema)]
#[schema(as = FixIn)]
pub struct RawFix {
    /// Per device, ascending, gaps legal, 1..2^53-1. Over HTTP it may be missing: then a fix of the same time and place is the
    /// same.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub seq: Option<i64>,
    /// Degrees north, WGS 84.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Degrees east, WGS 84.
    #[schema(minimum = -180, maximum = 180)]
    pub lon: f64,
    /// When the phone took the fix.
    pub fixed_at: Timestamp,
    /// Radius of the 68 % circle, metres. A negative one says that the place is not valid, as iOS writes it: refused.
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
    /// What was left out when it was read.
    #[schema(ignore)]
    notes: Vec<Note>,
}

/// The members that a fix has, and no others: read in one pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    seq: Option<i64>,
    lat: f64,
    lon: f64,
    fixed_at: Timestamp,
    accuracy_m: Option<f64>,
    altitude_m: Option<f64>,
    speed_mps: Option<f64>,
    course_deg: Option<f64>,
    battery: Option<f64>,
}

impl<'de> Deserialize<'de> for RawFix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Exact { seq, lat, lon, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery } =
            Exact::deserialize(d)?;
        Ok(Self {
            seq,
            lat,
            lon,
            fixed_at,
            accuracy_m,
            altitude_m,
            speed_mps,
            course_deg,
            battery,
            notes: Vec::new(),
        })
    }
}

/// On which terms a fix is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The server's time.
    pub now: Timestamp,
    /// How long the person's fixes are kept.
    pub retention: Duration,
    /// An emergency of theirs is open: neither a time nor a number refuses a place.
    pub at_any_time: bool,
    /// It may lack a number.
    pub may_lack_number: bool,
}

/// A fix that can be used, and what was left out of it.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadFix {
    /// The fix.
    pub fix: Fix,
    /// What was left out, or replaced.
    pub notes: Vec<Note>,
}

/// A place that was kept whatever else was wrong.
#[derive(Clone, PartialEq, Debug)]
pub struct Salvaged {
    /// The fix.
    pub fix: Fix,
    /// Whether it has a number and a time of its own, and is valid by its own word: only then that of a raise belongs into the
    /// track.
    pub numbered: bool,
    /// It says of itself that its place is not valid.
    pub is_doubtful: bool,
    /// What was left out, or replaced.
    pub notes: Vec<Note>,
}

impl RawFix {
    /// Reads one fix. Its place and its time have to be there, of their types, and its number if it has one; nothing else refuses
    /// it.
    ///
    /// # Errors
    /// [`FixRefusal::NotFinite`] for a number that no float holds (`1e999`), [`FixRefusal::Invalid`] for the rest.
    pub fn read(json: &str) -> Result<Self, FixRefusal> {
        if let Ok(fix) = serde_json::from_str(json) {
            return Ok(fix);
        }
        let members = Members::read(json).ok_or(FixRefusal::Invalid)?;
        let needed = |name| members.get(name).ok().flatten().ok_or(FixRefusal::Invalid);
        let fixed_at = serde_json::from_str(needed("fixed_at")?).map_err(|_| FixRefusal::Invalid)?;
        let seq = match members.get("seq") {
            Ok(None) => None,
            Ok(Some(seq)) => Some(whole(seq).ok_or(FixRefusal::Invalid)?),
            Err(_) => return Err(FixRefusal::Invalid),
        };
        let (lat, lon) = (number(needed("lat")?)?, number(needed("lon")?)?);
        let Beside { values: [accuracy_m, altitude_m, speed_mps, course_deg, battery], notes } =
            beside(&members);
        Ok(Self { seq, lat, lon, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery, notes })
    }

    /// The number of a fix that cannot be read otherwise.
    pub fn number_in(json: &str) -> Option<i64> {
        whole(Members::read(json)?.get("seq").ok().flatten()?)
    }

    /// The fix, if it can be taken on these terms. A time that cannot be true is replaced by `now` if no time refuses it.
    ///
    /// # Errors
    /// The first reason why it cannot be taken.
    pub fn check(self, terms: &Terms) -> Result<ReadFix, FixRefusal> {
        let at = self.fixed_at;
        let mut read = self.place(terms)?;
        if let Some(refusal) = wrong_time(at, terms.now, terms.retention) {
            if !terms.at_any_time {
                return Err(refusal);
            }
            read.fix.fixed_at = terms.now;
            read.notes.push(Note::of("fixed_at", refusal.code()));
        }
        Ok(read)
    }

    /// All but the time.
    fn place(self, terms: &Terms) -> Result<ReadFix, FixRefusal> {
        if !self.lat.is_finite() || !self.lon.is_finite() {
            return Err(FixRefusal::NotFinite);
        }
        let point = Point::new(self.lat, self.lon).ok_or(FixRefusal::OutOfRange)?;
        if self.accuracy_m.is_some_and(|m| m < 0.0) {
            return Err(FixRefusal::OutOfRange);
        }
        let mut notes = self.notes;
        let number = match self.seq {
            Some(seq) if (1..=MAX_SEQ).contains(&seq) => Some(seq),
            Some(_) if terms.at_any_time => {
                notes.push(Note::of("seq", FixRefusal::OutOfRange.code()));
                None
            }
            Some(_) => return Err(FixRefusal::OutOfRange),
            None if terms.at_any_time || terms.may_lack_number => None,
            None => return Err(FixRefusal::Invalid),
        };
        let given = [self.accuracy_m, self.altitude_m, self.speed_mps, self.course_deg, self.battery];
        let [accuracy_m, altitude_m, speed_mps, course_deg, battery] = in_range(given, &mut notes);
        let fixed_at = self.fixed_at;
        let seq = number.unwrap_or_else(|| unnumbered(fixed_at, point, ""));
        let fix = Fix { seq, point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery };
        Ok(ReadFix { fix, notes })
    }
}

/// A fix that can be taken on these terms, of one that was read or of what it was read from.
///
/// # Errors
/// The first reason why it cannot be taken.
pub fn checked(read: Result<RawFix, (FixRefusal, &str)>, terms: &Terms) -> Result<ReadFix, FixRefusal> {
    match read {
        Ok(raw) => raw.check(terms),
        Err((refusal, json)) if terms.at_any_time => match salvage(json, terms.now, terms.retention) {
            Ok(Salvaged { fix, is_doubtful: false, notes, .. }) => Ok(ReadFix { fix, notes }),
            _ => Err(refusal),
        },
        Err((refusal, _)) => Err(refusal),
    }
}

/// The place of somebody who raises, or whose emergency is open, whatever else is wrong with it. A time that cannot be used is
/// replaced by `now`: where a person in danger is matters more than its form.
///
/// # Errors
/// When there is no place.
pub fn salvage(json: &str, now: Timestamp, retention: Duration) -> Result<Salvaged, FixRefusal> {
    let members = Members::read(json).ok_or(FixRefusal::Invalid)?;
    let degrees = |name| match members.get(name) {
        // A number as text is still that number.
        Ok(Some(text)) => number(text.trim_matches('"').trim()),
        _ => Err(FixRefusal::Invalid),
    };
    let point = Point::new(degrees("lat")?, degrees("lon")?).ok_or(FixRefusal::OutOfRange)?;
    let Beside { values, mut notes } = beside(&members);
    let is_doubtful = values[0].is_some_and(|accuracy| accuracy < 0.0);
    let [mut accuracy_m, altitude_m, speed_mps, course_deg, battery] = in_range(values, &mut notes);
    if is_doubtful {
        accuracy_m = Some(ANYWHERE_M);
        notes.retain(|note| note.field != "accuracy_m");
        notes.push(Note::of("accuracy_m", "place_not_valid"));
    }
    let seq = match members.get("seq") {
        Ok(None) => None,
        Ok(Some(text)) => {
            let seq = whole(text).filter(|seq| (1..=MAX_SEQ).contains(seq));
            if seq.is_none() {
                notes.push(Note::of(
                    "seq",
                    if whole(text).is_some() { "out_of_range" } else { "not_a_number" },
                ));
            }
            seq
        }
        Err(_) => {
            notes.push(Note::of("seq", "twice"));
            None
        }
    };
    let given_at = members.get("fixed_at").ok().flatten();
    let fixed_at = match given_at.map(|text| time(text, now, retention)) {
        None => now,
        Some((at, note)) => {
            notes.extend(note.map(|code| Note::of("fixed_at", code)));
            at.unwrap_or(now)
        }
    };
    let numbered = seq.is_some() && given_at.is_some() && !is_doubtful;
    let seq = seq.unwrap_or_else(|| match given_at {
        None => unnumbered(now, point, ""),
        Some(text) => match serde_json::from_str::<Timestamp>(text) {
            Ok(at) => unnumbered(at, point, ""),
            Err(_) => unnumbered(Timestamp::from_unix_ms(0), point, text),
        },
    });
    let fix = Fix { seq, point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery };
    Ok(Salvaged { fix, numbered, is_doubtful, notes })
}

/// A time as it is written, if it can be true, and what was wrong with it.
fn time(text: &str, now: Timestamp, retention: Duration) -> (Option<Timestamp>, Option<&'static str>) {
    if let Ok(at) = serde_json::from_str::<Timestamp>(text) {
        return match wrong_time(at, now, retention) {
            None => (Some(at), None),
            Some(refusal) => (None, Some(refusal.code())),
        };
    }
    // Seconds or milliseconds of Unix time, if that is lately: then the meaning is certain.
    let number = text.trim_matches('"').trim();
    let unix = number.parse::<f64>().ok().filter(|n| n.is_finite() && n.abs() < 1e15);
    let lately = unix.into_iter().flat_map(|n| [n, n * 1000.0]).map(|ms| Timestamp::from_unix_ms(ms as i64));
    match lately.into_iter().find(|at| wrong_time(*at, now, CERTAIN).is_none()) {
        Some(at) => (Some(at), Some("converted")),
        None => (None, Some("unreadable")),
    }
}

fn wrong_time(at: Timestamp, now: Timestamp, retention: Duration) -> Option<FixRefusal> {
    if at > now + MAX_AHEAD {
        Some(FixRefusal::InFuture)
    } else if at < now - retention {
        Some(FixRefusal::TooOld)
    } else {
        None
    }
}

fn number(text: &str) -> Result<f64, FixRefusal> {
    match serde_json::from_str(text) {
        Ok(number) => Ok(number),
        Err(error) if error.to_string().starts_with("number out of range") => Err(FixRefusal::NotFinite),
        Err(_) => Err(FixRefusal::Invalid),
    }
}

/// What stands beside a place, in the order of [`SIDES`].
struct Beside {
    values: [Option<f64>; SIDES.len()],
    notes: Vec<Note>,
}

/// Reads what stands beside a place; what is not of its type is left out.
fn beside(members: &Members<'_>) -> Beside {
    let mut notes = Vec::new();
    let values = SIDES.map(|(name, ..)| match members.get(name) {
        Ok(None) => None,
        Ok(Some(text)) => number(text)
            .map_err(|refusal| {
                let code = if refusal == FixRefusal::NotFinite { refusal.code() } else { "not_a_number" };
                notes.push(Note::of(name, code));
            })
            .ok(),
        Err(_) => {
            notes.push(Note::of(name, "twice"));
            None
        }
    });
    let known = |name: &str| {
        ["seq", "lat", "lon", "fixed_at"].contains(&name) || SIDES.iter().any(|(side, ..)| *side == name)
    };
    let unknown = members.iter().filter(|(name, value)| !known(name) && *value != "null").take(NAMED);
    notes.extend(unknown.map(|(name, _)| Note::unknown(name)));
    Beside { values, notes }
}

/// What can be true of what stands beside a place; the rest is left out. A negative speed or course means that it is not
/// known, which is no fault.
fn in_range(given: [Option<f64>; SIDES.len()], notes: &mut Vec<Note>) -> [Option<f64>; SIDES.len()] {
    let mut kept = given;
    for (value, (name, low, high)) in kept.iter_mut().zip(SIDES) {
        let Some(number) = *value else { continue };
        if (low..=high).contains(&number) {
            continue;
        }
        *value = None;
        let is_unknown = number < 0.0 && ["speed_mps", "course_deg"].contains(&name);
        if !is_unknown {
            notes.push(Note::of(name, FixRefusal::OutOfRange.code()));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2027-01-15T08:00:00Z.
    const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);
    const KEPT: Duration = Duration::from_secs(3 * 86_400);

    fn with(members: &str) -> String {
        format!(r#"{{"seq":5,"lat":48.2,"lon":16.37,"fixed_at":"2027-01-15T07:59:30Z"{members}}}"#)
    }
    const TERMS: Terms = Terms { now: NOW, retention: KEPT, at_any_time: false, may_lack_number: false };
    const IN_AN_EMERGENCY: Terms = Terms { at_any_time: true, ..TERMS };

    fn read(json: &str) -> Result<ReadFix, FixRefusal> {
        RawFix::read(json)?.check(&TERMS)
    }
    fn code(json: &str) -> Option<&'static str> {
        read(json).err().map(FixRefusal::code)
    }
    fn named(notes: &[Note]) -> Vec<(&str, &str)> {
        notes.iter().map(|note| (&*note.field, note.code)).collect()
    }

    #[test]
    fn no_side_value_costs_the_place_and_each_that_is_left_out_is_named() {
        for (members, field, code) in [
            (r#","battery":-1"#, "battery", "out_of_range"),
            (r#","battery":62"#, "battery", "out_of_range"),
            (r#","battery":"full""#, "battery", "not_a_number"),
            (r#","battery":1e999"#, "battery", "not_finite"),
            (r#","battery":0.5,"battery":0.6"#, "battery", "twice"),
            (r#","course_deg":361"#, "course_deg", "out_of_range"),
            (r#","altitude_m":-20000"#, "altitude_m", "out_of_range"),
            (r#","accuracy_m":1e9"#, "accuracy_m", "out_of_range"),
            (r#","provider":"gps""#, "provider", "unknown"),
        ] {
            let read = read(&with(members)).unwrap();
            assert_eq!(named(&read.notes), [(field, code)], "{members}");
            assert_eq!((read.fix.battery, read.fix.course_deg), (None, None));
        }
        let unknown = read(&with(r#","speed_mps":-1,"course_deg":-1,"battery":null"#)).unwrap();
        assert_eq!((unknown.notes, unknown.fix.speed_mps), (vec![], None));
        let all = read(&with(r#","accuracy_m":5,"course_deg":360.0,"battery":1"#)).unwrap();
        assert_eq!(
            (all.fix.accuracy_m, all.fix.course_deg, all.fix.battery),
            (Some(5.0), Some(360.0), Some(1.0))
        );
    }

    #[test]
    fn place_number_and_time_have_to_be_right() {
        assert_eq!(code(&with("")), None);
        let place = |lat: &str, lon: &str| with("").replace("48.2", lat).replace("16.37", lon);
        assert_eq!(code(&place("91", "1")), Some("out_of_range"));
        assert_eq!(code(&place("1", "-180.1")), Some("out_of_range"));
        assert_eq!(code(&place("1e999", "1")), Some("not_finite"));
        assert_eq!(code(&place("\"48.2\"", "1")), Some("invalid_fix"));
        assert_eq!(code(&place("48.2,\"lat\":48.3", "1")), Some("invalid_fix"));
        assert_eq!(code(&with(r#","accuracy_m":-1"#)), Some("out_of_range"));
        let seq = |seq: &str| with("").replacen('5', seq, 1);
        assert_eq!((code(&seq("5.0")), code(&seq("5e0"))), (None, None));
        assert_eq!(
            (code(&seq("0")), code(&seq("9007199254740992"))),
            (Some("out_of_range"), Some("out_of_range"))
        );
        assert_eq!(code(&seq("5.5")), Some("invalid_fix"));
        let at = |at: &str| with("").replace("2027-01-15T07:59:30Z", at);
        assert_eq!(code(&at("2027-01-15T08:02:01Z")), Some("in_future"));
        assert_eq!(code(&at("2027-01-12T07:59:59Z")), Some("too_old"));
        assert_eq!(code(&at("yesterday")), Some("invalid_fix"));
        assert_eq!(code(r#"{"seq":1,"lat":1,"lon":1}"#), Some("invalid_fix"));
    }

    #[test]
    fn in_an_emergency_a_place_is_kept_with_any_time() {
        let late = with("").replace("2027", "2570");
        let read = RawFix::read(&late).unwrap().check(&IN_AN_EMERGENCY).unwrap();
        assert_eq!((read.fix.fixed_at, named(&read.notes)), (NOW, vec![("fixed_at", "in_future")]));
        let right = RawFix::read(&with("")).unwrap().check(&IN_AN_EMERGENCY).unwrap();
        assert_eq!((right.fix.fixed_at, right.notes), (NOW - Duration::from_secs(30), vec![]));
    }

    #[test]
    fn a_fix_without_a_number_is_known_by_its_time_and_place() {
        let without = |members: &str| with(members).replace("\"seq\":5,", "");
        assert_eq!(code(&without("")), Some("invalid_fix"), "on the stream it has one");
        let over_http = Terms { may_lack_number: true, ..TERMS };
        let taken = |json: &str| RawFix::read(json)?.check(&over_http).map(|read| read.fix);
        let fix = taken(&without("")).unwrap();
        assert_eq!((fix.number(), taken(&without(r#","battery":0.5"#)).unwrap().seq), (None, fix.seq));
        let elsewhere = taken(&without("").replace("48.2", "48.3")).unwrap();
        let later = taken(&without("").replace("07:59:30", "07:59:31")).unwrap();
        assert!(elsewhere.seq != fix.seq && later.seq > fix.seq.max(elsewhere.seq) && later.seq < 0);
        assert_eq!(taken(&with("").replace('5', "0")), Err(FixRefusal::OutOfRange));
        assert_eq!(serde_json::to_value(&fix).unwrap().get("seq"), None);

        for number in ["0", "-1", "1784803200000000000", "\"7\"", "null", "[]"] {
            let json = with("").replacen('5', number, 1);
            let read = RawFix::read(&json).map_err(|refusal| (refusal, &*json));
            let kept = checked(read, &IN_AN_EMERGENCY).unwrap().fix;
            assert_eq!((kept.seq, kept.fixed_at), (fix.seq, fix.fixed_at), "{number}");
        }
        let read = |members: &str| {
            let json = format!(r#"{{"lat":48.3,"lon":16.5{members}}}"#);
            let read = RawFix::read(&json).map_err(|refusal| (refusal, &*json));
            checked(read, &IN_AN_EMERGENCY).map(|read| (read.fix.seq, read.fix.fixed_at))
        };
        assert_eq!(read(""), read(r#","fixed_at":null"#));
        let unread = read(r#","fixed_at":"at noon""#).unwrap();
        assert!(unread.1 == NOW && unread != read(r#","fixed_at":"at one""#).unwrap());
        assert_eq!(read(r#","accuracy_m":-1"#), Err(FixRefusal::Invalid), "it is not where the phone is");
    }

    #[test]
    fn a_raise_keeps_its_place_whatever_else_is_wrong() {
        let kept = |members: &str| {
            let json = format!(r#"{{"lat":48.3,"lon":16.5{members}}}"#);
            let read = salvage(&json, NOW, KEPT).unwrap();
            assert_eq!((read.fix.point.lat(), read.fix.point.lon()), (48.3, 16.5), "{members}");
            read
        };
        for (members, at, note) in [
            ("", NOW, None),
            (r#","seq":0"#, NOW, Some(("seq", "out_of_range"))),
            (r#","seq":1784803200000000000"#, NOW, Some(("seq", "out_of_range"))),
            (r#","fixed_at":"2027-01-15T08:03:00Z""#, NOW, Some(("fixed_at", "in_future"))),
            (r#","fixed_at":"2570-01-15T08:00:00Z""#, NOW, Some(("fixed_at", "in_future"))),
            (r#","fixed_at":"2007-06-01T08:00:00Z""#, NOW, Some(("fixed_at", "too_old"))),
            (r#","fixed_at":"2027-01-15T08:00:00""#, NOW, Some(("fixed_at", "unreadable"))),
            (r#","fixed_at":1799999990"#, NOW - Duration::from_secs(10), Some(("fixed_at", "converted"))),
            (r#","fixed_at":1799999990000"#, NOW - Duration::from_secs(10), Some(("fixed_at", "converted"))),
            (r#","fixed_at":"1799999990""#, NOW - Duration::from_secs(10), Some(("fixed_at", "converted"))),
            (r#","accuracy_m":-1"#, NOW, Some(("accuracy_m", "place_not_valid"))),
            (r#","fixed_at":{}"#, NOW, Some(("fixed_at", "unreadable"))),
        ] {
            let read = kept(members);
            assert_eq!(
                (read.fix.fixed_at, named(&read.notes)),
                (at, note.into_iter().collect()),
                "{members}"
            );
            assert!(!read.numbered, "{members}");
        }
        assert!(kept(r#","seq":7,"fixed_at":"2027-01-15T07:59:00Z""#).numbered);
        assert!(
            kept(r#","accuracy_m":-1"#).fix.is_doubtful() && !kept(r#","accuracy_m":5"#).fix.is_doubtful()
        );
        let as_text = salvage(r#"{"lat":"48.3","lon":" 16.5 "}"#, NOW, KEPT).unwrap();
        assert_eq!((as_text.fix.point.lat(), as_text.fix.point.lon()), (48.3, 16.5));
        let refused = |json: &str| salvage(json, NOW, KEPT).err().map(FixRefusal::code);
        assert_eq!(refused(r#"{"lat":91,"lon":1}"#), Some("out_of_range"));
        assert_eq!(refused(r#"{"lat":"north"}"#), Some("invalid_fix"));
        assert_eq!(refused("[48.3,16.5]"), Some("invalid_fix"));
    }

    #[test]
    fn a_fix_prints_no_coordinate() {
        let fix = read(&with("")).unwrap().fix;
        assert_eq!(format!("{fix:?} {:?}", fix.point), "Fix(..) Point(..)");
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            let _ = (RawFix::read(&text), salvage(&text, NOW, KEPT), RawFix::number_in(&text));
        }
    }
}
