//! Check-ins: a timer that its person completes in time, or an emergency is raised for them.
//!
//! `machine` says how one changes, `service` is the use cases, `store` what they need stored.

mod machine;
mod service;
mod store;

pub use machine::{CheckIn, CheckInDue, CheckInState};
pub use service::{CheckInIn, CheckIns};
pub use store::{CheckInCreated, CheckInCursor, CheckInStore, Fired};
