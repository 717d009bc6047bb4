//! A [`Problem`] as an HTTP response (RFC 9457): its code decides the status.

pub(super) use crate::problem::{Code, Problem};
use crate::refusal::FieldFault;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The status that a code is answered with.
pub(super) const fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::StepUpRequired => StatusCode::FORBIDDEN,
        Code::PinRequired => StatusCode::FORBIDDEN,
        Code::PinWrong => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::NotAvailable => StatusCode::NOT_FOUND,
        Code::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Conflict => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // Refusals of frames, which no request meets.
        Code::UnknownType => StatusCode::BAD_REQUEST,
        Code::TokenExpired => StatusCode::UNAUTHORIZED,
        Code::LimitReached => StatusCode::CONFLICT,
    }
}

/// What a problem looks like outside (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// `urn:cima:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// A stable word to act on.
    code: &'static str,
    /// What happened, for a person.
    detail: &'a str,
    /// The fields that cannot be used.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Option<Vec<FieldFault>>)]
    errors: &'a [FieldFault],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status) = (self.code(), status(self.code()));
        let body = ProblemBody {
            kind: format!("urn:cima:problem:{}", code.word()),
            title: code.title(),
            status: status.as_u16(),
            code: code.word(),
            detail: self.detail(),
            errors: self.errors(),
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if code == Code::UnsupportedCoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        if code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after() {
            // Rounded up: a client that comes back to the second must not be early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000) as u64));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityError;
    use std::time::Duration;

    async fn shown(problem: Problem) -> (StatusCode, axum::http::HeaderMap, serde_json::Value) {
        let response = problem.into_response();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_the_rfc_and_the_code() {
        let (status, headers, body) = shown(Problem::invalid("device.name", "1 to 64 characters")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["type"], "urn:cima:problem:invalid_request");
        assert_eq!((&body["status"], &body["code"]), (&400.into(), &"invalid_request".into()));
        assert_eq!(body["errors"][0]["field"], "device.name");
        let (_, _, body) = shown(Problem::not_available()).await;
        assert!(body.get("errors").is_none());
    }

    #[tokio::test]
    async fn a_refusal_carries_the_header_that_a_client_acts_on() {
        let (status, headers, _) = shown(IdentityError::Unauthenticated("no").into()).await;
        assert_eq!(
            (status, &headers[header::WWW_AUTHENTICATE]),
            (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
        );
        let (status, headers, _) =
            shown(IdentityError::TooManyTries(Duration::from_millis(1_001)).into()).await;
        assert_eq!(
            (status, &headers[header::RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &"2".parse().unwrap())
        );
    }
}
