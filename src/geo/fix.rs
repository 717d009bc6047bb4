//! A fix: one believable reading of a phone's position, and why one is refused.

use super::Point;
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest `seq`: what a JavaScript number holds exactly.
pub const MAX_SEQ: i64 = (1 << 53) - 1;

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
