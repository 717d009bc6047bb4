//! Why identity says no.

use crate::error::StoreError;
use crate::refusal::FieldFault;
use std::borrow::Cow;
use std::time::Duration;

/// Every way identity refuses.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A field of the request cannot be used.
    #[error(transparent)]
    Invalid(#[from] FieldFault),
    /// Not there, or not yours.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// What stands against it.
    #[error("{0}")]
    Conflict(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No valid token, or a wrong password.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The token is good, but not for this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Needs a password or PIN given in the last five minutes.
    #[error("give your password or PIN again (POST /v1/sessions/step-up)")]
    StepUpRequired,
    /// A PIN is set and none was given.
    #[error("a PIN is set; give it")]
    PinRequired,
    /// The PIN is wrong.
    #[error("the PIN is wrong")]
    PinWrong,
    /// Too many wrong tries.
    #[error("too many wrong tries; try again in {} s", .0.as_secs())]
    TooManyTries(Duration),
    /// More secrets wait to be checked than may.
    #[error("too many sign in at once; try again in {} s", .0.as_secs())]
    Busy(Duration),
    /// A fault in cima itself.
    #[error("{0}")]
    Internal(String),
}

impl IdentityError {
    /// A field that cannot be used, and what it should be.
    pub fn invalid(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(FieldFault::new(field, detail))
    }
}
