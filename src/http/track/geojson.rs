//! A track as GeoJSON (RFC 7946): points with all that is known of each fix, or lines with the time of each position.

use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::DeviceId;
use crate::tracking::{Place, StoredFix, event_order};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use std::str::FromStr;

/// A track, or a part of one.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
pub(super) enum Track {
    /// Its fixes, in the order that was asked for.
    FeatureCollection {
        /// One per fix, or one per device.
        features: Vec<TrackFeature>,
        /// Give it as `after` for the next page; null at the end, and of what comes whole.
        next: Option<String>,
    },
}

/// A fix, or the way of one device.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
pub(super) enum TrackFeature {
    /// A feature: where it is in the geometry, the rest in the properties.
    Feature {
        /// Where.
        geometry: Geometry,
        /// When, and what else is known.
        properties: Properties,
    },
}

/// A GeoJSON geometry. Positions are `[lon, lat]`.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
pub(super) enum Geometry {
    /// A place.
    Point {
        /// `[lon, lat]`
        #[schema(value_type = Vec<f64>, min_items = 2, max_items = 2)]
        coordinates: [f64; 2],
    },
    /// A way; of a device with a single fix it is a point.
    LineString {
        /// In the order that was asked for.
        #[schema(value_type = Vec<Vec<f64>>, min_items = 2)]
        coordinates: Vec<[f64; 2]>,
    },
}

/// What is said of a feature besides its place.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Properties {
    /// Of a fix.
    Fix(FixProperties),
    /// Of a line.
    Line(LineProperties),
}

/// What is said of a line besides its places.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct LineProperties {
    /// Of which device.
    pub(super) device: DeviceId,
    /// Its name.
    pub(super) name: String,
    /// When each position was taken, by the phone's clock; as many as there are positions, in their order.
    pub(super) times: Vec<Timestamp>,
    /// The fixes that it was made of.
    pub(super) fixes: u64,
}

/// What a track says of a fix besides its place.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct FixProperties {
    /// From which device.
    device: DeviceId,
    /// The phone's own number of this fix, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// When, by the phone's clock.
    fixed_at: Timestamp,
    /// When the server had it.
    received_at: Timestamp,
    /// Radius of the 68 % circle, metres.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_m: Option<f64>,
    /// Above the ellipsoid, metres.
    #[serde(skip_serializing_if = "Option::is_none")]
    altitude_m: Option<f64>,
    /// Metres per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mps: Option<f64>,
    /// Degrees from north, clockwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    course_deg: Option<f64>,
    /// Charge of the phone's battery, 0..1.
    #[serde(skip_serializing_if = "Option::is_none")]
    battery: Option<f64>,
}

impl From<StoredFix> for TrackFeature {
    fn from(StoredFix { device, fix, received_at }: StoredFix) -> Self {
        let seq = fix.number();
        let Fix { point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery, .. } = fix;
        Self::Feature {
            geometry: Geometry::Point { coordinates: [point.lon(), point.lat()] },
            properties: Properties::Fix(FixProperties {
                device,
                seq,
                fixed_at,
                received_at,
                accuracy_m,
                altitude_m,
                speed_mps,
                course_deg,
                battery,
            }),
        }
    }
}

impl TrackFeature {
    /// A way as it was put together.
    pub(super) fn line(mut coordinates: Vec<[f64; 2]>, properties: LineProperties) -> Self {
        let geometry = match coordinates.len() {
            1 => Geometry::Point { coordinates: coordinates.remove(0) },
            _ => Geometry::LineString { coordinates },
        };
        Self::Feature { geometry, properties: Properties::Line(properties) }
    }
}

/// A fix as a GeoJSON feature, for a document that is written piece by piece.
pub(in crate::http) fn feature(stored: &StoredFix) -> serde_json::Value {
    serde_json::to_value(TrackFeature::from(stored.clone())).unwrap_or_default()
}

/// A place in a track: the cursor of its pages, opaque outside.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Cursor(pub(super) Place);

impl Cursor {
    /// The place of a fix.
    pub(super) fn of(fix: &StoredFix) -> Self {
        Self(event_order(fix))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self((at, device, seq)) = self;
        let bytes =
            [&at.unix_ms().to_be_bytes(), device.0.as_bytes().as_slice(), &seq.to_be_bytes()].concat();
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).map_err(drop)?.try_into().map_err(drop)?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(eight)
        };
        let device = uuid::Uuid::from_slice(&bytes[8..24]).map_err(drop)?;
        Ok(Self((Timestamp::from_unix_ms(number(0)), DeviceId(device), number(24))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{RawFix, Terms};
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn a_place_in_a_track_comes_back_from_its_cursor() {
        let place = Cursor((Timestamp::from_unix_ms(-5), DeviceId(Uuid::from_u128(7)), 1 << 52));
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!("".parse::<Cursor>(), Err(()));
        assert_eq!("bm90IGEgcGxhY2U".parse::<Cursor>(), Err(()));
    }

    #[test]
    fn a_feature_has_its_position_once_with_the_longitude_first() {
        let raw = r#"{"seq":3,"lat":48.5,"lon":16.25,"fixed_at":"2027-01-15T08:00:00Z","accuracy_m":5}"#;
        let at = Timestamp::from_unix_ms(1_800_000_000_000);
        let retention = std::time::Duration::from_secs(86_400);
        let terms = Terms { now: at, retention, at_any_time: false, may_lack_number: false };
        let fix = RawFix::read(raw).unwrap().check(&terms).unwrap().fix;
        let device = DeviceId(Uuid::from_u128(7));
        let feature = json!(TrackFeature::from(StoredFix { device, fix, received_at: at }));
        assert_eq!(feature["geometry"]["coordinates"], json!([16.25, 48.5]));
        let properties = json!({"seq": 3, "fixed_at": "2027-01-15T08:00:00.000Z", "accuracy_m": 5.0,
            "device": device, "received_at": at});
        assert_eq!(feature["properties"], properties);
    }
}
