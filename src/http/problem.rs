//! Refusals, as RFC 9457 problems. Each room's error is mapped here and nowhere else; what lies behind a failure is
//! logged here, once, and never shown.

use crate::alerts::AlertError;
use crate::error::StoreError;
use crate::geo::ShapeFault;
use crate::identity::IdentityError;
use crate::push::PushError;
use crate::role::Role;
use crate::tracking::TrackingError;
use crate::trust::TrustError;
use crate::usecases::Refusal;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// The stable word of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Code {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    StepUpRequired,
    PinRequired,
    PinWrong,
    NotFound,
    NotAvailable,
    Misdirected,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    RateLimited,
    Internal,
    Unavailable,
}

impl Code {
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::InvalidRequest => {
                ("invalid_request", StatusCode::BAD_REQUEST, "The request cannot be used")
            }
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, "Not signed in"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "Not with this token"),
            Self::StepUpRequired => ("step_up_required", StatusCode::FORBIDDEN, "Step-up needed"),
            Self::PinRequired => ("pin_required", StatusCode::FORBIDDEN, "PIN needed"),
            Self::PinWrong => ("pin_wrong", StatusCode::FORBIDDEN, "Wrong PIN"),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND, "Not found"),
            Self::NotAvailable => ("not_available", StatusCode::NOT_FOUND, "Not available"),
            Self::Misdirected => {
                ("misdirected", StatusCode::MISDIRECTED_REQUEST, "Another node answers this")
            }
            Self::MethodNotAllowed => {
                ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "Conflict"),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
            Self::RateLimited => ("rate_limited", StatusCode::TOO_MANY_REQUESTS, "Too many tries"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "A fault of the server"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Not possible now"),
        }
    }
    pub(super) const fn word(self) -> &'static str {
        self.parts().0
    }
    pub(super) const fn status(self) -> StatusCode {
        self.parts().1
    }
}

/// One field that cannot be used.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FieldFault {
    /// Its path, such as `device.name` or `shape.coordinates[0][3]`.
    pub(super) field: String,
    /// A stable word for what is wrong, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) code: Option<&'static str>,
    /// What it should be.
    pub(super) detail: String,
}

/// A refusal on its way out; `application/problem+json`.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldFault>,
    retry_after: Option<Duration>,
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

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// Fields that cannot be used.
    pub(super) fn invalid_fields(errors: Vec<FieldFault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => Cow::Owned(format!("{}: {}", one.field, one.detail)),
            _ => Cow::Borrowed("some fields cannot be used"),
        };
        Self { errors, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// A field that cannot be used, and what it should be.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldFault { field: field.into(), code: None, detail: detail.into() }])
    }

    /// Not there, or not the caller's: one answer, whatever was asked for.
    pub(super) fn not_found() -> Self {
        Self::new(Code::NotFound, "not there, or not yours")
    }

    /// A position that cannot be seen: the same bytes for every reason.
    pub(super) fn not_available() -> Self {
        Self::new(Code::NotAvailable, "not available")
    }

    /// A path that nodes of another role answer.
    pub(super) fn misdirected(to: Role) -> Self {
        Self::new(
            Code::Misdirected,
            format!("this node does not answer this path; ask one with role {}", to.word()),
        )
    }

    /// Something that may work later.
    pub fn unavailable(detail: &'static str) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(Code::Unavailable, detail) }
    }

    /// A fault in cima; whoever found it has logged it.
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "the server failed; the same request may fail again")
    }

    /// The stable word of the refusal.
    pub fn code(&self) -> &'static str {
        self.code.word()
    }

    /// What happened, for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status, title) = self.code.parts();
        let body = ProblemBody {
            kind: format!("urn:cima:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail: &self.detail,
            errors: &self.errors,
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes back to the second must not be early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000) as u64));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                tracing::error!(%source, "the store did not answer");
                Self::unavailable("this cannot be done now; try again")
            }
            StoreError::Corrupt(source) => {
                tracing::error!(%source, "the store answered something unreadable");
                Self::internal()
            }
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Invalid { field, detail } => Self::invalid(field, detail),
            IdentityError::Unauthenticated(why) => Self::new(Code::Unauthenticated, why),
            IdentityError::Forbidden(why) => Self::new(Code::Forbidden, why),
            IdentityError::StepUpRequired => Self::new(Code::StepUpRequired, error.to_string()),
            IdentityError::PinRequired => Self::new(Code::PinRequired, error.to_string()),
            IdentityError::PinWrong => Self::new(Code::PinWrong, error.to_string()),
            IdentityError::TooManyTries(wait) => {
                Self { retry_after: Some(wait), ..Self::new(Code::RateLimited, error.to_string()) }
            }
            IdentityError::HandleTaken => Self::new(Code::Conflict, error.to_string()),
            IdentityError::NotFound => Self::not_found(),
            IdentityError::Store(source) => source.into(),
            IdentityError::Internal(source) => {
                tracing::error!(%source, "identity failed");
                Self::internal()
            }
        }
    }
}

impl From<TrustError> for Problem {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Invalid { field, detail } => Self::invalid(field, detail),
            TrustError::NotFound => Self::not_found(),
            TrustError::NoContact => Self::new(Code::NotFound, "nobody has this handle"),
            TrustError::Conflict => Self::new(Code::Conflict, error.to_string()),
            TrustError::NotAvailable => Self::not_available(),
            TrustError::Store(source) => source.into(),
        }
    }
}

impl From<TrackingError> for Problem {
    fn from(error: TrackingError) -> Self {
        match error {
            TrackingError::Invalid { field, detail } => Self::invalid(field, detail),
            TrackingError::BrokenShape(faults) => {
                Self::invalid_fields(faults.into_iter().map(FieldFault::from).collect())
            }
            TrackingError::TooMany | TrackingError::Conflict => Self::new(Code::Conflict, error.to_string()),
            TrackingError::NotFound => Self::not_found(),
            TrackingError::Busy => Self::unavailable("fixes cannot be stored now; try again"),
            TrackingError::Store(source) => source.into(),
        }
    }
}

impl From<AlertError> for Problem {
    fn from(error: AlertError) -> Self {
        match error {
            AlertError::Invalid { field, detail } => Self::invalid(field, detail),
            AlertError::NotFound(_) => Self::not_found(),
            AlertError::Conflict(why) => Self::new(Code::Conflict, why),
            AlertError::Store(source) => source.into(),
        }
    }
}

impl From<PushError> for Problem {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Invalid { field, detail } => Self::invalid(field, detail),
            PushError::NotFound => Self::not_found(),
            PushError::Store(source) => source.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Identity(error) => error.into(),
            Refusal::Trust(error) => error.into(),
            Refusal::Tracking(error) => error.into(),
            Refusal::Alerts(error) => error.into(),
            Refusal::Push(error) => error.into(),
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<ShapeFault> for FieldFault {
    fn from(fault: ShapeFault) -> Self {
        Self { field: format!("shape.{}", fault.place), code: Some(fault.code), detail: fault.detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn what_lies_behind_a_failure_is_not_shown() {
        let secret = || "postgres://cima:hunter2@db".to_owned();
        let failures: [Problem; 3] = [
            StoreError::Unavailable(secret()).into(),
            TrackingError::Store(StoreError::Corrupt(secret())).into(),
            IdentityError::Internal(secret()).into(),
        ];
        for failure in failures {
            let (status, _, body) = shown(failure).await;
            assert!(status.is_server_error() && !body.to_string().contains("hunter2"), "{body}");
        }
    }
}
