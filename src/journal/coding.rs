//! How fixes are written in a segment: fixed fields in little endian, and of the optional ones those that are there.

use crate::clock::Timestamp;
use crate::geo::{Fix, Point};
use crate::id::DeviceId;
use crate::tracking::NewFix;
use uuid::Uuid;

/// Bytes of a fix with all it can have.
const LARGEST: usize = 16 + 1 + 8 * 10;
/// It came by the stream. The bits below say which optional fields follow, in their order.
const STREAMED: u8 = 1 << 5;

/// The fixes as the payload of a record.
pub(super) fn encode<'f>(fixes: impl ExactSizeIterator<Item = &'f NewFix>) -> Vec<u8> {
    let mut out = Vec::with_capacity(fixes.len() * LARGEST);
    for NewFix { device, fix, received_at, streamed } in fixes {
        let optional = [fix.accuracy_m, fix.altitude_m, fix.speed_mps, fix.course_deg, fix.battery];
        let mut flags = if *streamed { STREAMED } else { 0 };
        for (bit, value) in optional.iter().enumerate() {
            flags |= u8::from(value.is_some()) << bit;
        }
        out.extend_from_slice(device.0.as_bytes());
        out.push(flags);
        for number in [received_at.unix_ms(), fix.fixed_at.unix_ms(), fix.seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [fix.point.lat(), fix.point.lon()].into_iter().chain(optional.into_iter().flatten()) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out
}

/// The fixes of a payload; `None` if it is none.
pub(super) fn decode(mut payload: &[u8]) -> Option<Vec<NewFix>> {
    let mut fixes = Vec::with_capacity(payload.len() / LARGEST);
    while !payload.is_empty() {
        fixes.push(next(&mut payload)?);
    }
    Some(fixes)
}

fn next(from: &mut &[u8]) -> Option<NewFix> {
    let device = DeviceId(Uuid::from_bytes(take(from)?));
    let [flags] = take(from)?;
    let received_at = Timestamp::from_unix_ms(i64::from_le_bytes(take(from)?));
    let fixed_at = Timestamp::from_unix_ms(i64::from_le_bytes(take(from)?));
    let seq = i64::from_le_bytes(take(from)?);
    let point = Point::new(f64::from_le_bytes(take(from)?), f64::from_le_bytes(take(from)?))?;
    let mut optional = [None; 5];
    for (bit, value) in optional.iter_mut().enumerate() {
        if flags & (1 << bit) != 0 {
            *value = Some(f64::from_le_bytes(take(from)?));
        }
    }
    let [accuracy_m, altitude_m, speed_mps, course_deg, battery] = optional;
    let fix = Fix { seq, point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery };
    Some(NewFix { device, fix, received_at, streamed: flags & STREAMED != 0 })
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixes() -> impl Strategy<Value = Vec<NewFix>> {
        let number = || proptest::option::of(0.0..90.0_f64);
        let rest = (number(), number(), number(), number(), number());
        let one = (
            any::<u128>(),
            1..1_i64 << 53,
            any::<i64>(),
            -90.0..90.0_f64,
            -180.0..180.0_f64,
            any::<bool>(),
            rest,
        );
        let fix = one.prop_map(|(device, seq, at, lat, lon, streamed, (a, b, c, d, e))| NewFix {
            device: DeviceId(Uuid::from_u128(device)),
            fix: Fix {
                seq,
                point: Point::new(lat, lon).expect("in range"),
                fixed_at: Timestamp::from_unix_ms(at),
                accuracy_m: a,
                altitude_m: b,
                speed_mps: c,
                course_deg: d,
                battery: e,
            },
            received_at: Timestamp::from_unix_ms(at.wrapping_add(1)),
            streamed,
        });
        proptest::collection::vec(fix, 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(fixes in fixes()) {
            prop_assert_eq!(decode(&encode(fixes.iter())), Some(fixes));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_piece_is_not_taken_for_the_whole(fixes in fixes(), cut in 0..100_usize) {
            let whole = encode(fixes.iter());
            let piece = &whole[..whole.len().saturating_sub(cut + 1)];
            prop_assert!(decode(piece).is_none_or(|read| read.len() < fixes.len().max(1)));
        }
    }
}
