//! Why an endpoint cannot be registered.

use crate::error::StoreError;

/// A refusal, for the door.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A field cannot be used.
    #[error("{field}: {detail}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// What it should be.
        detail: &'static str,
    },
    /// The device is not the person's, or nothing is registered there.
    #[error("not found")]
    NotFound,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
