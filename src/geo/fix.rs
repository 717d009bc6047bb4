//! A fix: one believable reading of a phone's position, and why one is refused.

use super::Point;
use crate::clock::Timestamp;
use crate::id::derived;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest `seq`: what a JavaScript number holds exactly.
pub const MAX_SEQ: i64 = (1 << 53) - 1;

/// One believable reading of a phone's position. Identity is (device, `seq`); order is (`fixed_at`, `seq`).
#[derive(Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fix {
    /// The phone's own number of this fix; not there if it gave none.
    // Of a fix without one it is less than 0, and made of its time and place: see `unnumbered`.
    #[serde(default = "some_unnumbered", skip_serializing_if = "is_unnumbered")]
    #[schema(minimum = 1)]
    pub seq: i64,
    /// Where.
    #[serde(flatten)]
    pub point: Point,
    /// When, by the phone's clock.
    pub fixed_at: Timestamp,
    /// Radius of the 68 % circle, metres; 20,037,508 if the phone itself did not trust the place.
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

/// The bits of a number made here that are of the place; those above are of the time.
const PLACE_BITS: u32 = 20;

/// Identifies a fix to which its phone gave no number: by its time and place, and by how the time was written if that could not
/// be read. Such numbers are below 0, and in the order of their times.
pub fn unnumbered(at: Timestamp, point: Point, unread: &str) -> i64 {
    let place = [&point.lat().to_le_bytes(), &point.lon().to_le_bytes(), unread.as_bytes()];
    let place = (derived("place", &place).as_u128() >> (u128::BITS - PLACE_BITS)) as i64;
    let ms = at.unix_ms().clamp(0, (1 << (62 - PLACE_BITS)) - 1);
    ((ms << PLACE_BITS) | place) - (1 << 62)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_unnumbered(seq: &i64) -> bool {
    *seq < 0
}

fn some_unnumbered() -> i64 {
    -1
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
    /// Not a fix: its place, number or time is missing or of another type.
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

/// An accuracy that says nothing of the place, metres: nobody can be further away on this earth.
pub const ANYWHERE_M: f64 = 20_037_508.0;

impl Fix {
    /// Whether its phone said that the place may be wrong altogether. Only a raise keeps such a place.
    pub fn is_doubtful(&self) -> bool {
        self.accuracy_m.is_some_and(|m| m >= ANYWHERE_M)
    }
    /// The number that its phone gave it, if it gave one.
    pub fn number(&self) -> Option<i64> {
        Some(self.seq).filter(|seq| *seq > 0)
    }
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
