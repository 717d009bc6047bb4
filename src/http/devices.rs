//! A person's devices.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Missing, NoAccess, Unusable};
use super::page::{self, Id, Page, PageQuery, Query};
use crate::id::DeviceId;
use crate::identity::Device;
use crate::services::Services;
use crate::usecases::devices;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(list_devices)).routes(routes!(change_device, remove_device))
}

/// My devices.
#[utoipa::path(
    get, path = "/v1/devices", tag = "identity",
    security(("access" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<Device>), BadQuery, NoAccess)
)]
async fn list_devices(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<PageQuery>,
) -> Result<Json<Page<Device>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?, page::limit(part.limit)?);
    let found = services.identity.devices(caller.user, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |d| d.id.to_string())))
}

/// Changes to a device.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct DevicePatch {
    /// Whether this one drives my fences; at most one does.
    tracked: bool,
}

/// Says whether a device drives my fences.
#[utoipa::path(
    patch, path = "/v1/devices/{id}", tag = "identity",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The device.")),
    request_body = DevicePatch,
    responses((status = 200, description = "The device after it", body = Device), Unusable, NoAccess, Missing)
)]
async fn change_device(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<DeviceId>,
    Body(given): Body<DevicePatch>,
) -> Result<Json<Device>, Problem> {
    Ok(Json(devices::set_tracked(&services, caller, id, given.tracked).await?))
}

/// Removes a device: its sockets close, its tokens are not believed any more.
#[utoipa::path(
    delete, path = "/v1/devices/{id}", tag = "identity",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The device.")),
    responses((status = 204, description = "Removed"), NoAccess, Missing)
)]
async fn remove_device(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<DeviceId>,
) -> Result<StatusCode, Problem> {
    devices::remove(&services, caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
