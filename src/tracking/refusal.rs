//! Why tracking says no.

use crate::error::StoreError;
use crate::geo::ShapeFault;

/// Every way tracking refuses.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// A field of the request is not usable.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it should be.
        detail: String,
    },
    /// The shape means nothing; where and why.
    #[error("the shape is broken")]
    BrokenShape(Vec<ShapeFault>),
    /// More fences or vertices than a person may have.
    #[error("at most 200 fences and 50,000 vertices a person")]
    TooMany,
    /// The id is somebody else's.
    #[error("this id is taken")]
    Conflict,
    /// Not there, or not yours.
    #[error("no such geofence")]
    NotFound,
    /// The node takes no fixes now.
    #[error("fixes cannot be stored now")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TrackingError {
    /// A field that is not usable, and what it should be.
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }
}
