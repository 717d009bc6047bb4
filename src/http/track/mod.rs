//! `GET /v1/people/{user_id}/track`: a page of points, or the whole of it as lines, CSV or GPX.

mod geojson;
pub(super) mod gpx;
mod whole;

pub(super) use geojson::feature;

use super::Problem;
use super::auth::Access;
use super::docs::{BadQuery, Hidden, NoAccess};
use super::page::{self, Query};
use super::people::Person;
use super::pieces;
use crate::clock::Timestamp;
use crate::services::Services;
use crate::tracking::{Reading, TrackPage};
use crate::usecases::positions;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use geojson::{Cursor, Track, TrackFeature};
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use whole::{Form, Whole};

/// How much of a track is shown unless asked for otherwise.
const TRACK: Duration = Duration::from_secs(24 * 3600);
/// A phone's clock may be ahead: what it has just sent is still part of the track until now.
const AHEAD: Duration = Duration::from_secs(180);
/// How much a track may be simplified, metres.
const MAX_TOLERANCE_M: f64 = 100_000.0;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(get_track))
}

/// How a track is written.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// GeoJSON, a point per fix, in pages.
    Points,
    /// GeoJSON, a line per device with the time of each position, whole.
    Lines,
    /// A row per fix, whole.
    Csv,
    /// GPX 1.1, a track per device, whole.
    Gpx,
}

/// From which end a track is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Oldest,
    Newest,
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
    /// `oldest` (if absent) or `newest` first.
    #[serde(default)]
    #[param(inline, required = false)]
    order: Order,
    /// `points`: a point per fix, in pages. `lines`: a line per device with the time of each position. `csv`, `gpx`: the same as a
    /// file. All but points come whole. If absent: `lines` with `simplify_m`, else `points`.
    #[param(inline)]
    format: Option<Format>,
    /// Leaves out positions so that each of them was, at its time, at most so many metres from where the rest says; not for points.
    #[param(minimum = 0, maximum = 100_000)]
    simplify_m: Option<f64>,
    /// `next` of the page before; only of points.
    after: Option<String>,
    /// Points, at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
}

/// The track of somebody who lets me see it: of a contact's, what the grant covers.
#[utoipa::path(
    get, path = "/v1/people/{user_id}/track", tag = "locations",
    security(("access" = [])),
    params(("user_id" = uuid::Uuid, Path, description = "The person."), TrackQuery),
    responses(
        (status = 200, description = "A GeoJSON FeatureCollection, of points or of lines; or the file that was asked for",
            content((Track = "application/geo+json"), (String = "text/csv"), (String = "application/gpx+xml"))),
        BadQuery, NoAccess, Hidden,
    )
)]
async fn get_track(
    State(services): State<Services>,
    Access(caller): Access,
    Person(user): Person,
    Query(asked): Query<TrackQuery>,
) -> Result<Response, Problem> {
    let to = asked.to.unwrap_or(services.clock.now() + AHEAD);
    let from = asked.from.unwrap_or(asked.to.unwrap_or(services.clock.now()) - TRACK);
    let reading = match asked.order {
        Order::Oldest => Reading::Forwards,
        Order::Newest => Reading::Backwards,
    };
    let form = match asked.format {
        Some(Format::Points) => None,
        None if asked.simplify_m.is_none() => None,
        None | Some(Format::Lines) => Some(Form::Lines),
        Some(Format::Csv) => Some(Form::Csv),
        Some(Format::Gpx) => Some(Form::Gpx),
    };
    let Some(form) = form else {
        if asked.simplify_m.is_some() {
            return Err(Problem::invalid(
                "simplify_m",
                "points are not simplified; ask for lines, csv or gpx",
            ));
        }
        let (after, limit) = (page::after::<Cursor>(asked.after.as_deref())?, page::limit(asked.limit)?);
        let page = TrackPage::between(from, to, after.map(|Cursor(place)| place), limit);
        let page = TrackPage { reading, ..page };
        let (found, more) = positions::track(&services, caller.user, user, None, page).await?;
        let next = found.last().filter(|_| more).map(|last| Cursor::of(last).to_string());
        let features = found.into_iter().map(TrackFeature::from).collect();
        let track = Track::FeatureCollection { features, next };
        return Ok(([(header::CONTENT_TYPE, "application/geo+json")], Json(track)).into_response());
    };
    if asked.after.is_some() || asked.limit.is_some() {
        return Err(Problem::invalid("format", "only points come in pages; this comes whole"));
    }
    let tolerance_m = asked.simplify_m.unwrap_or(0.0);
    if !(0.0..=MAX_TOLERANCE_M).contains(&tolerance_m) {
        return Err(Problem::invalid("simplify_m", "0 to 100,000 metres"));
    }
    let track = Whole::new(services, (caller.user, user), (from, to), reading, tolerance_m, form).await?;
    let headers =
        [(header::CONTENT_TYPE, form.content_type()), (header::CONTENT_DISPOSITION, form.disposition())];
    Ok((headers, pieces::body(track).await?).into_response())
}
