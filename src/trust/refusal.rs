//! Why trust says no.

use crate::error::StoreError;
use crate::refusal::FieldFault;
use std::borrow::Cow;

/// Every way trust refuses.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
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
    /// There is no account with this handle.
    #[error("nobody has this handle")]
    NoContact,
    /// No link, no scope, no emergency, no fix: one answer.
    #[error("not available")]
    NotAvailable,
}

impl TrustError {
    /// A field that cannot be used, and what it should be.
    pub fn invalid(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(FieldFault::new(field, detail))
    }
}
