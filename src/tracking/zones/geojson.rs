//! Reads zones from GeoJSON (RFC 7946), feature by feature: a file may be larger than the memory.

use super::ZoneDraft;
use crate::geo::{RawShape, Shape};
use crate::id::{ZoneId, derived};
use crate::json::unmarked;
use crate::tracking::{Severity, fault_of_name};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

/// One feature of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Feature {
    /// Its place in the file, from 0.
    pub index: u64,
    /// Its own id, as the file writes it.
    pub id: Option<String>,
    /// The zone, or why it is none.
    pub zone: Result<ZoneDraft, String>,
}

/// Reads a FeatureCollection and hands over each feature, until `take` breaks off.
///
/// # Errors
/// When the file is no GeoJSON FeatureCollection in WGS 84, with the line; what was handed over before stays so.
pub fn read_features(
    mut file: impl Read,
    mut take: impl FnMut(Feature) -> ControlFlow<()>,
) -> serde_json::Result<()> {
    let mut start = Vec::new();
    file.by_ref().take(3).read_to_end(&mut start).map_err(serde_json::Error::io)?;
    let mut reader = serde_json::Deserializer::from_reader(unmarked(&start).chain(file));
    let mut stopped = false;
    let read = reader.deserialize_map(Collection { take: &mut take, stopped: &mut stopped });
    if stopped { Ok(()) } else { read.and_then(|()| reader.end()) }
}

struct Collection<'t, F> {
    take: &'t mut F,
    stopped: &'t mut bool,
}

impl<'de, F: FnMut(Feature) -> ControlFlow<()>> Visitor<'de> for Collection<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a GeoJSON FeatureCollection")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (mut features, mut type_) = (false, None);
        while let Some(member) = members.next_key::<String>()? {
            match member.as_str() {
                "type" => {
                    let found: String = members.next_value()?;
                    if found != "FeatureCollection" {
                        return Err(A::Error::custom(format!("a {found}, not a FeatureCollection")));
                    }
                    type_ = Some(found);
                }
                // Of an older GeoJSON: RFC 7946 knows WGS 84 alone.
                "crs" => {
                    let crs: Value = members.next_value()?;
                    let name = crs.pointer("/properties/name").and_then(Value::as_str).unwrap_or_default();
                    if !crs.is_null() && !name.ends_with("CRS84") && !name.ends_with("4326") {
                        return Err(A::Error::custom(format!("coordinates in {name:?}, not in WGS 84")));
                    }
                }
                "features" => {
                    features = true;
                    members
                        .next_value_seed(Features { take: &mut *self.take, stopped: &mut *self.stopped })?;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        match type_ {
            Some(_) if features => Ok(()),
            Some(_) => Err(A::Error::custom("a FeatureCollection without features")),
            None => Err(A::Error::custom("not a GeoJSON FeatureCollection: it has no type")),
        }
    }
}

struct Features<'t, F> {
    take: &'t mut F,
    stopped: &'t mut bool,
}

impl<'de, F: FnMut(Feature) -> ControlFlow<()>> DeserializeSeed<'de> for Features<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, features: D) -> Result<(), D::Error> {
        features.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Feature) -> ControlFlow<()>> Visitor<'de> for Features<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of features")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut features: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(found) = features.next_element::<Value>()? {
            if (self.take)(feature(index, &found)).is_break() {
                *self.stopped = true;
                return Err(A::Error::custom("stopped"));
            }
            index += 1;
        }
        Ok(())
    }
}

