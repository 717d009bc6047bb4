//! Alerts: what is to be told, to whom, and the emergencies that are told first.
//!
//! `emergency`, `check_in` and `retention` are folders of one shape: `machine` is the state machine (pure), `service` the use
//! cases, `store` what they need stored. [`Engine`] turns transitions into alerts; [`Alerts`] is the service that all of
//! it hangs on, with the inbox, the timers, and the decision who may see whom.

mod alert;
mod check_in;
mod elsewhere;
mod emergency;
mod engine;
mod inbox;
mod reach;
mod refusal;
mod retention;
mod service;
mod store;
mod text;
mod timers;
mod words;
mod zones;

pub use alert::{
    AckState, Alert, AlertContent, AlertDraft, AlertKind, AlertView, Audience, Delivery, DeliveryState,
    Inboxed, Lane, Recipients,
};
pub use check_in::{
    CheckIn, CheckInCreated, CheckInCursor, CheckInDue, CheckInIn, CheckInState, CheckInStore, CheckIns,
    Fired,
};
pub use elsewhere::Versions;
pub use emergency::{
    Accepted, Claim, ClaimView, Command, DeliveryView, Emergency, EmergencyKind, EmergencyView, EndWith,
    Ended, LIFETIME, Manner, Next, Notice, OPENINGS_AN_HOUR, Opening, Raise, RaiseIn, State, contact_view,
    subject_view,
};
pub use engine::Engine;
pub use reach::contact_unreachable;
pub use refusal::AlertError;
pub use retention::ExpiryStore;
pub use service::Alerts;
pub use store::{
    AlertsStore, Change, Committed, CommittedTransitions, Names, Party, Raised, SAME_VISIT, TransitionAlert,
    TransitionCommit, VisitCommit,
};
pub use zones::start_zones;
