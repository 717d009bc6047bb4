//! Where people are. Nothing here answers without a grant and a disclosure that is written down, and every reason not
//! to answer is the same bytes.

use super::Problem;
use super::auth::Access;
use super::docs::{BadQuery, Hidden, NoAccess};
use super::page::{self, Id, Page, Query};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, UserId};
use crate::services::Services;
use crate::tracking::StoredFix;
use crate::usecases::positions;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How much of a track is shown unless asked for otherwise.
const TRACK: Duration = Duration::from_secs(24 * 3600);
/// A phone's clock may be ahead: what it has just sent is still part of the track until now.
const AHEAD: Duration = Duration::from_secs(180);

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(get_location)).routes(routes!(get_track)).routes(routes!(list_zones))
}

/// Where somebody is.
#[derive(Serialize, utoipa::ToSchema)]
struct Location {
    /// Who.
    user: UserId,
    /// From which device.
    device: DeviceId,
    /// Their newest fix.
    fix: Fix,
    /// Why it may be seen: `self`, `live_location` or `emergency`.
    #[schema(pattern = "^(self|live_location|emergency)$")]
    basis: &'static str,
    /// When the server had the fix.
    received_at: Timestamp,
}

/// The person of a path. One that cannot be is refused as one who cannot be seen.
struct Person(UserId);

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Id::from_request_parts(parts, state).await;
        id.map(|Id(user)| Self(user)).map_err(|_| Problem::not_available())
    }
}

/// The newest fix of somebody who lets me see it.
#[utoipa::path(
    get, path = "/v1/people/{user_id}/location", tag = "locations",
    security(("access" = [])),
    params(("user_id" = uuid::Uuid, Path, description = "The person.")),
    responses((status = 200, description = "Where they are", body = Location), NoAccess, Hidden)
)]
async fn get_location(
    State(services): State<Services>,
    Access(caller): Access,
    Person(user): Person,
) -> Result<Json<Location>, Problem> {
    let (grant, newest) = positions::newest(&services, caller.user, user).await?;
    let StoredFix { device, fix, received_at } = newest;
    Ok(Json(Location { user: grant.subject(), device, fix, basis: grant.basis().word(), received_at }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TrackQuery {
    /// From when; 24 hours before the end if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Until when; now if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// `next` of the page before.
    after: Option<String>,
    /// Fixes, at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
}

/// The track of somebody who lets me see it, oldest first: of a contact's, what the grant covers.
#[utoipa::path(
    get, path = "/v1/people/{user_id}/track", tag = "locations",
    security(("access" = [])),
    params(("user_id" = uuid::Uuid, Path, description = "The person."), TrackQuery),
    responses(
        (status = 200, description = "A GeoJSON FeatureCollection of points, with `next`",
            body = Track, content_type = "application/geo+json"),
        BadQuery, NoAccess, Hidden,
    )
)]
async fn get_track(
    State(services): State<Services>,
    Access(caller): Access,
    Person(user): Person,
    Query(part): Query<TrackQuery>,
) -> Result<impl IntoResponse, Problem> {
    let (after, limit) = (page::after::<Cursor>(part.after.as_deref())?, page::limit(part.limit)?);
    let to = part.to.unwrap_or(services.clock.now() + AHEAD);
    let from = part.from.unwrap_or(part.to.unwrap_or(services.clock.now()) - TRACK);
    let after = after.map(|Cursor(at, device, seq)| (at, device, seq));
    let (found, more) = positions::track(&services, caller.user, user, (from, to), after, limit).await?;
    let next = found.last().filter(|_| more).map(|f| Cursor(f.fix.fixed_at, f.device, f.fix.seq).to_string());
    let track =
        Track::FeatureCollection { features: found.into_iter().map(TrackPoint::from).collect(), next };
    Ok(([(header::CONTENT_TYPE, "application/geo+json")], Json(track)))
}

/// A part of a track as GeoJSON (RFC 7946).
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
enum Track {
    /// Its fixes, oldest first.
    FeatureCollection {
        /// One per fix.
        features: Vec<TrackPoint>,
        /// Give it as `after` for the next page; null at the end.
        next: Option<String>,
    },
}

/// A fix as a GeoJSON feature: where it is in the geometry, the rest in the properties.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
enum TrackPoint {
    /// One fix.
    Feature {
        /// Where.
        geometry: Geometry,
        /// When, and what else is known.
        properties: FixProperties,
    },
}

/// A GeoJSON geometry.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
enum Geometry {
    /// A place.
    Point {
        /// `[lon, lat]`
        #[schema(value_type = Vec<f64>, min_items = 2, max_items = 2)]
        coordinates: [f64; 2],
    },
}

/// What a track says of a fix besides its place.
#[derive(Serialize, utoipa::ToSchema)]
struct FixProperties {
    /// From which device.
    device: DeviceId,
    /// The phone's own number of this fix.
    seq: i64,
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

impl From<StoredFix> for TrackPoint {
    fn from(StoredFix { device, fix, received_at }: StoredFix) -> Self {
        let Fix { seq, point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery } = fix;
        Self::Feature {
            geometry: Geometry::Point { coordinates: [point.lon(), point.lat()] },
            properties: FixProperties {
                device,
                seq,
                fixed_at,
                received_at,
                accuracy_m,
                altitude_m,
                speed_mps,
                course_deg,
                battery,
            },
        }
    }
}

/// A fix as a GeoJSON feature, for a document that is written piece by piece.
pub(super) fn feature(stored: &StoredFix) -> serde_json::Value {
    serde_json::to_value(TrackPoint::from(stored.clone())).unwrap_or_default()
}

/// A place in a track: the cursor of its pages, opaque outside.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Cursor(Timestamp, DeviceId, i64);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(at, device, seq) = self;
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
        Ok(Self(Timestamp::from_unix_ms(number(0)), DeviceId(device), number(24)))
    }
}

