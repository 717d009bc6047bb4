//! What push needs from the store. Every method is one use case and atomic.

use super::{Channel, Endpoint, Notification, Target, Urgency};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{AlertId, DeviceId, EndpointId, UserId};
use async_trait::async_trait;
use uuid::Uuid;

/// A queue of deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Queue {
    /// Through which kind of provider.
    pub channel: Channel,
    /// In which lane.
    pub urgency: Urgency,
}

/// Which delivery, as it was when it was claimed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClaimKey {
    /// The alert.
    pub alert: AlertId,
    /// To where.
    pub endpoint: EndpointId,
    /// How often the delivery had been claimed: whoever claims it later has another number.
    pub claim: i64,
    /// Which registration of the endpoint it was: a later one has another id, though it may have the same token.
    pub registration: Uuid,
}

/// A delivery that is this worker's until its lease ends.
#[derive(Clone, PartialEq, Debug)]
pub struct Claimed {
    /// Which.
    pub key: ClaimKey,
    /// What to send.
    pub notification: Notification,
    /// To where.
    pub target: Target,
    /// How often it was tried before.
    pub tries: u32,
    /// When its alert was stored.
    pub queued_at: Timestamp,
    /// When what it tells of happened.
    pub at: Timestamp,
    /// The person's app has it.
    pub received: bool,
    /// The person looked at it.
    pub seen: bool,
}

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Settlement {
    /// The provider took it.
    Accepted,
    /// The app was faster.
    Unneeded,
    /// It failed and is due again then.
    Retry(Timestamp),
    /// It was not tried, and is due again then.
    Later(Timestamp),
    /// It is given up, for this reason, until somebody replays it.
    Dead(&'static str),
    /// The endpoint is gone, by the provider's word since this time. It is removed, unless it was registered again
    /// after it was claimed or since that time; then the delivery is due at once.
    Gone(Option<Timestamp>),
}

/// A claim and what became of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settled {
    /// Which.
    pub key: ClaimKey,
    /// What.
    pub settlement: Settlement,
}

/// Push's part of the store. Storing an alert makes a delivery for each endpoint of each recipient, in the same
/// transaction.
#[async_trait]
pub trait PushStore: Send + Sync {
    /// Registers the target in place of what the device had in its channel. A token that another device had before
    /// has moved: it is taken from there. `false` if the device is not the person's or was removed.
    async fn register_endpoint(
        &self,
        user: UserId,
        device: DeviceId,
        target: &Target,
        at: Timestamp,
    ) -> Stored<bool>;
    /// Forgets the device's endpoint in a channel. `false` if there is none.
    async fn remove_endpoint(&self, user: UserId, device: DeviceId, channel: Channel) -> Stored<bool>;
    /// The person's endpoints, by device and channel.
    async fn endpoints(&self, user: UserId) -> Stored<Vec<Endpoint>>;
    /// When the alert of the oldest delivery of an emergency was stored that no provider has taken yet.
    async fn oldest_emergency_push(&self) -> Stored<Option<Timestamp>>;
    /// The earliest time at which a delivery of the queue is due.
    async fn next_push(&self, queue: Queue) -> Stored<Option<Timestamp>>;
    /// Takes deliveries that are due at `now`, the longest due first, at most `limit` and none of the services in
    /// `except`; they are due again at `lease_until` unless settled.
    async fn claim_pushes(
        &self,
        queue: Queue,
        except: &[String],
        limit: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Stored<Vec<Claimed>>;
    /// Writes down what became of claims; what a provider took is sent, whoever has claimed it since. Removing the last
    /// endpoint of a person tells those whose contact they are. Returns whose inboxes got something.
    async fn settle_pushes(
        &self,
        urgency: Urgency,
        settled: &[Settled],
        now: Timestamp,
    ) -> Stored<Vec<UserId>>;
    /// What a process that is gone had claimed is due at once. A store that several processes share does nothing here:
    /// it cannot know which of them is gone, and leases end. How many there were.
    async fn recover_pushes(&self, now: Timestamp) -> Stored<u64>;
    /// Gives up what has had its time, and removes platform tokens that were last registered before `expired` as
    /// [`Settlement::Gone`] does. Returns whose inboxes got something.
    async fn sweep_pushes(&self, now: Timestamp, expired: Timestamp) -> Stored<Vec<UserId>>;
    /// What was given up is due again, with a fresh deadline. How many there were.
    async fn replay_pushes(&self, now: Timestamp) -> Stored<u64>;
}
