//! A newest position, sealed: it opens for the holder of a grant.

use super::StoredFix;
use crate::bus::Sealed;
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, UserId};
use crate::trust::{Basis, Grant};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The version of what is in a seal. Another one stays shut: whoever watches reads the store.
const VERSION: u8 = 1;

/// The newest fix of a device, on its way to whoever may see it.
#[derive(Clone)]
pub struct Position {
    pub(super) user: UserId,
    pub(super) tracked: bool,
    /// It is older than one that the device sent shortly before: a late one, or its clock was set back.
    pub(super) overtaken: bool,
    pub(super) stored: StoredFix,
}

/// What is in a seal.
#[derive(Serialize, Deserialize)]
struct Inside<'a> {
    v: u8,
    user: UserId,
    tracked: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    overtaken: bool,
    device: DeviceId,
    fix: Cow<'a, Fix>,
    /// What identifies a fix that says no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unnumbered: Option<i64>,
    received_at: Timestamp,
}

impl Position {
    /// Whose.
    pub fn user(&self) -> UserId {
        self.user
    }
    /// The fix, for the holder of a grant: a live one covers the tracked device, an emergency's any device, and whatever it sent
    /// last, though its clock may have been set back.
    pub fn reveal(&self, grant: &Grant) -> Option<&StoredFix> {
        let covered = match grant.basis() {
            Basis::LiveLocation => self.tracked && !self.overtaken,
            Basis::Own => !self.overtaken,
            Basis::Emergency(_) => true,
        };
        (grant.subject() == self.user && covered).then_some(&self.stored)
    }

    /// Seals it for its way over the bus.
    pub(super) fn seal(&self) -> Sealed {
        let StoredFix { device, fix, received_at } = &self.stored;
        let inside = Inside {
            v: VERSION,
            user: self.user,
            tracked: self.tracked,
            overtaken: self.overtaken,
            device: *device,
            fix: Cow::Borrowed(fix),
            unnumbered: fix.number().is_none().then_some(fix.seq),
            received_at: *received_at,
        };
        // A checked fix is finite numbers only, which JSON can always carry; an empty seal would not open.
        Sealed::new(serde_json::to_vec(&inside).unwrap_or_default())
    }

    /// The position in a seal. It still shows nothing without a grant.
    pub fn open(sealed: &Sealed) -> Option<Self> {
        let inside: Inside<'_> = serde_json::from_slice(sealed.bytes()).ok()?;
        let fix = inside.fix.into_owned();
        let seq = inside.unnumbered.unwrap_or(fix.seq);
        let stored =
            StoredFix { device: inside.device, fix: Fix { seq, ..fix }, received_at: inside.received_at };
        let (user, tracked, overtaken) = (inside.user, inside.tracked, inside.overtaken);
        (inside.v == VERSION).then_some(Self { user, tracked, overtaken, stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Point;
    use uuid::Uuid;

    /// What version 1 wrote; nodes that wrote it are still running somewhere.
    const GOLDEN: &str = include_str!("../../tests/golden/position/v1.json");

    fn position() -> Position {
        let fix = Fix {
            seq: 7,
            point: Point::new(48.208_174, 16.373_819).unwrap(),
            fixed_at: Timestamp::from_unix_ms(1_764_000_000_123),
            accuracy_m: Some(4.5),
            altitude_m: None,
            speed_mps: Some(1.25),
            course_deg: None,
            battery: Some(0.5),
        };
        let received_at = Timestamp::from_unix_ms(1_764_000_000_456);
        let stored = StoredFix { device: DeviceId(Uuid::from_u128(0xd)), fix, received_at };
        Position { user: UserId(Uuid::from_u128(0xada)), tracked: true, overtaken: false, stored }
    }

    #[test]
    fn version_1_is_written_as_it_was_and_read() {
        let sealed = position().seal();
        assert_eq!(str::from_utf8(sealed.bytes()).unwrap(), GOLDEN.trim_end());
        let opened = Position::open(&Sealed::new(GOLDEN.into())).unwrap();
        assert!(opened.user == position().user && opened.tracked);
        assert!(opened.stored == position().stored);
    }

    #[test]
    fn a_fix_without_a_number_comes_through_as_it_is() {
        let mut position = position();
        position.stored.fix.seq = -5;
        assert!(Position::open(&position.seal()).unwrap().stored == position.stored);
    }

    #[test]
    fn another_version_stays_shut() {
        let newer = GOLDEN.replacen(r#""v":1"#, r#""v":2"#, 1);
        assert!(Position::open(&Sealed::new(newer.into())).is_none());
        assert!(Position::open(&Sealed::new(Vec::new())).is_none());
    }

    #[test]
    fn a_seal_prints_nothing_of_what_is_in_it() {
        assert_eq!(format!("{:?}", position().seal()), "Sealed(..)");
    }
}
