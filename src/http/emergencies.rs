//! Raising, ending and claiming. A raise is never refused for its form, and whatever PIN ended an emergency, the answer
//! is made of the same view.

use super::Problem;
use super::auth::{Access, Distress};
use super::body::{OptionalBody, Unread, read};
use super::docs::{BadPin, BadQuery, Conflicting, Missing, NoAccess, NoToken, Unusable};
use super::idempotency::{IdempotencyKey, created};
use super::page::{self, Id, Page, Query};
use crate::alerts::{Accepted, EmergencyView, EndWith, RaiseIn, State as Standing};
use crate::geo::Note;
use crate::id::{EmergencyId, UserId};
use crate::identity::Caller;
use crate::json;
use crate::services::Services;
use crate::trust::LinkRole;
use crate::usecases::emergencies::{self, shown, shown_ended};
use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A raise larger than this is noted as too large.
const RAISE: usize = 64 * 1024;
/// A raise larger than this is taken without reading it.
const RAISE_READ: usize = 1024 * 1024;
/// A raise that has not come whole after so long is taken as it is: a person in danger does not wait for an uplink.
const RAISE_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new()
        .routes(routes!(raise_emergency, list_emergencies))
        .routes(routes!(get_emergency))
        .routes(routes!(claim_emergency))
        .routes(routes!(unclaim_emergency))
        .routes(routes!(resolve_emergency))
        .routes(routes!(cancel_emergency))
}

/// The answer to a raise.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RaiseAccepted)]
struct AcceptedView {
    /// The emergency it is, or joined.
    emergency: EmergencyView,
    /// The id it was raised with; it resolves for ever.
    id: EmergencyId,
    /// Where the emergency stands.
    state: Standing,
    /// Durable copies now; repeat the raise until there are `min(2, copies_max)`.
    copies: u8,
    /// Durable copies there can be.
    copies_max: u8,
    /// The raises that joined the emergency, if this is one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<Vec<EmergencyId>>,
    /// How many contacts are told, or will be after the countdown; 0 says that nobody is there to be told. It is not there when
    /// they could not be read, and of an emergency that is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    tells: Option<u32>,
    /// What of the raise could not be used, or was replaced.
    notes: Vec<Note>,
}

/// Raises an emergency, or joins the one that is open. Never refused for its form.
#[utoipa::path(
    post, path = "/v1/emergencies", tag = "emergencies",
    security(("access" = []), ("distress" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for an `id` in the body.")),
    request_body = RaiseIn,
    responses(
        (status = 201, description = "Raised", body = AcceptedView),
        (status = 200, description = "A repeat, or joined the open one", body = AcceptedView),
        NoToken,
    )
)]
async fn raise_emergency(
    State(services): State<Services>,
    Distress(caller): Distress,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<AcceptedView>), Problem> {
    let read_at = Instant::now();
    let (value, too_large) = read_raise(body).await;
    let mut raise = emergencies::read_raise(&services, &value);
    if too_large {
        raise.notes.retain(|note| note.field != "body");
        raise.notes.push(Note::of("body", "too_large"));
    }
    let key = IdempotencyKey::lenient(&headers);
    raise.id = raise.id.or(key.id(caller.user.0.as_bytes(), "/v1/emergencies").map(EmergencyId));
    let accepted = emergencies::raise(&services, caller, raise, read_at).await?;
    let Accepted { id, emergency, opened, copies, copies_max, tells, notes } = accepted;
    let view = shown(&emergency, caller);
    let joined = emergency.joined.contains(&id).then(|| emergency.joined.clone());
    let answer =
        AcceptedView { id, state: view.state, copies, copies_max, joined, tells, notes, emergency: view };
    Ok((created(opened), Json(answer)))
}

/// What can be read of a raise, and whether it was too large. What cannot is null.
async fn read_raise(body: RawBody) -> (Value, bool) {
    match read(body, RAISE_READ, RAISE_WITHIN).await {
        Ok(bytes) => (read_loosely(&bytes), bytes.len() > RAISE),
        Err(Unread::TooLarge) => (Value::Null, true),
        Err(Unread::Broken | Unread::Slow) => (Value::Null, false),
    }
}

fn read_loosely(bytes: &[u8]) -> Value {
    str::from_utf8(json::unmarked(bytes)).map_or(Value::Null, json::loose)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EmergenciesQuery {
    /// `subject` (if absent): mine. `contact`: those of people who trust me.
    #[param(inline)]
    role: Option<LinkRole>,
    /// Only those that stand so.
    #[param(inline)]
    state: Option<Standing>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<u32>,
}

/// Emergencies I have part in, newest first.
#[utoipa::path(
    get, path = "/v1/emergencies", tag = "emergencies",
    security(("access" = [])),
    params(EmergenciesQuery),
    responses((status = 200, description = "A page", body = Page<EmergencyView>), BadQuery, NoAccess)
)]
async fn list_emergencies(
    State(services): State<Services>,
    Access(caller): Access,
    Query(part): Query<EmergenciesQuery>,
) -> Result<Json<Page<EmergencyView>>, Problem> {
    let (after, limit) = (page::after(part.after.as_deref())?, page::limit(part.limit)?);
    let role = part.role.unwrap_or(LinkRole::Subject);
    let found = services.alerts.list(caller.user, role, part.state, after, limit + 1).await?;
    Ok(Json(Page::of(found, limit, |e| e.id.to_string())))
}

