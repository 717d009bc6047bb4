//! The REST transport: handlers that hold no rules.
//!
//! A handler extracts who calls (`auth`) and what they give (`body`, `page`), calls one use case or one method of a service,
//! and answers with what it returned. Every refusal is a [`Problem`], and `problem` says which status it has. `middleware`
//! counts requests, bounds them in time, and finishes a change that was begun even if its client has gone. The OpenAPI document is made
//! of the same handlers, at `/openapi.json`, with a page that works offline at `/docs`; `/asyncapi.json` is the stream's.

mod accounts;
mod alerts;
mod auth;
mod body;
mod check_ins;
mod devices;
mod docs;
mod emergencies;
mod export;
mod geofences;
mod health;
mod idempotency;
mod links;
mod locations;
mod me;
mod middleware;
mod page;
mod people;
mod pieces;
mod problem;
mod push;
mod sessions;
mod track;

use problem::Problem;

use crate::role::Roles;
use crate::services::Services;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

/// For one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// For one request that may carry megabytes over a phone's uplink.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(60);

/// Everything that a node with these roles serves to the public, the stream included; and the metrics, if operators have no
/// address of their own.
pub fn router(services: Services, with_metrics: bool, stream: Router, roles: Roles) -> Router {
    let (routes, api) = routes(with_metrics).split_for_parts();
    routes
        .with_state(services)
        // Bodies are bounded after they are unpacked, where they are read.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(from_fn(middleware::coding))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", docs::complete(api)))
        .layer(CompressionLayer::new())
        .merge(stream)
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            Problem::new(problem::Code::MethodNotAllowed, "this path does not take this method")
        })
        .layer(from_fn_with_state(roles, middleware::direct))
        .layer(from_fn(middleware::observe))
}

/// What operators see on an address of their own: the metrics, and why a node is not ready.
pub fn admin_router(services: Services) -> Router {
    health::admin_routes().with_state(services).layer(from_fn(middleware::observe))
}

/// What a node answers while it waits for its database.
pub fn waiting_router() -> Router {
    health::waiting_routes().layer(from_fn(middleware::observe))
}

fn routes(with_metrics: bool) -> OpenApiRouter<Services> {
    // These are not finished for a client that has gone: nobody is signed in, and each costs a password's hash.
    let open = OpenApiRouter::new().merge(accounts::routes()).merge(sessions::open_routes());
    let usual = OpenApiRouter::new()
        .merge(sessions::routes())
        .merge(me::routes())
        .merge(export::routes())
        .merge(devices::routes())
        .merge(push::routes())
        .merge(links::routes())
        .merge(people::routes())
        .merge(track::routes())
        .merge(emergencies::routes())
        .merge(check_ins::routes())
        .merge(alerts::routes())
        .merge(docs::routes())
        .merge(health::routes(with_metrics));
    let uploads = OpenApiRouter::new().merge(geofences::routes()).merge(locations::routes());
    OpenApiRouter::with_openapi(docs::base())
        .merge(bounded(open, DEADLINE))
        .merge(bounded(finished(usual), DEADLINE))
        .merge(bounded(finished(uploads), UPLOAD_DEADLINE))
}

/// A change that was begun is finished. Its panic is caught inside, in the task that may outlive the request.
fn finished(routes: OpenApiRouter<Services>) -> OpenApiRouter<Services> {
    routes.layer(CatchPanicLayer::custom(middleware::panicked)).layer(from_fn(middleware::finish))
}

/// The deadline stands outside: it answers for what takes too long, and cuts nothing short that is to be finished.
fn bounded(routes: OpenApiRouter<Services>, within: Duration) -> OpenApiRouter<Services> {
    routes
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn_with_state(within, middleware::deadline))
}