fn feature(index: u64, found: &Value) -> Feature {
    let id = match found.get("id") {
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    Feature { index, zone: zone(id.as_deref(), found), id }
}

fn zone(id: Option<&str>, found: &Value) -> Result<ZoneDraft, String> {
    if found.get("type").and_then(Value::as_str) != Some("Feature") {
        return Err("not a Feature".into());
    }
    let nothing = Map::new();
    let properties = found.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
    let name = properties.get("name").and_then(Value::as_str).ok_or("properties.name is missing")?;
    if let Some(fault) = fault_of_name(name) {
        return Err(format!("properties.name: {fault}"));
    }
    let severity = match properties.get("severity") {
        None | Some(Value::Null) => Severity::default(),
        Some(word) => word
            .as_str()
            .and_then(Severity::from_word)
            .ok_or("properties.severity: info, warning or critical")?,
    };
    let shape = shape(found.get("geometry").unwrap_or(&Value::Null), properties)?;
    let id = match id {
        Some(own) => own.parse().unwrap_or_else(|_| derived("zone", &[own.as_bytes()])),
        None => derived_from(name, &shape)?,
    };
    Ok(ZoneDraft { id: ZoneId(id), name: name.to_owned(), shape: Arc::new(shape), severity })
}

/// Without an id of its own a zone is what it is called and where it lies.
fn derived_from(name: &str, shape: &Shape) -> Result<Uuid, String> {
    let shape = serde_json::to_vec(shape.raw()).map_err(|error| error.to_string())?;
    Ok(derived("zone", &[name.as_bytes(), &shape]))
}

fn shape(geometry: &Value, properties: &Map<String, Value>) -> Result<Shape, String> {
    let coordinates = geometry.get("coordinates").unwrap_or(&Value::Null);
    let raw = match geometry.get("type").and_then(Value::as_str) {
        Some("Point") => {
            let radius_m = properties.get("radius_m").and_then(Value::as_f64);
            RawShape::Circle {
                center: read(coordinates)?,
                radius_m: radius_m.ok_or("a Point needs properties.radius_m, metres")?,
            }
        }
        Some("Polygon") => RawShape::Polygon { coordinates: read(coordinates)? },
        Some("MultiPolygon") => RawShape::MultiPolygon { coordinates: read(coordinates)? },
        Some(other) => {
            return Err(format!("a {other} has no inside: Polygon, MultiPolygon, or Point with radius_m"));
        }
        None => return Err("geometry is missing".into()),
    };
    Shape::try_from(raw).map_err(|faults| {
        let faults = faults.iter().map(|fault| format!("{}: {}", fault.place, fault.detail));
        faults.collect::<Vec<_>>().join("; ")
    })
}

fn read<'v, T: Deserialize<'v>>(coordinates: &'v Value) -> Result<T, String> {
    T::deserialize(coordinates).map_err(|error| format!("coordinates: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str =
        r#"{"type": "Polygon", "coordinates": [[[16, 48], [17, 48], [17, 49], [16, 49], [16, 48]]]}"#;

    fn all(file: &str) -> (Vec<Feature>, serde_json::Result<()>) {
        let mut features = Vec::new();
        let read = read_features(file.as_bytes(), |feature| {
            features.push(feature);
            ControlFlow::Continue(())
        });
        (features, read)
    }

    fn collection(features: &[String]) -> String {
        format!(r#"{{"type": "FeatureCollection", "features": [{}]}}"#, features.join(","))
    }

    fn one(id: &str, properties: &str, geometry: &str) -> Result<ZoneDraft, String> {
        let feature =
            format!(r#"{{"type": "Feature" {id}, "properties": {properties}, "geometry": {geometry}}}"#);
        let (features, read) = all(&collection(&[feature]));
        read.unwrap();
        features.into_iter().next().unwrap().zone
    }

    #[test]
    fn a_zone_is_read() {
        let id = "7f0c2c1e-6f0e-4f5c-9d7f-000000000001";
        let zone = one(&format!(r#", "id": "{id}""#), r#"{"name": "flood", "severity": "critical"}"#, SQUARE)
            .unwrap();
        assert_eq!((zone.id.to_string().as_str(), zone.severity), (id, Severity::Critical));
        let circle = r#"{"type": "Point", "coordinates": [16.3, 48.2]}"#;
        let zone = one("", r#"{"name": "works", "radius_m": 80, "more": 1}"#, circle).unwrap();
        assert_eq!(zone.severity, Severity::Info);
        assert!(matches!(zone.shape.raw(), RawShape::Circle { radius_m, .. } if *radius_m == 80.0));
    }

    #[test]
    fn ids_are_the_same_each_time() {
        let with = |id: &str, name: &str| one(id, &format!(r#"{{"name": "{name}"}}"#), SQUARE).unwrap().id;
        assert_eq!(with(r#", "id": 7"#, "a"), with(r#", "id": "7""#, "b"));
        assert_eq!(with("", "a"), with("", "a"));
        assert_ne!(with("", "a"), with("", "b"));
    }

    #[test]
    fn what_is_no_zone_says_why() {
        let why = |properties: &str, geometry: &str| one("", properties, geometry).unwrap_err();
        let named = r#"{"name": "a"}"#;
        assert_eq!(why("null", SQUARE), "properties.name is missing");
        assert!(why(r#"{"name": "a\u0007"}"#, SQUARE).starts_with("properties.name: 1 to 64"));
        assert!(why(r#"{"name": "a", "severity": "bad"}"#, SQUARE).starts_with("properties.severity"));
        assert_eq!(why(named, "null"), "geometry is missing");
        assert!(
            why(named, r#"{"type": "LineString", "coordinates": []}"#)
                .starts_with("a LineString has no inside")
        );
        assert!(why(named, r#"{"type": "Point", "coordinates": [1, 2]}"#).contains("radius_m"));
        let bow = r#"{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}"#;
        assert!(why(named, bow).starts_with("coordinates[0]"), "{}", why(named, bow));
        let east = r#"{"type": "Point", "coordinates": ["east", 2]}"#;
        assert!(why(r#"{"name": "a", "radius_m": 5}"#, east).starts_with("coordinates: "));
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        let refused = |file: &str| all(file).1.unwrap_err().to_string();
        assert!(refused(r#"{"type": "Feature"}"#).starts_with("a Feature, not a FeatureCollection"));
        assert!(refused(r#"{"features": []}"#).contains("no type"));
        assert!(refused(r#"{"type": "FeatureCollection"}"#).contains("without features"));
        assert!(refused("[]").contains("a GeoJSON FeatureCollection"));
        let mercator = r#"{"crs": {"properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}, "features": []}"#;
        assert!(refused(mercator).contains("not in WGS 84"));
        let cut = &collection(&[r#"{"type": "Feature"}"#.into(), "{".into()]);
        let (features, read) = all(cut);
        assert!(features.len() == 1 && read.is_err(), "what was there before the fault is handed over");
    }

    #[test]
    fn whoever_breaks_off_gets_no_more() {
        let mut taken = 0;
        let file = collection(&["{}".into(), "{}".into(), "{}".into()]);
        let read = read_features(file.as_bytes(), |_| {
            taken += 1;
            if taken == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(read.is_ok() && taken == 2);
    }
}
