//! Why alerts say no.

use crate::error::StoreError;

/// Every way alerts refuse. Raising is never among them but for a dead store.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// A field of the request is not usable.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
    /// Not there, or not yours.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// It has ended, or is not there yet.
    #[error("{0}")]
    Conflict(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
