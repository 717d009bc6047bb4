//! Why trust says no.

use crate::error::StoreError;

/// Every way trust refuses.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A field of the request is not usable.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
    /// Not there, or not yours.
    #[error("no such link")]
    NotFound,
    /// There is no account with this handle.
    #[error("nobody has this handle")]
    NoContact,
    /// The pair has a link already.
    #[error("there is a link to this contact already")]
    Conflict,
    /// No link, no scope, no emergency, no fix: one answer.
    #[error("not available")]
    NotAvailable,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
