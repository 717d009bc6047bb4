//! Alerts: what is to be told, to whom, and the emergencies that are told first.
//!
//! [`Emergency`] is the state machine (pure). [`Engine`] turns transitions into alerts; [`Alerts`] is the service
//! behind raising, ending, claiming, the inbox and the timers.

mod alert;
mod emergency;
mod engine;
mod raise;
mod refusal;
mod service;
mod store;
mod telling;
mod text;
mod timers;
mod view;

pub use alert::{
    Alert, AlertDraft, AlertKind, AlertView, Audience, Delivery, DeliveryState, Inboxed, Lane, Recipients,
};
pub use emergency::{
    Claim, Command, Emergency, EmergencyKind, EndWith, Ended, LIFETIME, Manner, Next, Opening, State, Telling,
};
pub use engine::Engine;
pub use raise::{Note, Raise};
pub use refusal::AlertError;
pub use service::{Accepted, Alerts};
pub use store::{AlertsStore, Change, Committed, Party, Raised, TransitionAlert, TransitionCommit};
pub use view::{ClaimView, DeliveryView, EmergencyView, contact_view, subject_view};
