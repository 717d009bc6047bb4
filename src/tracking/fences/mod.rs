//! The fences of a person: `fence` is what one is and what can happen at it, `service` the use cases.

mod fence;
mod service;

pub use fence::{FenceIn, Geofence, Severity, Transition, Trigger, fault_of_name};
pub use service::Fences;
