//! Why tracking says no.

use crate::error::StoreError;
use crate::geo::ShapeFault;
use crate::refusal::FieldFault;
use std::borrow::Cow;

/// Every way tracking refuses.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
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
    /// The shape means nothing; where and why.
    #[error("the shape is broken")]
    BrokenShape(Vec<ShapeFault>),
    /// The node takes no fixes now.
    #[error("fixes cannot be stored now")]
    Busy,
}

impl TrackingError {
    /// A field that cannot be used, and what it should be.
    pub fn invalid(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(FieldFault::new(field, detail))
    }
}
