//! Time, asked from one place so that a test can replay any day and the demo can run fast.
//!
//! [`Timestamp`] is a moment of the world's clock; [`Monotonic`] only ever grows and is what leases are
//! counted on, because a wall clock may step. The system's wall clock is read when a clock is made; from then on time is
//! carried by the monotonic one, and only [`Clock::set`] moves it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// A moment, in milliseconds of Unix time. Written as RFC 3339 UTC with milliseconds; read from any RFC 3339
/// offset and precision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }
    /// Whole seconds since 1970-01-01T00:00:00Z, as tokens carry them.
    pub const fn unix_s(self) -> i64 {
        self.0.div_euclid(1000)
    }
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
    /// Reads any RFC 3339 time; precision below a millisecond is cut.
    ///
    /// # Errors
    /// When the text is not RFC 3339.
    pub fn parse(text: &str) -> Result<Self, time::error::Parse> {
        if let Some(fast) = parse_utc(text.as_bytes()) {
            return Ok(fast);
        }
        let at = OffsetDateTime::parse(text, &Rfc3339)?;
        Ok(Self(i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX)))
    }
}

/// The common form `YYYY-MM-DDTHH:MM:SS[.fff]Z`, several times faster than the general reader.
fn parse_utc(b: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, to: usize| -> Option<i64> {
        b.get(from..to)?
            .iter()
            .try_fold(0_i64, |sum, c| c.is_ascii_digit().then(|| sum * 10 + i64::from(c - b'0')))
    };
    let marks = b.get(4) == Some(&b'-')
        && b.get(7) == Some(&b'-')
        && b.get(10) == Some(&b'T')
        && b.get(13) == Some(&b':')
        && b.get(16) == Some(&b':');
    let ms = match b.len() {
        20 if b[19] == b'Z' => 0,
        24 if b[19] == b'.' && b[23] == b'Z' => number(20, 23)?,
        _ => return None,
    };
    if !marks {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date =
        time::Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = i64::from(date.to_julian_day()) - 2_440_588;
    Some(Timestamp(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms))
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}
impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000) else {
            return write!(f, "{} ms", self.0);
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(|_| E::custom("not an RFC 3339 time"))
            }
        }
        d.deserialize_str(Text)
    }
}
impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}
impl utoipa::ToSchema for Timestamp {}

