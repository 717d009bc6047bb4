//! Why identity says no.

use crate::error::StoreError;
use std::time::Duration;

/// Every way identity refuses.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A field of the request is not usable.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
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
    /// The handle belongs or belonged to somebody.
    #[error("this handle is taken")]
    HandleTaken,
    /// Not there, or not yours.
    #[error("no such device")]
    NotFound,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault in cima itself.
    #[error("{0}")]
    Internal(String),
}

impl IdentityError {
    /// A field that is not usable, and what it should be.
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }
}