/// A fence that a person is in.
#[derive(Serialize, utoipa::ToSchema)]
struct ZoneView {
    /// The fence.
    id: GeofenceId,
    /// Its name.
    name: String,
}

/// The fences that somebody who lets me know is in.
#[utoipa::path(
    get, path = "/v1/people/{user_id}/zones", tag = "locations",
    security(("access" = [])),
    params(("user_id" = uuid::Uuid, Path, description = "The person.")),
    responses((status = 200, description = "All of them", body = Page<ZoneView>), NoAccess, Hidden)
)]
async fn list_zones(
    State(services): State<Services>,
    Access(caller): Access,
    Person(user): Person,
) -> Result<Json<Page<ZoneView>>, Problem> {
    let inside = positions::fences_inside(&services, caller.user, user).await?;
    Ok(Json(Page::whole(inside.into_iter().map(|(id, name)| ZoneView { id, name }).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::RawFix;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn a_place_in_a_track_comes_back_from_its_cursor() {
        let place = Cursor(Timestamp::from_unix_ms(-5), DeviceId(Uuid::from_u128(7)), 1 << 52);
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!("".parse::<Cursor>(), Err(()));
        assert_eq!("bm90IGEgcGxhY2U".parse::<Cursor>(), Err(()));
    }

    #[test]
    fn a_feature_has_its_position_once_with_the_longitude_first() {
        let raw = r#"{"seq":3,"lat":48.5,"lon":16.25,"fixed_at":"2027-01-15T08:00:00Z","accuracy_m":5}"#;
        let at = Timestamp::from_unix_ms(1_800_000_000_000);
        let fix = RawFix::read(raw).unwrap().check(at, TRACK).unwrap().fix;
        let device = DeviceId(Uuid::from_u128(7));
        let feature = json!(TrackPoint::from(StoredFix { device, fix, received_at: at }));
        assert_eq!(feature["geometry"]["coordinates"], json!([16.25, 48.5]));
        let properties = json!({"seq": 3, "fixed_at": "2027-01-15T08:00:00.000Z", "accuracy_m": 5.0,
            "device": device, "received_at": at});
        assert_eq!(feature["properties"], properties);
    }
}
