//! What alerts need from the store. Every method is one use case and atomic; absent is `Ok(None)`.

use super::{AlertDraft, CheckInStore, Delivery, DeliveryState, Emergency, ExpiryStore, Inboxed, State};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, DeviceId, EmergencyId, TransitionId, UserId};
use crate::tracking::{FenceState, FencingToken, Transition, ZoneStep};
use crate::trust::LinkRole;
use async_trait::async_trait;
use std::collections::HashMap;
use std::time::Duration;

/// Whose inboxes got something: it is published to them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// Each once.
    pub told: Vec<UserId>,
}

/// What became of a raise.
#[derive(Clone, PartialEq, Debug)]
pub enum Raised {
    /// It is a new emergency; stored with its alerts.
    Opened(Committed),
    /// This id was raised before: what it is now.
    Repeated(Emergency),
    /// Another one takes joins: join it.
    Open(Emergency),
    /// The id is somebody else's emergency: raise with another.
    IdTaken,
}

/// A change of an emergency, made from `emergency.version - 1`.
pub struct Change<'a> {
    /// After the change.
    pub emergency: &'a Emergency,
    /// A raise that joins: this id of the subject's resolves to the emergency from now on.
    pub joined: Option<EmergencyId>,
    /// What is to be told.
    pub alerts: &'a [AlertDraft],
}

/// A transition and what is to be told about it.
#[derive(Clone, PartialEq, Debug)]
pub struct TransitionAlert {
    /// What happened.
    pub transition: Transition,
    /// What is told; none makes it history only.
    pub alert: Option<AlertDraft>,
    /// No alert if the same fence had one of the same kind less than so long before (in event time).
    pub cooldown: Duration,
}

/// What evaluating a device's fixes changed; stored in one transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct TransitionCommit {
    /// Whose.
    pub owner: UserId,
    /// The tracked device.
    pub device: DeviceId,
    /// The states after it, of the fences that changed.
    pub states: Vec<FenceState>,
    /// The newest fix that is evaluated.
    pub folded_to: (Timestamp, i64),
    /// What happened, in event order.
    pub transitions: Vec<TransitionAlert>,
    /// Transitions that late fixes undid.
    pub retracted: Vec<TransitionId>,
    /// The owner of the device has the newest.
    pub token: FencingToken,
    /// Gives the device back.
    pub last: bool,
    /// More of the same batch follows: states and the newest fix are stored with its last part.
    pub goes_on: bool,
}

/// Entering a zone again so soon after leaving it is the same visit: nobody is told twice because of a wandering fix.
pub const SAME_VISIT: Duration = Duration::from_secs(600);

/// Into which zones somebody went, and out of which.
#[derive(Clone, PartialEq, Debug)]
pub struct VisitCommit {
    /// Who.
    pub user: UserId,
    /// With what is to be told if they are not in it already.
    pub entered: Vec<(ZoneStep, AlertDraft)>,
    /// Those they are in no more.
    pub left: Vec<ZoneStep>,
}

/// What became of commits of transitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommittedTransitions {
    /// Whose inboxes got something, each once.
    pub told: Vec<UserId>,
    /// Indices of the commits that came with an old token; nothing of them is stored.
    pub refused: Vec<usize>,
}

/// What people and devices are called now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// Of people, as they call themselves.
    pub people: HashMap<UserId, String>,
    /// Of devices, those that were removed too.
    pub devices: HashMap<DeviceId, String>,
}

impl Names {
    /// What a device is called, for a list: its id if it is not known.
    pub fn device(&self, device: DeviceId) -> String {
        self.devices.get(&device).cloned().unwrap_or_else(|| device.to_string())
    }
}

/// A person's part in an emergency.
#[derive(Clone, PartialEq, Debug)]
pub struct Party {
    /// The emergency as it truly stands.
    pub emergency: Emergency,
    /// Whether this contact hears of duress. The subject does not.
    pub hears_duress: bool,
}

