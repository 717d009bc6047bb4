//! Signing in, staying signed in, stepping up, signing out.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadPin, NoAccess, NotSignedIn, Unusable};
use super::idempotency::IdempotencyKey;
use crate::id::DeviceId;
use crate::identity::{SessionTokens, SignIn, StepUp};
use crate::services::Services;
use crate::usecases::devices;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What nobody has to be signed in for.
pub(super) fn open_routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(create_session)).routes(routes!(refresh_session))
}

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(step_up)).routes(routes!(end_session))
}

/// Signs in on a device.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "identity",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "Stands for an `id` of the device: a repeat makes a new session on the same device.")),
    request_body = SignIn,
    responses((status = 201, description = "Signed in", body = SessionTokens), Unusable, NotSignedIn)
)]
async fn create_session(
    State(services): State<Services>,
    key: IdempotencyKey,
    Body(mut given): Body<SignIn>,
) -> Result<(StatusCode, Json<SessionTokens>), Problem> {
    let owner = given.handle.to_ascii_lowercase();
    given.device.id = given.device.id.or(key.id(owner.as_bytes(), "/v1/sessions").map(DeviceId));
    Ok((StatusCode::CREATED, Json(devices::sign_in(&services, given).await?)))
}

/// A refresh token.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The current one. The one before is good for 30 s more, for the same successor.
    refresh_token: String,
}

/// Exchanges a refresh token for the next one and fresh tokens. An older one ends the session.
#[utoipa::path(
    post, path = "/v1/sessions/refresh", tag = "identity",
    request_body = Refresh,
    responses((status = 200, description = "The next tokens", body = SessionTokens), Unusable, NotSignedIn)
)]
async fn refresh_session(
    State(services): State<Services>,
    Body(given): Body<Refresh>,
) -> Result<Json<SessionTokens>, Problem> {
    Ok(Json(services.identity.refresh(&given.refresh_token).await?))
}

/// Proves again that it is the person, with the password or the PIN: for five minutes this session may do what needs it.
#[utoipa::path(
    post, path = "/v1/sessions/step-up", tag = "identity",
    security(("access" = [])),
    request_body = StepUp,
    responses((status = 204, description = "Proved"), Unusable, NoAccess, BadPin)
)]
async fn step_up(
    State(services): State<Services>,
    Access(caller): Access,
    Body(given): Body<StepUp>,
) -> Result<StatusCode, Problem> {
    services.identity.step_up(&caller, given).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs out: the session's tokens are not believed any more. The device's distress token is.
#[utoipa::path(
    delete, path = "/v1/sessions/current", tag = "identity",
    security(("access" = [])),
    responses((status = 204, description = "Signed out"), NoAccess)
)]
async fn end_session(
    State(services): State<Services>,
    Access(caller): Access,
) -> Result<StatusCode, Problem> {
    services.identity.sign_out(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