/// A reading of a clock that never steps back; the base of leases and heartbeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// Where time comes from: the system, a test's hand, or the system made faster for the demo.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// `base` is the time at `start`, in milliseconds of Unix time.
    Real {
        start: Instant,
        base: AtomicI64,
        factor: f64,
    },
    Manual {
        start: Timestamp,
        passed: watch::Sender<Duration>,
    },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::real(system_now(), 1.0)
    }
    /// A clock that shows `start` now and runs `factor` times as fast as the system's.
    pub fn scaled(start: Timestamp, factor: f64) -> Self {
        Self::real(start, factor)
    }
    fn real(now: Timestamp, factor: f64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
        let start = Instant::now();
        Self(Arc::new(Source::Real { start, base: AtomicI64::new(now.0), factor }))
    }
    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual { start, passed: watch::channel(Duration::ZERO).0 }))
    }
    /// Moves a manual clock forward; any other clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { passed, .. } = &*self.0 {
            passed.send_modify(|sum| *sum += by);
        }
    }
    /// Whether it is to show the world's time; a test's and the demo's are not.
    pub fn follows_the_world(&self) -> bool {
        matches!(&*self.0, Source::Real { factor, .. } if (*factor - 1.0).abs() < f64::EPSILON)
    }
    /// Makes it show this now; a clock in a test's hand ignores it.
    pub fn set(&self, now: Timestamp) {
        if let Source::Real { base, .. } = &*self.0 {
            let passed = i64::try_from(self.monotonic().0.as_millis()).unwrap_or(i64::MAX);
            base.store(now.0.saturating_sub(passed), Ordering::Relaxed);
        }
    }
    /// What the system's wall clock shows, whatever this one does; of a clock in a test's hand, what it shows itself.
    pub fn wall(&self) -> Timestamp {
        if self.follows_the_world() { system_now() } else { self.now() }
    }
    /// The world's time.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::Real { base, .. } => Timestamp(base.load(Ordering::Relaxed)) + self.monotonic().0,
            Source::Manual { start, passed } => *start + *passed.borrow(),
        }
    }
    /// Time since the clock was made; never steps back.
    pub fn monotonic(&self) -> Monotonic {
        match &*self.0 {
            Source::Real { start, factor, .. } => Monotonic(start.elapsed().mul_f64(*factor)),
            Source::Manual { passed, .. } => Monotonic(*passed.borrow()),
        }
    }
    /// Waits until this clock shows `end`. Unlike a sleep for what is left, it misses no step of a manual clock.
    pub async fn sleep_until(&self, end: Timestamp) {
        match &*self.0 {
            Source::Real { .. } => self.sleep(end.since(self.now())).await,
            Source::Manual { start, passed } => {
                let end = end.since(*start);
                // The sender lives in `self`, so the wait ends only by the clock's hand.
                let _ = passed.subscribe().wait_for(|now| *now >= end).await;
            }
        }
    }
    /// Waits until that much of this clock's time has passed.
    pub async fn sleep(&self, for_: Duration) {
        match &*self.0 {
            Source::Real { factor, .. } => tokio::time::sleep(for_.div_f64(*factor)).await,
            Source::Manual { passed, .. } => {
                let mut passed = passed.subscribe();
                let end = *passed.borrow() + for_;
                // The sender lives in `self`, so the wait ends only by the clock's hand.
                let _ = passed.wait_for(|now| *now >= end).await;
            }
        }
    }
}

/// What the system's wall clock shows.
fn system_now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clocks")]
    let wall = SystemTime::now();
    Timestamp(wall.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_what_it_was_set_to() {
        let clock = Clock::system();
        let far = Timestamp::from_unix_ms(4_000_000_000_000);
        clock.set(far);
        assert!(clock.now().since(far) < Duration::from_secs(5) && clock.now() >= far);
        assert!(far.since(clock.wall()) > Duration::from_secs(3_600));
        assert!(clock.follows_the_world() && !Clock::scaled(far, 2.0).follows_the_world());
    }

    #[test]
    fn times_are_read_in_any_offset_and_written_in_utc() {
        let at = Timestamp::parse("2026-11-22T12:30:15.123456+02:30").unwrap();
        assert_eq!(at.to_string(), "2026-11-22T10:00:15.123Z");
        assert_eq!(Timestamp::parse("2026-11-22T10:00:15.123Z").unwrap(), at);
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59.999Z").unwrap().unix_ms(), -1);
        for bad in ["", "2026-02-30T00:00:00Z", "2026-11-22", "2026-11-22T25:00:00Z", "yesterday"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fast_reader_agrees_with_the_general_one() {
        for day in 0..40_000_i64 {
            let at = Timestamp::from_unix_ms(day * 86_400_000 + 12_345_678);
            assert_eq!(parse_utc(at.to_string().as_bytes()), Some(at));
            let general = OffsetDateTime::parse(&at.to_string(), &Rfc3339).unwrap();
            assert_eq!(general.unix_timestamp_nanos(), i128::from(at.unix_ms()) * 1_000_000);
        }
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_it_is_moved() {
        let clock = Clock::manual(Timestamp::from_unix_ms(0));
        let sleep = clock.sleep(Duration::from_secs(10));
        tokio::pin!(sleep);
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now().unix_ms(), 10_000);
        clock.sleep_until(Timestamp::from_unix_ms(10_000)).await;
        let until = clock.sleep_until(Timestamp::from_unix_ms(11_000));
        clock.advance(Duration::from_secs(1));
        until.await;
    }
}
