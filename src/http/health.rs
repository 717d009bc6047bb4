//! For those who run it: is it alive, may it take an SOS, what does it count, which keys sign.

use crate::problem::Problem;
use crate::services::{Check, Services};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes(with_metrics: bool) -> OpenApiRouter<Services> {
    let all = OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(jwks));
    // Operators without an address of their own find the metrics beside the rest.
    if with_metrics { all.routes(routes!(metrics)) } else { all }
}

/// What operators see on an address of their own: the metrics, and why a node is not ready.
pub(super) fn admin_routes() -> Router<Services> {
    let all = Router::new().route("/livez", get(livez)).route("/metrics", get(metrics));
    all.route("/readyz", get(readyz_in_detail))
}

/// What a node answers before it has its database: it lives, and takes nothing yet.
pub(super) fn waiting_routes() -> Router {
    let not_ready = || async { (StatusCode::SERVICE_UNAVAILABLE, Json(Ready { ready: false })) };
    let waits =
        || async { Problem::unavailable("this node waits for its database; try again").into_response() };
    Router::new().route("/livez", get(livez)).route("/readyz", get(not_ready)).fallback(waits)
}

async fn readyz_in_detail(State(services): State<Services>) -> impl IntoResponse {
    let (status, ready, checks) = look(&services);
    (status, Json(serde_json::json!({"ready": ready, "checks": checks})))
}

fn look(services: &Services) -> (StatusCode, bool, Vec<Check>) {
    let checks = services.readiness.checks();
    let ready = Check::all_hold(&checks);
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, ready, checks)
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "It does", body = str, content_type = "text/plain"))
)]
async fn livez() -> &'static str {
    "ok"
}

/// Whether this node can take an SOS now.
#[derive(Serialize, utoipa::ToSchema)]
struct Ready {
    /// It can.
    ready: bool,
}

/// Whether this node can take an SOS now. What fails is told to operators only.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "It can", body = Ready),
        (status = 503, description = "It cannot", body = Ready),
    )
)]
async fn readyz(State(services): State<Services>) -> (StatusCode, Json<Ready>) {
    let (status, ready, _) = look(&services);
    (status, Json(Ready { ready }))
}

/// The process's metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "The metrics", body = str, content_type = "text/plain"))
)]
async fn metrics(State(services): State<Services>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], services.readiness.metrics())
}

/// A JWK set (RFC 7517).
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "documents what identity writes of its key")]
struct KeySet {
    /// Each with `kty` OKP, `crv` Ed25519, `alg` EdDSA and a `kid`.
    keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// The keys that access tokens are signed with (RFC 7517).
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "identity",
    responses((status = 200, description = "A JWK set", body = KeySet))
)]
async fn jwks(State(services): State<Services>) -> impl IntoResponse {
    // Nothing of it is secret, and who checks tokens asks often.
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(services.identity.jwks()))
}
