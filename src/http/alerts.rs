//! A person's inbox.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Missing, NoAccess, Unusable};
use super::page::{self, Id, Page, PageQuery, Query};
use crate::alerts::{AckState, AlertView};
use crate::id::AlertId;
use crate::services::Services;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new().routes(routes!(list_alerts)).routes(routes!(ack_alert))
}

/// My inbox after a cursor. An alert is the same here as on the stream; a deleted one keeps its place.
#[utoipa::path(
    get, path = "/v1/alerts", tag = "alerts",
    security(("access" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<AlertView>), BadQuery, NoAccess)
)]
async fn list_alerts(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<PageQuery>,
) -> Result<Json<Page<AlertView>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?.unwrap_or(0), page::limit(part.limit)?);
    let found = services.alerts.inbox_after(caller.user, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |a| a.cursor.unwrap_or(after).to_string())))
}

/// How far an alert has come with me.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Ack {
    /// `received`: the app has it. `seen`: I looked at it.
    state: AckState,
}

/// Says that the app has an alert, or that I looked at it.
#[utoipa::path(
    post, path = "/v1/alerts/{id}/ack", tag = "alerts",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The alert.")),
    request_body = Ack,
    responses((status = 204, description = "Noted"), Unusable, NoAccess, Missing)
)]
async fn ack_alert(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<AlertId>,
    Body(given): Body<Ack>,
) -> Result<StatusCode, Problem> {
    services.alerts.ack(caller.user, id, given.state.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}
