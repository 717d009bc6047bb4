//! Check-ins.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{BadQuery, Conflicting, Missing, NoAccess, Unusable};
use super::idempotency::{IdempotencyKey, created};
use super::page::{self, Id, Page, PageQuery, Query};
use crate::alerts::{CheckIn, CheckInCursor, CheckInIn, CheckInState};
use crate::clock::Timestamp;
use crate::id::{CheckInId, EmergencyId};
use crate::services::Services;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::str::FromStr;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new()
        .routes(routes!(create_check_in, list_check_ins))
        .routes(routes!(complete_check_in))
        .routes(routes!(delete_check_in))
}

/// A check-in as its person sees it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = CheckIn)]
pub(super) struct CheckInView {
    /// Its id.
    id: CheckInId,
    /// When it has to be completed.
    due_at: Timestamp,
    /// How long after that an emergency is raised, seconds.
    grace_s: u64,
    /// For the contacts, should it be missed.
    note: Option<String>,
    /// How long after a completion it is due again, seconds.
    repeat_s: Option<u64>,
    /// Where it stands.
    state: CheckInState,
    /// When it was set; a completion sets one that repeats again.
    set_at: Timestamp,
    /// The emergency that it raised or joined, if it was missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    emergency: Option<EmergencyId>,
}

impl From<CheckIn> for CheckInView {
    fn from(c: CheckIn) -> Self {
        Self {
            id: c.id,
            due_at: c.due_at,
            grace_s: c.grace.as_secs(),
            note: c.note,
            repeat_s: c.repeat.map(|repeat| repeat.as_secs()),
            state: c.state,
            set_at: c.set_at,
            emergency: c.emergency,
        }
    }
}

/// The cursor of a page, as text. It carries the part of the list that it is in: what is completed between two pages
/// moves to the other part, and must take no others with it.
pub(super) struct Cursor(pub(super) CheckInCursor);

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (part, id) = text.split_once('.').ok_or(())?;
        let waiting = match part {
            "waiting" => true,
            "ended" => false,
            _ => return Err(()),
        };
        Ok(Self(CheckInCursor { waiting, id: id.parse().map_err(|_| ())? }))
    }
}

pub(super) fn cursor(c: &CheckIn) -> String {
    let part = if c.state == CheckInState::Waiting { "waiting" } else { "ended" };
    format!("{part}.{}", c.id)
}

/// Sets a check-in. Not completed in time, the server raises a `check_in` emergency, whatever became of the phone.
#[utoipa::path(
    post, path = "/v1/check-ins", tag = "check-ins",
    security(("access" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for an `id` in the body.")),
    request_body = CheckInIn,
    responses(
        (status = 201, description = "Set", body = CheckInView),
        (status = 200, description = "A repeat; set before, as it stands now", body = CheckInView),
        Unusable, NoAccess, Conflicting,
    )
)]
async fn create_check_in(
    State(services): State<Services>,
    Access(caller): Access,
    key: IdempotencyKey,
    Body(mut given): Body<CheckInIn>,
) -> Result<(StatusCode, Json<CheckInView>), Problem> {
    given.id = given.id.or(key.id(caller.user.0.as_bytes(), "/v1/check-ins").map(CheckInId));
    let (check_in, new) = services.alerts.check_ins().create(caller.user, given).await?;
    Ok((created(new), Json(check_in.into())))
}

/// My check-ins: those that wait, then the others.
#[utoipa::path(
    get, path = "/v1/check-ins", tag = "check-ins",
    security(("access" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<CheckInView>), BadQuery, NoAccess)
)]
async fn list_check_ins(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<PageQuery>,
) -> Result<Json<Page<CheckInView>>, Problem> {
    let (after, limit) = (page::after::<Cursor>(part.after.as_deref())?, page::limit(part.limit)?);
    let found = services.alerts.check_ins().list(caller.user, after.map(|c| c.0), limit + 1).await?;
    Ok(Json(Page::of(found, limit, cursor).map(CheckInView::from)))
}

/// I am safe: one that repeats is set again from now, any other is over.
#[utoipa::path(
    post, path = "/v1/check-ins/{id}/complete", tag = "check-ins",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The check-in.")),
    responses(
        (status = 200, description = "The check-in after it", body = CheckInView),
        NoAccess, Missing, Conflicting,
    )
)]
async fn complete_check_in(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<CheckInId>,
) -> Result<Json<CheckInView>, Problem> {
    Ok(Json(services.alerts.check_ins().complete(caller.user, id).await?.into()))
}

/// Deletes a check-in. An emergency that it raised goes on.
#[utoipa::path(
    delete, path = "/v1/check-ins/{id}", tag = "check-ins",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The check-in.")),
    responses((status = 204, description = "Deleted"), NoAccess, Missing)
)]
async fn delete_check_in(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<CheckInId>,
) -> Result<StatusCode, Problem> {
    services.alerts.check_ins().delete(caller.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
