//! A person's own geofences.

use super::Problem;
use super::auth::Access;
use super::body::{Body, LARGE};
use super::docs::{BadQuery, Conflicting, Missing, NoAccess, Unusable};
use super::idempotency::{IdempotencyKey, created};
use super::page::{self, Id, Page, PageQuery, Query};
use crate::clock::Timestamp;
use crate::geo::RawShape;
use crate::id::{GeofenceId, UserId};
use crate::services::Services;
use crate::tracking::{FenceIn, Geofence, Severity, Trigger};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(create_geofence, list_geofences)).routes(routes!(
        get_geofence,
        replace_geofence,
        delete_geofence
    ))
}

/// A geofence as its owner sees it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Geofence)]
pub(super) struct FenceView {
    /// Its id.
    id: GeofenceId,
    /// What its owner calls it.
    name: String,
    /// As it was written.
    shape: RawShape,
    /// What it is watched for.
    triggers: Vec<Trigger>,
    /// How long inside makes a dwell, seconds.
    dwell_s: u64,
    /// After an alert, further ones of the same kind are history only for so long, seconds.
    cooldown_s: u64,
    /// How much its alerts matter.
    severity: Severity,
    /// Who is told; null is every contact with `alerts`.
    notify: Option<Vec<UserId>>,
    /// When it was made.
    created_at: Timestamp,
}

impl From<Geofence> for FenceView {
    fn from(fence: Geofence) -> Self {
        Self {
            id: fence.id,
            name: fence.name,
            shape: fence.shape.raw().clone(),
            triggers: fence.triggers,
            dwell_s: fence.dwell.as_secs(),
            cooldown_s: fence.cooldown.as_secs(),
            severity: fence.severity,
            notify: fence.notify,
            created_at: fence.created_at,
        }
    }
}

/// Makes a geofence. A broken shape is refused with the place where it is broken.
#[utoipa::path(
    post, path = "/v1/geofences", tag = "geofences",
    security(("access" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for an `id` in the body.")),
    request_body = FenceIn,
    responses(
        (status = 201, description = "Made", body = FenceView),
        (status = 200, description = "A repeat; made before", body = FenceView),
        Unusable, NoAccess, Conflicting,
    )
)]
async fn create_geofence(
    State(services): State<Services>,
    Access(caller): Access,
    key: IdempotencyKey,
    Body(mut given): Body<FenceIn, LARGE>,
) -> Result<(StatusCode, Json<FenceView>), Problem> {
    given.id = given.id.or(key.id(caller.user.0.as_bytes(), "/v1/geofences").map(GeofenceId));
    let (fence, new) = services.tracking.fences().create(caller.user, given).await?;
    Ok((created(new), Json(fence.into())))
}

/// My geofences.
#[utoipa::path(
    get, path = "/v1/geofences", tag = "geofences",
    security(("access" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<FenceView>), BadQuery, NoAccess)
)]
async fn list_geofences(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<PageQuery>,
) -> Result<Json<Page<FenceView>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?, page::limit(part.limit)?);
    let found = services.tracking.fences().list(caller.user, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |f| f.id.to_string()).map(FenceView::from)))
}

/// One of my geofences.
#[utoipa::path(
    get, path = "/v1/geofences/{id}", tag = "geofences",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The geofence.")),
    responses((status = 200, description = "The geofence", body = FenceView), NoAccess, Missing)
)]
async fn get_geofence(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<GeofenceId>,
) -> Result<Json<FenceView>, Problem> {
    Ok(Json(services.tracking.fences().get(caller.user, id).await?.into()))
}

/// Replaces a geofence; what is known of who is in it starts again.
#[utoipa::path(
    put, path = "/v1/geofences/{id}", tag = "geofences",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The geofence.")),
    request_body = FenceIn,
    responses(
        (status = 200, description = "The geofence after it", body = FenceView),
        Unusable, NoAccess, Missing, Conflicting,
    )
)]
async fn replace_geofence(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<GeofenceId>,
    Body(given): Body<FenceIn, LARGE>,
) -> Result<Json<FenceView>, Problem> {
    Ok(Json(services.tracking.fences().replace(caller.user, id, given).await?.into()))
}

/// Deletes a geofence; its history stays, nobody is told.
#[utoipa::path(
    delete, path = "/v1/geofences/{id}", tag = "geofences",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The geofence.")),
    responses((status = 204, description = "Deleted"), NoAccess, Missing)
)]
async fn delete_geofence(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<GeofenceId>,
) -> Result<StatusCode, Problem> {
    services.tracking.fences().delete(caller.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
