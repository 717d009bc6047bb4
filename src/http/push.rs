//! Where a device is reached while its app is not there.

use super::Problem;
use super::auth::Access;
use super::body::Body;
use super::docs::{Missing, NoAccess, NoStepUp, Unusable};
use super::page::Id;
use crate::id::DeviceId;
use crate::push::{Channel, EndpointIn, EndpointView, SubscriptionKeys};
use crate::services::Services;
use crate::usecases::devices;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::new()
        .routes(routes!(offered))
        .routes(routes!(list_endpoints))
        .routes(routes!(register_endpoint, remove_endpoint))
}

/// The device and channel of a path. What is malformed is not there.
struct EndpointPath(DeviceId, Channel);

impl<S: Send + Sync> FromRequestParts<S> for EndpointPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let place = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((device, channel)) = place.map_err(|_| Problem::not_found())?;
        let device = device.parse().map_err(|_| Problem::not_found())?;
        Ok(Self(device, Channel::from_word(&channel).ok_or_else(Problem::not_found)?))
    }
}

/// What this server pushes through.
#[derive(Serialize, utoipa::ToSchema)]
struct PushOffered {
    /// The channels that are on. An endpoint of another may be registered; it is used once its channel is on.
    channels: Vec<Channel>,
    /// What a browser subscribes with (`applicationServerKey`), if Web Push is on.
    web_push_key: Option<String>,
}

/// What this server pushes through.
#[utoipa::path(
    get, path = "/v1/push", tag = "identity",
    responses((status = 200, description = "Channels and keys", body = PushOffered))
)]
async fn offered(State(services): State<Services>) -> Json<PushOffered> {
    let (channels, key) = services.push.offered();
    Json(PushOffered { channels, web_push_key: key.map(str::to_owned) })
}

/// A device's endpoints.
#[derive(Serialize, utoipa::ToSchema)]
struct PushEndpoints {
    /// One a channel, at most.
    items: Vec<EndpointView>,
}

/// How a device of mine is reached. A `stale` endpoint should be registered again.
#[utoipa::path(
    get, path = "/v1/devices/{id}/push", tag = "identity",
    security(("access" = [])),
    params(("id" = uuid::Uuid, Path, description = "The device.")),
    responses((status = 200, description = "Its endpoints", body = PushEndpoints), NoAccess, Missing)
)]
async fn list_endpoints(
    State(services): State<Services>,
    Access(caller): Access,
    Id(id): Id<DeviceId>,
) -> Result<Json<PushEndpoints>, Problem> {
    Ok(Json(PushEndpoints { items: devices::endpoints(&services, caller, id).await? }))
}

/// The body by channel; this type is only for the document.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = PushEndpointIn)]
#[expect(
    dead_code,
    reason = "handlers read `EndpointIn`, which names a field that its channel does not have"
)]
enum EndpointBody {
    /// fcm, apns.
    #[schema(title = "Token")]
    Token(TokenBody),
    /// webpush.
    #[schema(title = "PushSubscription")]
    Subscription(SubscriptionBody),
    /// webhook.
    #[schema(title = "Webhook")]
    Webhook(WebhookBody),
    /// email.
    #[schema(title = "Mailbox")]
    Email(EmailBody),
}

/// fcm, apns.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only for the document")]
struct TokenBody {
    /// What the platform gave the app.
    #[schema(min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    token: String,
}

/// webpush: a W3C PushSubscription as a browser writes it.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only for the document")]
struct SubscriptionBody {
    /// Where the push service takes messages; https, on the public internet.
    endpoint: String,
    /// The browser's keys.
    keys: SubscriptionKeys,
    /// Of no use here.
    #[serde(rename = "expirationTime")]
    expiration_time: Option<f64>,
}

/// webhook.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only for the document")]
struct WebhookBody {
    /// Where requests go; https, on the public internet.
    url: String,
    /// `whsec_` and base64 of 24 to 64 bytes. Another than before: both sign for a day. Without one it is made.
    secret: Option<String>,
}

/// email.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only for the document")]
struct EmailBody {
    /// The mailbox.
    #[schema(max_length = 254)]
    address: String,
}

/// A webhook's secret that was made.
#[derive(Serialize, utoipa::ToSchema)]
struct SecretMade {
    /// What requests are signed with (Standard Webhooks); shown this once.
    secret: String,
}

/// Registers how a device of mine is reached through a channel, in place of what was there. Repeat it whenever the app
/// starts: tokens grow old. A webhook or a mailbox needs step-up.
#[utoipa::path(
    put, path = "/v1/devices/{id}/push/{channel}", tag = "identity",
    security(("access" = [])),
    params(
        ("id" = uuid::Uuid, Path, description = "The device."),
        ("channel" = Channel, Path, description = "The kind of provider."),
    ),
    request_body = EndpointBody,
    responses(
        (status = 204, description = "Registered"),
        (status = 200, description = "A webhook, registered with a secret that was made for it", body = SecretMade),
        Unusable, NoStepUp, Missing,
    )
)]
async fn register_endpoint(
    State(services): State<Services>,
    Access(caller): Access,
    EndpointPath(device, channel): EndpointPath,
    Body(given): Body<EndpointIn>,
) -> Result<Response, Problem> {
    let made = devices::register_endpoint(&services, caller, device, channel, given).await?;
    Ok(match made {
        Some(secret) => Json(SecretMade { secret }).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Forgets how a device of mine is reached through a channel.
#[utoipa::path(
    delete, path = "/v1/devices/{id}/push/{channel}", tag = "identity",
    security(("access" = [])),
    params(
        ("id" = uuid::Uuid, Path, description = "The device."),
        ("channel" = Channel, Path, description = "The kind of provider."),
    ),
    responses((status = 204, description = "Forgotten"), NoAccess, Missing)
)]
async fn remove_endpoint(
    State(services): State<Services>,
    Access(caller): Access,
    EndpointPath(device, channel): EndpointPath,
) -> Result<StatusCode, Problem> {
    services.push.unregister(caller.user, device, channel).await?;
    Ok(StatusCode::NO_CONTENT)
}
