//! Tracking: the stream of fixes, the geofences, and the transitions between them.
//!
//! [`evaluate`] is the rule (membership + fix -> membership; pure). A [`Tracker`] applies it to one device's fixes;
//! [`Recorder`] makes fixes durable in groups; a [`Person`] holds the tracker of somebody's tracked device and
//! rebuilds it from the store; [`Tracking`] is the service that the transports call. A public [`Zone`] is nobody's own: whoever
//! enters it is told.
//!
//! `fences`, `ownership` (which node evaluates a device), `retention` and `zones` are folders of their own, each with its
//! types, its use cases and what it needs stored.

mod companion;
mod elsewhere;
mod evaluate;
mod event_order;
mod fences;
mod ownership;
mod person;
mod position;
mod rebuild;
mod recorder;
mod refusal;
mod retention;
mod service;
mod store;
mod tracker;
mod zones;

pub use companion::Companion;
pub use evaluate::{Membership, crosses, evaluate};
pub use event_order::{Arrival, Bounds, Place, Reading, TrackPage, event_order, last_of, newest_of};
pub use fences::{FenceIn, Fences, Geofence, Severity, Transition, Trigger, fault_of_name};
pub use ownership::{FORGOTTEN_AFTER_S, FencingToken, Orphan, Owner, Ownership, OwnershipStore, Taken};
pub use person::Person;
pub use position::Position;
pub use rebuild::Rebuild;
pub use recorder::{Receipt, Recorded, Recorder};
pub use refusal::TrackingError;
pub use retention::{Incident, Keeper, Kept, RetentionStore, TrailPart, TrailStore};
pub use service::{Evaluation, Ingest, Tracking};
pub use store::{
    DeviceTail, FenceCreated, FenceState, FixBatch, FixStore, NewFix, StoredFix, StoredTransition,
    TrackingStore,
};
pub use tracker::{Crossing, FixKey, SinkMessage, Tracker, TransitionBatch, TransitionSink};
pub use zones::{
    Feature, Zone, ZoneChanges, ZoneDraft, ZoneMoves, ZoneSink, ZoneStep, ZoneStore, ZoneVisit, nearest,
    read_features,
};
