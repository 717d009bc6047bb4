//! Refusals as clients see them, on every transport: a code to act on and a detail for a person (RFC 9457 over REST, an
//! `error` frame on the stream).
//!
//! Each domain's refusal is mapped here, in `mapping`, and nowhere else; what lies behind a failure is logged there, once,
//! and never shown.

mod mapping;

use crate::refusal::FieldFault;
use crate::role::Role;
use std::borrow::Cow;
use std::time::Duration;

/// The stable word of a refusal, the same on every transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// A field, a frame or the whole request cannot be used.
    InvalidRequest,
    /// No valid token, or a wrong password.
    Unauthenticated,
    /// The token is good, but not for this.
    Forbidden,
    /// Needs a password or PIN given again.
    StepUpRequired,
    /// A PIN is set and none was given.
    PinRequired,
    /// The PIN is wrong.
    PinWrong,
    /// Not there, or not yours.
    NotFound,
    /// A position that cannot be seen, for whatever reason.
    NotAvailable,
    /// Nodes of another role answer this.
    Misdirected,
    /// The path does not take this method.
    MethodNotAllowed,
    /// Something stands against it.
    Conflict,
    /// More than is taken at once.
    TooLarge,
    /// The body is compressed in a way that is not read.
    UnsupportedCoding,
    /// Too many tries.
    RateLimited,
    /// A fault in cima.
    Internal,
    /// May work later.
    Unavailable,
    /// Only on the stream: no frame has this type.
    UnknownType,
    /// Only on the stream: positions need a token that is good now.
    TokenExpired,
    /// Only on the stream: more than one socket may watch.
    LimitReached,
}

impl Code {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::StepUpRequired => "step_up_required",
            Self::PinRequired => "pin_required",
            Self::PinWrong => "pin_wrong",
            Self::NotFound => "not_found",
            Self::NotAvailable => "not_available",
            Self::Misdirected => "misdirected",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::UnknownType => "unknown_type",
            Self::TokenExpired => "token_expired",
            Self::LimitReached => "limit_reached",
        }
    }

    /// The word in words, for a person.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request cannot be used",
            Self::Unauthenticated => "Not signed in",
            Self::Forbidden => "Not with this token",
            Self::StepUpRequired => "Step-up needed",
            Self::PinRequired => "PIN needed",
            Self::PinWrong => "Wrong PIN",
            Self::NotFound => "Not found",
            Self::NotAvailable => "Not available",
            Self::Misdirected => "Another node answers this",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::TooLarge => "Too large",
            Self::UnsupportedCoding => "Compressed in a way that is not read",
            Self::RateLimited => "Too many tries",
            Self::Internal => "A fault of the server",
            Self::Unavailable => "Not possible now",
            Self::UnknownType => "No such frame",
            Self::TokenExpired => "The token has expired",
            Self::LimitReached => "Too many at once",
        }
    }
}

/// A refusal on its way out.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldFault>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A refusal with a code and what happened.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// Fields that cannot be used.
    pub fn invalid_fields(errors: Vec<FieldFault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => Cow::Owned(format!("{}: {}", one.field, one.detail)),
            _ => Cow::Borrowed("some fields cannot be used"),
        };
        Self { errors, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// A field that cannot be used, and what it should be.
    pub fn invalid(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid_fields(vec![FieldFault::new(field, detail)])
    }

    /// Not there, or not the caller's: one answer, whatever was asked for.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "not there, or not yours")
    }

    /// A position that cannot be seen: the same bytes for every reason.
    pub fn not_available() -> Self {
        Self::new(Code::NotAvailable, "not available")
    }

    /// A path that nodes of another role answer.
    pub fn misdirected(to: Role) -> Self {
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
    pub fn internal() -> Self {
        Self::new(Code::Internal, "the server failed; the same request may fail again")
    }

    /// What kind of refusal it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What happened, for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that cannot be used.
    pub fn errors(&self) -> &[FieldFault] {
        &self.errors
    }

    /// After how long a client may come back.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
