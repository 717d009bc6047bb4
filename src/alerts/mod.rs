//! Alerts: what is to be told, to whom, and the emergencies that are told first.
//!
//! [`Emergency`] and [`CheckIn`] are the state machines (pure). [`Engine`] turns transitions into alerts; [`Alerts`]
//! is the service behind raising, ending, claiming, check-ins, the inbox and the timers.

mod alert;
mod check_in;
mod check_ins;
mod elsewhere;
mod emergency;
mod engine;
mod raise;
mod reach;
mod refusal;
mod retention;
mod service;
mod store;
mod store_check_in;
mod store_expiry;
mod telling;
mod text;
mod timers;
mod view;
mod words;
mod zones;

pub use alert::{
    AckState, Alert, AlertContent, AlertDraft, AlertKind, AlertView, Audience, Delivery, DeliveryState,
    Inboxed, Lane, Recipients,
};
pub use check_in::{CheckIn, CheckInDue, CheckInState};
pub use check_ins::{CheckInIn, CheckIns};
pub use elsewhere::Versions;
pub use emergency::{
    Claim, Command, Emergency, EmergencyKind, EndWith, Ended, LIFETIME, Manner, Next, Opening, State, Telling,
};
pub use engine::Engine;
pub use raise::{Note, Raise, RaiseIn};
pub use reach::contact_unreachable;
pub use refusal::AlertError;
pub use service::{Accepted, Alerts};
pub use store::{
    AlertsStore, Change, Committed, Folded, Party, Raised, SAME_VISIT, TransitionAlert, TransitionCommit,
    VisitCommit,
};
pub use store_check_in::{CheckInCreated, CheckInPlace, CheckInStore, Fired};
pub use store_expiry::ExpiryStore;
pub use view::{ClaimView, DeliveryView, EmergencyView, contact_view, subject_view};
pub use zones::start_zones;
