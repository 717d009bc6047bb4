//! Tracking: the stream of fixes, the geofences, and the transitions between them.
//!
//! [`evaluate`] is the rule (membership + fix -> membership; pure). A [`Tracker`] folds one device's fixes through it;
//! [`Recorder`] makes fixes durable in groups; a [`Person`] holds the tracker of somebody's tracked device and
//! rebuilds it from the store; [`Tracking`] is the service that the doors call. A public [`Zone`] is nobody's own: whoever
//! enters it is told.

mod elsewhere;
mod evaluate;
mod event_order;
mod fence;
mod fences;
mod hold;
mod person;
mod position;
mod rebuild;
mod recorder;
mod refusal;
mod retention;
mod service;
mod store;
mod store_folds;
mod store_retention;
mod tracker;
mod zones;

pub use evaluate::{Membership, crosses, evaluate};
pub use event_order::{event_order, page_start};
pub use fence::{FenceIn, Geofence, Severity, Transition, Trigger, is_name};
pub use fences::Fences;
pub use hold::{Held, Hold};
pub use person::Person;
pub use position::Position;
pub use rebuild::Rebuild;
pub use recorder::{Receipt, Recorded, Recorder};
pub use refusal::TrackingError;
pub use retention::Kept;
pub use service::{Folding, Ingest, Tracking};
pub use store::{
    DeviceTail, FenceCreated, FenceState, FixBatch, FixStore, NewFix, StoredFix, StoredTransition,
    TrackingStore,
};
pub use store_folds::{FORGOTTEN_AFTER_S, FoldStore, FoldToken, LeftFold, Taken};
pub use store_retention::{Incident, Keeper, RetentionStore, TrailPart, TrailStore};
pub use tracker::{Crossing, Place, SinkMessage, Tracker, TransitionBatch, TransitionSink};
pub use zones::{
    Feature, Zone, ZoneChanges, ZoneDraft, ZoneMoves, ZoneSink, ZoneStep, ZoneStore, ZoneVisit, nearest,
    read_features,
};
