//! Values, as cima has them, to bind to a statement and to read from a row of either backend.
//!
//! | cima | SQLite | PostgreSQL |
//! |---|---|---|
//! | an id | 16 bytes | `uuid` |
//! | a [`Timestamp`] | milliseconds since 1970 | `timestamptz` |
//! | a [`Duration`] | milliseconds ([`Millis`]) | the same |
//! | a word of an enum | text | text |
//! | [`Json`] | text | `jsonb` |
//! | a list of ids | a JSON list of hex | `uuid[]` |
//! | a list of times | a JSON list | `timestamptz[]` |
//! | a list of texts | a JSON list | `text[]` |

use crate::alerts::{AlertKind, CheckInState, EmergencyKind, State};
use crate::clock::Timestamp;
use crate::id::{
    AlertId, CheckInId, DeviceId, EmergencyId, EndpointId, GeofenceId, LinkId, NodeId, SessionId,
    TransitionId, UserId, ZoneId,
};
use crate::identity::Platform;
use crate::push::{Channel, Urgency};
use crate::tracking::{Membership, Severity, Trigger};
use serde::de::DeserializeOwned;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::sqlite::{SqliteArguments, SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Arguments, Database, Decode, Encode, Postgres, Sqlite, Type, TypeInfo, ValueRef};
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;

/// A value to bind; `None` is NULL.
pub(super) enum Value {
    Id(Option<Uuid>),
    Ids(Option<Vec<Uuid>>),
    Times(Option<Vec<Timestamp>>),
    Text(Option<String>),
    Texts(Option<Vec<String>>),
    Bytes(Option<Vec<u8>>),
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(Option<bool>),
    At(Option<Timestamp>),
}

impl Value {
    fn add_lite(self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Id(id) => arguments.add(id),
            Self::Ids(ids) => arguments.add(ids.as_deref().map(hex_list)),
            Self::Times(times) => arguments.add(times.as_deref().map(ms_list)),
            Self::Text(text) => arguments.add(text),
            Self::Texts(texts) => {
                arguments.add(texts.map(|texts| serde_json::Value::from(texts).to_string()))
            }
            Self::Bytes(bytes) => arguments.add(bytes),
            Self::Int(int) => arguments.add(int),
            Self::Real(real) => arguments.add(real),
            Self::Bool(bool) => arguments.add(bool),
            Self::At(at) => arguments.add(at),
        }
    }

    fn add_pg(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Id(id) => arguments.add(id),
            Self::Ids(ids) => arguments.add(ids),
            Self::Times(times) => arguments.add(times),
            Self::Text(text) => arguments.add(text.as_deref().map(plain)),
            Self::Texts(texts) => arguments.add(
                texts.map(|texts| texts.iter().map(|text| plain(text).into_owned()).collect::<Vec<_>>()),
            ),
            Self::Bytes(bytes) => arguments.add(bytes),
            Self::Int(int) => arguments.add(int),
            Self::Real(real) => arguments.add(real),
            Self::Bool(bool) => arguments.add(bool),
            Self::At(at) => arguments.add(at),
        }
    }
}

/// The values of a statement, for SQLite.
pub(super) fn lite_arguments(values: Vec<Value>) -> Result<SqliteArguments, BoxDynError> {
    let mut arguments = SqliteArguments::default();
    values.into_iter().try_for_each(|value| value.add_lite(&mut arguments))?;
    Ok(arguments)
}

/// The values of a statement, for PostgreSQL.
pub(super) fn pg_arguments(values: Vec<Value>) -> Result<PgArguments, BoxDynError> {
    let mut arguments = PgArguments::default();
    values.into_iter().try_for_each(|value| value.add_pg(&mut arguments))?;
    Ok(arguments)
}

/// Ids as a JSON list that SQLite can look into.
fn hex_list(ids: &[Uuid]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
    format!("[{}]", quoted.join(","))
}

/// Times as a JSON list that SQLite can look into.
fn ms_list(times: &[Timestamp]) -> String {
    let ms: Vec<String> = times.iter().map(|at| at.unix_ms().to_string()).collect();
    format!("[{}]", ms.join(","))
}

/// Text without the one character that neither `text` nor `jsonb` of PostgreSQL takes: somebody in need is not refused
/// for it.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// What can be bound.
pub(super) trait ToValue: Sized {
    /// The value, or NULL of its type.
    fn to_value(value: Option<Self>) -> Value;
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(value: Option<Self>) -> Value {
        T::to_value(value.flatten())
    }
}

macro_rules! binds {
    ($($type:ty, $value:ident => $bound:expr;)+) => {$(
        impl ToValue for $type {
            fn to_value(value: Option<Self>) -> Value {
                value.map_or($bound(None), |$value| $bound(Some($value.into())))
            }
        }
    )+};
}

binds! {
    Uuid, v => Value::Id;
    Vec<Uuid>, v => Value::Ids;
    Vec<Timestamp>, v => Value::Times;
    String, v => Value::Text;
    &str, v => Value::Text;
    &String, v => Value::Text;
    &[String], v => Value::Texts;
    Vec<u8>, v => Value::Bytes;
    &[u8], v => Value::Bytes;
    i64, v => Value::Int;
    u32, v => Value::Int;
    f64, v => Value::Real;
    bool, v => Value::Bool;
    Timestamp, v => Value::At;
}

