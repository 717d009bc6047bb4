//! Where people are. Nothing here answers without a grant and a disclosure that is written down, and every reason not
//! to answer is the same bytes.

use super::Problem;
use super::auth::Access;
use super::docs::{Hidden, NoAccess};
use super::page::{Id, Page};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, UserId};
use crate::services::Services;
use crate::tracking::StoredFix;
use crate::usecases::positions;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(get_location)).routes(routes!(list_zones))
}

/// Where somebody is.
#[derive(Serialize, utoipa::ToSchema)]
struct Location {
    /// Who.
    user: UserId,
    /// What they call themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// From which device.
    device: DeviceId,
    /// What that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
    /// The phone itself did not trust this place when it raised.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    doubtful: bool,
    /// Their newest fix.
    fix: Fix,
    /// Why it may be seen: `self`, `live_location` or `emergency`.
    #[schema(pattern = "^(self|live_location|emergency)$")]
    basis: &'static str,
    /// When the server had the fix.
    received_at: Timestamp,
}

/// The person of a path. One that cannot be is refused as one who cannot be seen.
pub(super) struct Person(pub(super) UserId);

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
    let (grant, newest, mut names) = positions::newest(&services, caller.user, user).await?;
    let StoredFix { device, fix, received_at } = newest;
    let (user, basis) = (grant.subject(), grant.basis().word());
    let (name, device_name) = (names.people.remove(&user), names.devices.remove(&device));
    let doubtful = fix.is_doubtful();
    Ok(Json(Location { user, name, device, device_name, doubtful, fix, basis, received_at }))
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
