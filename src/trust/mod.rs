//! Trust: who may be told about whom, and who may see whose position.
//!
//! A link is granted BY a subject TO a contact and never works the other way by itself. [`visibility`] is the one
//! place that decides, and the only builder of a [`Grant`]; nothing reads another person's position without one.

mod disclosure;
mod link;
mod refusal;
mod service;
mod store;
mod visibility;

pub use disclosure::{Disclosed, Disclosure, DisclosureKey, DisclosureLedger};
pub use link::{LinkPatch, LinkRole, LinkState, NewLink, Scope, Scopes, TrustLink};
pub use refusal::TrustError;
pub use service::{LinkIn, Trust};
pub use store::{LinkCreated, TrustStore};
pub use visibility::{Basis, EmergencyFacts, Grant, LEASE, may_see_fences_inside, visibility};