/// An emergency I have part in, by any of its ids.
#[utoipa::path(
    get, path = "/v1/emergencies/{id}", tag = "emergencies",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The emergency.")),
    responses((status = 200, description = "The emergency", body = EmergencyView), NoAccess, Missing)
)]
async fn get_emergency(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<EmergencyId>,
) -> Result<Json<EmergencyView>, Problem> {
    Ok(Json(services.alerts.view(caller.user, id).await?))
}

/// A contact is on it.
#[utoipa::path(
    post, path = "/v1/emergencies/{id}/claim", tag = "emergencies",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The emergency.")),
    responses(
        (status = 200, description = "The emergency after it", body = EmergencyView),
        NoAccess, Missing, Conflicting,
    )
)]
async fn claim_emergency(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<EmergencyId>,
) -> Result<Json<EmergencyView>, Problem> {
    Ok(Json(services.alerts.claim(caller.user, id, true).await?))
}

/// Whose claim ends.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Unclaim {
    /// The contact whose claim the subject voids; absent, a contact takes back their own.
    contact: Option<UserId>,
}

/// A contact is not on it any more, or the subject voids a contact's claim.
#[utoipa::path(
    post, path = "/v1/emergencies/{id}/unclaim", tag = "emergencies",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The emergency.")),
    request_body = Option<Unclaim>,
    responses(
        (status = 200, description = "The emergency after it", body = EmergencyView),
        Unusable, NoAccess, Missing, Conflicting,
    )
)]
async fn unclaim_emergency(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<EmergencyId>,
    OptionalBody(given): OptionalBody<Unclaim>,
) -> Result<Json<EmergencyView>, Problem> {
    let view = match given.contact.filter(|contact| *contact != caller.user) {
        Some(contact) => services.alerts.void_claim(caller.user, id, contact).await?,
        None => services.alerts.claim(caller.user, id, false).await?,
    };
    Ok(Json(view))
}

/// How long an app goes on sending fixes after an end: an hour. The same whatever the end was.
const KEEP_STREAMING: Duration = Duration::from_secs(3600);

/// An emergency after its end.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = EmergencyEnded)]
struct EndedView {
    #[serde(flatten)]
    emergency: EmergencyView,
    /// Go on sending fixes for so long, seconds, as if it were open. An end may have been forced: then those who help still
    /// need to know where the person is.
    keep_streaming_s: u64,
}

/// What ends an emergency.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct End {
    /// Needed if one is set.
    pin: Option<String>,
}

/// The subject is safe.
#[utoipa::path(
    post, path = "/v1/emergencies/{id}/resolve", tag = "emergencies",
    security(("access" = []), ("distress" = [])),
    params(("id" = uuid::Uuid, Path, description = "The emergency.")),
    request_body = Option<End>,
    responses((status = 200, description = "The emergency after it", body = EndedView), Unusable, BadPin, Missing)
)]
async fn resolve_emergency(
    State(services): State<Services>,
    Distress(caller): Distress,
    Id(id): Id<EmergencyId>,
    OptionalBody(given): OptionalBody<End>,
) -> Result<Json<EndedView>, Problem> {
    end(&services, caller, id, EndWith::Resolve, given).await
}

/// It was no emergency.
#[utoipa::path(
    post, path = "/v1/emergencies/{id}/cancel", tag = "emergencies",
    security(("access" = []), ("distress" = [])),
    params(("id" = uuid::Uuid, Path, description = "The emergency.")),
    request_body = Option<End>,
    responses((status = 200, description = "The emergency after it", body = EndedView), Unusable, BadPin, Missing)
)]
async fn cancel_emergency(
    State(services): State<Services>,
    Distress(caller): Distress,
    Id(id): Id<EmergencyId>,
    OptionalBody(given): OptionalBody<End>,
) -> Result<Json<EndedView>, Problem> {
    end(&services, caller, id, EndWith::Cancel, given).await
}

async fn end(
    services: &Services,
    caller: Caller,
    id: EmergencyId,
    with: EndWith,
    given: End,
) -> Result<Json<EndedView>, Problem> {
    let emergency = emergencies::end(services, caller, id, with, given.pin.as_deref()).await?;
    let emergency = shown_ended(services, &emergency, caller).await;
    Ok(Json(EndedView { emergency, keep_streaming_s: KEEP_STREAMING.as_secs() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_raise_is_read_as_far_as_it_goes() {
        let read = async |text: String| read_raise(RawBody::from(text)).await;
        assert_eq!(read("not json".into()).await, (Value::Null, false));
        let (value, too_large) = read(format!(r#"{{"kind":"fall","x":"{}"}}"#, "y".repeat(RAISE))).await;
        assert_eq!((value["kind"].as_str(), too_large), (Some("fall"), true));
        assert_eq!(read("y".repeat(RAISE_READ + 1)).await, (Value::Null, true));
    }
}
