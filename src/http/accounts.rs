//! `POST /v1/accounts`.

use super::Problem;
use super::body::Body;
use super::docs::{Busy, Conflicting, Unusable};
use super::idempotency::{IdempotencyKey, created};
use crate::id::UserId;
use crate::identity::{Profile, SignUp};
use crate::services::Services;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(create_account))
}

/// A new account.
#[derive(Serialize, utoipa::ToSchema)]
struct AccountMade {
    /// Its id.
    user_id: UserId,
    /// Folded handle.
    handle: String,
    /// What contacts see.
    display_name: String,
}

/// Makes an account.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "identity",
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for an `id` in the body.")),
    request_body = SignUp,
    responses(
        (status = 201, description = "Made", body = AccountMade),
        (status = 200, description = "A repeat; made before", body = AccountMade),
        Unusable, Conflicting, Busy,
    )
)]
async fn create_account(
    State(services): State<Services>,
    key: IdempotencyKey,
    Body(mut given): Body<SignUp>,
) -> Result<(StatusCode, Json<AccountMade>), Problem> {
    // Nobody is signed in here: the handle tells one client's key from another's.
    let owner = given.handle.to_ascii_lowercase();
    given.id = given.id.or(key.id(owner.as_bytes(), "/v1/accounts").map(UserId));
    let (Profile { user_id, handle, display_name, .. }, new) = services.identity.sign_up(given).await?;
    Ok((created(new), Json(AccountMade { user_id, handle, display_name })))
}