/// A list of ids.
macro_rules! ids {
    ($($name:ident)+) => {$(
        impl ToValue for $name {
            fn to_value(value: Option<Self>) -> Value {
                Value::Id(value.map(|id| id.0))
            }
        }
        impl ToValue for &[$name] {
            fn to_value(value: Option<Self>) -> Value {
                Value::Ids(value.map(|ids| ids.iter().map(|id| id.0).collect()))
            }
        }
        read_as!($name: Uuid => |id| Ok(Self(id)));
    )+};
}

/// Reads a type as another one that both drivers know.
macro_rules! read_as {
    ($type:ty: $known:ty => $make:expr) => {
        impl<DB: Database> Type<DB> for $type
        where
            $known: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$known>::type_info()
            }
            fn compatible(ty: &DB::TypeInfo) -> bool {
                <$known>::compatible(ty)
            }
        }
        impl<'r, DB: Database> Decode<'r, DB> for $type
        where
            $known: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let make: fn($known) -> Result<Self, BoxDynError> = $make;
                make(<$known>::decode(value)?)
            }
        }
    };
}

ids! {
    UserId DeviceId SessionId LinkId GeofenceId ZoneId NodeId EmergencyId CheckInId AlertId TransitionId EndpointId
}

/// Enums that are stored as a word.
macro_rules! words {
    ($($name:ty)+) => {$(
        impl ToValue for $name {
            fn to_value(value: Option<Self>) -> Value {
                Value::Text(value.map(|value| value.word().into()))
            }
        }
        read_as!($name: String => |word| {
            Self::from_word(&word).ok_or_else(|| concat!("no word of ", stringify!($name)).into())
        });
    )+};
}

words! { State EmergencyKind CheckInState AlertKind Severity Trigger Membership Platform Channel Urgency }

/// A duration in milliseconds.
pub(super) struct Millis(pub(super) Duration);

impl ToValue for Millis {
    fn to_value(value: Option<Self>) -> Value {
        Value::Int(value.map(|ms| i64::try_from(ms.0.as_millis()).unwrap_or(i64::MAX)))
    }
}

// The schema refuses negative ones.
read_as!(Millis: i64 => |ms| Ok(Self(Duration::from_millis(u64::try_from(ms)?))));

/// A column of JSON, read as what it holds.
pub(super) struct Json<T>(pub(super) T);

/// The reader's own words would quote what is in the row, and errors go to the log.
fn json<T: DeserializeOwned>(text: &[u8]) -> Result<Json<T>, BoxDynError> {
    serde_json::from_slice(text).map(Json).map_err(|_| "JSON of another shape".into())
}

impl<T> Type<Sqlite> for Json<T> {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl<T: DeserializeOwned> Decode<'_, Sqlite> for Json<T> {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        json(<&str as Decode<Sqlite>>::decode(value)?.as_bytes())
    }
}

impl<T> Type<Postgres> for Json<T> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("jsonb")
    }
    fn compatible(ty: &PgTypeInfo) -> bool {
        ["JSON", "JSONB"].contains(&ty.name())
    }
}

impl<T: DeserializeOwned> Decode<'_, Postgres> for Json<T> {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        // Binary jsonb is the text after the number of its format.
        let is_binary = value.format() == PgValueFormat::Binary && value.type_info().name() == "JSONB";
        let bytes = value.as_bytes()?;
        let text =
            if is_binary { bytes.strip_prefix(&[1]).ok_or("jsonb of another version")? } else { bytes };
        json(text)
    }
}

/// Milliseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_MS: i64 = 946_684_800_000;
/// What PostgreSQL can keep, far beyond what cima takes: 4714 BC and AD 294276.
const RANGE_MS: std::ops::RangeInclusive<i64> = -210_866_803_200_000..=9_224_318_015_999_999;

impl Type<Sqlite> for Timestamp {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
    fn compatible(ty: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(ty)
    }
}

impl Decode<'_, Sqlite> for Timestamp {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from_unix_ms(<i64 as Decode<Sqlite>>::decode(value)?))
    }
}

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.unix_ms(), buffer)
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for Timestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

/// A time beyond what PostgreSQL can keep is its nearest end.
impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let ms = self.unix_ms().clamp(*RANGE_MS.start(), *RANGE_MS.end());
        let us = (ms - EPOCH_MS) * 1_000;
        buffer.extend_from_slice(&us.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("times are read as binary".into());
        }
        let us = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self::from_unix_ms(us.div_euclid(1_000) + EPOCH_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgres_refuses_is_replaced() {
        assert_eq!(plain("a\0b"), "a\u{fffd}b");
        assert!(matches!(plain("help \u{1f198}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_duration_fits_whatever_it_is() {
        let bound = |duration| match ToValue::to_value(Some(Millis(duration))) {
            Value::Int(ms) => ms,
            _ => None,
        };
        assert_eq!(bound(Duration::from_millis(123_456_789)), Some(123_456_789));
        assert_eq!(bound(Duration::MAX), Some(i64::MAX));
    }
}
