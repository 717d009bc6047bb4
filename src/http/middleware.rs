//! What every request passes: it is counted, bounded in time, finished once begun, and a panic is an answer.

use super::Problem;
use super::problem::Code;
use crate::role::Roles;
use crate::runtime::detach;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

/// Where emergencies are raised.
const RAISE: &str = "/v1/emergencies";

/// Counts a request by its route (never by its path, which carries ids), and sets the headers of every answer.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("http", method, route);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("cima_http_request_seconds", "method" => method, "route" => route, "status" => status)
        .record(began.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Says which role answers a path that this node does not: that it were not there would be wrong.
pub(super) async fn direct(State(roles): State<Roles>, request: Request, next: Next) -> Response {
    match roles.misdirected(request.uri().path()) {
        Some(role) => Problem::misdirected(role).into_response(),
        None => next.run(request).await,
    }
}

/// Says that a body is compressed in a way that is not read. A raise is never refused: it is taken without what is in it.
pub(super) async fn coding(request: Request, next: Next) -> Response {
    let coding = request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let is_read = coding.is_none_or(|coding| {
        [b"identity".as_slice(), b"gzip", b"zstd"].iter().any(|read| coding.eq_ignore_ascii_case(read))
    });
    if is_read || request.uri().path() == RAISE {
        return next.run(request).await;
    }
    Problem::new(Code::UnsupportedCoding, "a body is read as it is, or compressed with gzip or zstd")
        .into_response()
}

/// A client may invent methods; a label may not have as many values.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Answers when the time is up.
pub(super) async fn deadline(State(within): State<Duration>, request: Request, next: Next) -> Response {
    match timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("this took too long; try again").into_response(),
    }
}

/// Finishes a request that changes something, even if its client has gone or its time is up. A change that is stored but
/// not yet published would be worse than one that nobody waited for.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (done, answer) = oneshot::channel();
    let work = async move {
        // An error means that the client has gone.
        let _ = done.send(next.run(request).await);
    };
    detach("request", work.in_current_span());
    answer.await.unwrap_or_else(|_| Problem::internal().into_response())
}

/// The answer of a handler that panicked. The panic's words stay in the log.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said.unwrap_or("something"), "a handler panicked");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use std::sync::Arc;
    use tokio::sync::Notify;
    use tower::util::ServiceExt;

    fn request(method: &str, uri: &str) -> Request {
        axum::http::Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_and_says_nothing_else() {
        async fn broken() -> &'static str {
            panic!("secret")
        }
        let app = Router::new()
            .route("/x", get(broken))
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked))
            .layer(axum::middleware::from_fn(observe));
        let response = app.oneshot(request("GET", "/x")).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[tokio::test]
    async fn a_change_that_took_too_long_is_answered_and_still_finished() {
        let (go, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wait, say) = (Arc::clone(&go), Arc::clone(&finished));
        let handler = move || {
            let (wait, say) = (Arc::clone(&wait), Arc::clone(&say));
            async move {
                wait.notified().await;
                say.notify_one();
            }
        };
        let app = Router::new()
            .route("/x", post(handler))
            .layer(axum::middleware::from_fn(finish))
            .layer(axum::middleware::from_fn_with_state(Duration::from_millis(10), deadline));
        let response = app.oneshot(request("POST", "/x")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        go.notify_one();
        finished.notified().await;
    }
}