/// Alerts' part of the store.
#[async_trait]
pub trait AlertsStore: CheckInStore + ExpiryStore {
    /// Stores transitions with their alerts, of those commits whose token is their device's newest. Idempotent by
    /// transition id and alert id.
    async fn commit_transitions(&self, commits: &[TransitionCommit]) -> Stored<CommittedTransitions>;
    /// Stores entries into zones, as they were at that revision, with their alerts, and exits. Idempotent: who is in a zone
    /// already, or left it less than [`SAME_VISIT`] before, is not told. Whose inboxes got something, each once.
    async fn commit_visits(&self, commits: &[VisitCommit]) -> Stored<Vec<UserId>>;
    /// Stores alerts that belong to nothing else.
    async fn tell(&self, alerts: &[AlertDraft]) -> Stored<Committed>;
    /// Raises: finds the emergency of `client_id`, or one to join, or stores this one with its alerts; these
    /// [coalesced](AlertDraft::coalesced) if the person opened [`OPENINGS_AN_HOUR`](super::OPENINGS_AN_HOUR) in the hour before.
    async fn raise(
        &self,
        emergency: &Emergency,
        client_id: EmergencyId,
        alerts: &[AlertDraft],
    ) -> Stored<Raised>;
    /// Stores a change if the version is still the one it was made from; `None` if not.
    async fn change(&self, change: Change<'_>) -> Stored<Option<Committed>>;
    /// The subject's emergency by any of its ids.
    async fn emergency_of(&self, subject: UserId, id: EmergencyId) -> Stored<Option<Emergency>>;
    /// What these people and devices are called, those that there are.
    async fn names(&self, people: &[UserId], devices: &[DeviceId]) -> Stored<Names>;
    /// What a person and all devices they have or had are called.
    async fn names_of(&self, person: UserId) -> Stored<Names>;
    /// The emergency.
    async fn emergency(&self, id: EmergencyId) -> Stored<Option<Emergency>>;
    /// The emergency, if `contact` has part in it: a link of the subject's that is in force at `now` with `alerts` or
    /// `emergency_location`, accepted before the emergency ended; and contacts have been told of it.
    async fn emergency_for(&self, contact: UserId, id: EmergencyId, now: Timestamp) -> Stored<Option<Party>>;
    /// The person's emergencies that are truly open.
    async fn open_of(&self, subject: UserId) -> Stored<Vec<Emergency>>;
    /// All truly open emergencies.
    async fn open(&self) -> Stored<Vec<Emergency>>;
    /// A person's emergencies in one role (as contact by the rule of [`AlertsStore::emergency_for`]) that show this
    /// state to them, newest first, after `after`, at most `limit`.
    async fn emergencies(
        &self,
        user: UserId,
        role: LinkRole,
        state: Option<State>,
        after: Option<EmergencyId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<Party>>;
    /// The earliest time at which an emergency is due.
    async fn next_due(&self) -> Stored<Option<Timestamp>>;
    /// Emergencies due at `now`, the longest overdue first.
    async fn due(&self, now: Timestamp) -> Stored<Vec<Emergency>>;
    /// The ids of those, also where one of them cannot be read.
    async fn due_ids(&self, now: Timestamp) -> Stored<Vec<EmergencyId>>;
    /// How far each of the emergency's raising alerts has come.
    async fn deliveries(&self, emergency: EmergencyId) -> Stored<Vec<Delivery>>;
    /// The newest cursor of an inbox; 0 if empty.
    async fn inbox_head(&self, user: UserId) -> Stored<i64>;
    /// The newest cursor of each of these inboxes that has anything in it.
    async fn inbox_heads(&self, users: &[UserId]) -> Stored<Vec<(UserId, i64)>>;
    /// The inbox after a cursor, in order, at most `limit`.
    async fn inbox_after(&self, user: UserId, cursor: i64, limit: u32) -> Stored<Vec<Inboxed>>;
    /// Moves an alert of the person's forward to `state`. `false` if it is not in their inbox.
    async fn ack(&self, user: UserId, alert: AlertId, state: DeliveryState, at: Timestamp) -> Stored<bool>;
    /// Records that a socket took the inbox from `from` to `to` (both included).
    async fn sent(&self, user: UserId, from: i64, to: i64, at: Timestamp) -> Stored<()>;
}
