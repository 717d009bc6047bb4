//! A time as Postgres keeps it: `timestamptz`, microseconds since the year 2000.

use crate::clock::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// Milliseconds from 1970 to 2000.
const EPOCH_MS: i64 = 946_684_800_000;
/// What Postgres can keep, far beyond what cima takes: 4714 BC and AD 294276.
const RANGE_MS: std::ops::RangeInclusive<i64> = -210_866_803_200_000..=9_224_318_015_999_999;

/// A [`Timestamp`] to bind or to read. One beyond what Postgres can keep is its nearest end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct At(pub(super) Timestamp);

impl From<At> for Timestamp {
    fn from(at: At) -> Self {
        at.0
    }
}

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let ms = self.0.unix_ms().clamp(*RANGE_MS.start(), *RANGE_MS.end());
        let us = (ms - EPOCH_MS) * 1_000;
        buffer.extend_from_slice(&us.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for At {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("times are read as binary".into());
        }
        let us = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(Timestamp::from_unix_ms(us.div_euclid(1_000) + EPOCH_MS)))
    }
}
