//! From an HTTP request to a socket: who is it, and with what buffers.

use super::Registry;
use super::close::CloseCode;
use super::connection::{self, Connection};
use crate::identity::bearer;
use crate::problem::Problem;
use crate::services::Services;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;

/// The subprotocol whose frames are JSON.
const JSON_V1: &str = "cima.v1.json";
/// What a socket still reads of a frame that is too large, to be able to close with 1009 instead of breaking off.
const MAX_READ: usize = 2 * 1024 * 1024;
/// Bytes that may wait to be written to a client that does not read.
const MAX_UNWRITTEN: usize = 256 * 1024;

/// What SREs may set about streams.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Unacked fixes of one socket, at most.
    pub window: usize,
    /// Between pings.
    pub heartbeat: Duration,
    /// For one write to a client; beyond, the socket is closed with 4408.
    pub write_deadline: Duration,
}

/// The transport, made once.
pub struct Stream {
    pub(super) services: Services,
    pub(super) registry: Arc<Registry>,
    pub(super) settings: StreamSettings,
}

impl Stream {
    /// The transport in front of these services.
    pub fn new(services: Services, registry: Arc<Registry>, settings: StreamSettings) -> Self {
        Self { services, registry, settings }
    }

    /// Its one route.
    pub fn router(self) -> Router {
        Router::new().route("/v1/stream", get(upgrade)).with_state(Arc::new(self))
    }
}

/// How a client gave its token.
enum Offered {
    Header(String),
    Subprotocol(String),
    None,
}

fn offered(headers: &HeaderMap) -> Offered {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some(token) = authorization.and_then(bearer) {
        return Offered::Header(token.to_owned());
    }
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let mut listed = protocols.flat_map(|v| v.split(',')).map(str::trim);
    match listed.find_map(|p| p.strip_prefix("bearer.")) {
        Some(token) => Offered::Subprotocol(token.to_owned()),
        None => Offered::None,
    }
}

async fn upgrade(
    State(stream): State<Arc<Stream>>,
    headers: HeaderMap,
    ws: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let ws = match ws {
        Ok(ws) => ws,
        Err(rejection) => return Problem::invalid("upgrade", rejection.body_text()).into_response(),
    };
    if stream.services.readiness.is_draining() {
        return Problem::unavailable("the node is stopping; come back").into_response();
    }
    let given = offered(&headers);
    let token = match &given {
        Offered::Header(token) | Offered::Subprotocol(token) => token.as_str(),
        Offered::None => "",
    };
    let caller = stream.services.identity.authenticate(token);
    let ws = ws
        .protocols([JSON_V1])
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNWRITTEN)
        .max_message_size(MAX_READ)
        .max_frame_size(MAX_READ);
    match (caller, given) {
        (Ok(caller), _) => {
            ws.on_upgrade(move |socket| connection::run(Connection::new(stream, caller, socket)))
        }
        // A browser cannot read the status of a failed upgrade: it is let in and told by the close code.
        (Err(_), Offered::Subprotocol(_)) => {
            let close = CloseCode::Token.because("the token is not valid");
            ws.on_upgrade(move |socket| connection::refuse(socket, close))
        }
        (Err(error), _) => Problem::from(error).into_response(),
    }
}
