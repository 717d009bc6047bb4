//! What every domain's refusal is made of.
//!
//! Each domain has one enum of the ways it says no, and all of them begin alike: `Invalid` (a field that cannot be used),
//! `NotFound` (not there, or not yours: what), `Conflict` (what stands against it), `Store` (the store failed). What only
//! one domain knows comes after. [`Problem`](crate::problem::Problem) maps each of them, without a rest.

use serde::Serialize;
use std::borrow::Cow;

/// One field that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error, utoipa::ToSchema)]
#[error("{field}: {detail}")]
pub struct FieldFault {
    /// Its path, such as `device.name` or `shape.coordinates[0][3]`.
    #[schema(value_type = String)]
    pub field: Cow<'static, str>,
    /// A stable word for what is wrong, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<&'static str>,
    /// What it should be.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

impl FieldFault {
    /// A field, and what it should be.
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), code: None, detail: detail.into() }
    }
}
