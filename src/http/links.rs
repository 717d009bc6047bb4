//! Trust links.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Conflicting, Missing, NoAccess, NoStepUp, Unusable};
use super::idempotency::{IdempotencyKey, created};
use super::page::{self, Id, Page, Query};
use crate::id::LinkId;
use crate::services::Services;
use crate::trust::{LinkIn, LinkPatch, LinkRole, Scopes, TrustLink};
use crate::usecases::links;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new()
        .routes(routes!(create_link, list_links))
        .routes(routes!(accept_link))
        .routes(routes!(change_link, end_link))
}

/// Asks a contact to be trusted. Needs step-up if it grants a position. Announced on all of my devices.
#[utoipa::path(
    post, path = "/v1/links", tag = "trust",
    security(("access" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for an `id` in the body.")),
    request_body = LinkIn,
    responses(
        (status = 201, description = "Asked", body = TrustLink),
        (status = 200, description = "A repeat; asked before", body = TrustLink),
        Unusable, NoStepUp, Missing, Conflicting,
    )
)]
async fn create_link(
    State(services): State<Services>,
    Access(caller): Access,
    key: IdempotencyKey,
    Body(mut given): Body<LinkIn>,
) -> Result<(StatusCode, Json<TrustLink>), Problem> {
    given.id = given.id.or(key.id(caller.user.0.as_bytes(), "/v1/links").map(LinkId));
    let (link, new) = links::ask(&services, caller, given).await?;
    Ok((created(new), Json(link)))
}

/// The contact accepts.
#[utoipa::path(
    post, path = "/v1/links/{id}/accept", tag = "trust",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The link.")),
    responses((status = 200, description = "In force", body = TrustLink), NoAccess, Missing)
)]
async fn accept_link(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<LinkId>,
) -> Result<Json<TrustLink>, Problem> {
    Ok(Json(links::accept(&services, caller, id).await?))
}

/// Changes to a link; a field that is absent stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct LinkChange {
    /// What it allows; at least one. Needs step-up if it grants more of a position.
    scopes: Option<Scopes>,
    /// 1 is told first; 1 to 3.
    #[schema(minimum = 1, maximum = 3)]
    tier: Option<u8>,
    /// Whether the contact is told when I was forced to end an emergency. No answer shows it.
    duress: Option<bool>,
}

/// The subject changes what a link allows.
#[utoipa::path(
    patch, path = "/v1/links/{id}", tag = "trust",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The link.")),
    request_body = LinkChange,
    responses((status = 200, description = "The link after it", body = TrustLink), Unusable, NoStepUp, Missing)
)]
async fn change_link(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<LinkId>,
    Body(given): Body<LinkChange>,
) -> Result<Json<TrustLink>, Problem> {
    let LinkChange { scopes, tier, duress } = given;
    Ok(Json(links::change(&services, caller, id, LinkPatch { scopes, tier, duress }).await?))
}

/// Either of its people ends a link, at once.
#[utoipa::path(
    delete, path = "/v1/links/{id}", tag = "trust",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The link.")),
    responses((status = 204, description = "Ended"), NoAccess, Missing)
)]
async fn end_link(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<LinkId>,
) -> Result<StatusCode, Problem> {
    services.trust.end(id, caller.user).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LinksQuery {
    /// `subject`: the links I granted. `contact`: those granted to me.
    #[param(inline)]
    role: LinkRole,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
}

/// My links in one role.
#[utoipa::path(
    get, path = "/v1/links", tag = "trust",
    security(("access" = [])),
    params(LinksQuery),
    responses((status = 200, description = "A page", body = Page<TrustLink>), BadQuery, NoAccess)
)]
async fn list_links(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<LinksQuery>,
) -> Result<Json<Page<TrustLink>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?, page::limit(part.limit)?);
    let found = services.trust.links(caller.user, part.role, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |l| l.id.to_string())))
}
