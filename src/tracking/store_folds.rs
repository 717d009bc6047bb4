//! Who folds what: one node at a time stores what it finds of a device's fixes, whichever node the phone comes to.

use super::Place;
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, UserId};
use async_trait::async_trait;

/// A fencing token: whoever has taken a device's fold has the only one that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoldToken(pub i64);

/// A fold that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// What the store asks for from now on.
    pub token: FoldToken,
    /// Another node had it until now, and may have fixes in its hands that are not stored yet.
    pub from_another: bool,
}

/// A fold that nobody goes on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftFold {
    /// Whose.
    pub user: UserId,
    /// Their tracked device.
    pub device: DeviceId,
    /// How far it is folded, if that alone says whether something is left to fold.
    pub folded_to: Option<Place>,
}

/// The folds of devices, and the nodes that have them.
#[async_trait]
pub trait FoldStore: Send + Sync {
    /// Gives a device's fold to a node. What earlier tokens bring is refused from now on.
    async fn take_fold(&self, device: DeviceId, node: NodeId) -> Stored<Taken>;
    /// Folds of tracked devices whose node is gone without giving them back, at most `limit`: of a process that ended,
    /// or of a node that has not said for [`FORGOTTEN_AFTER_S`] seconds that it lives. On one node's own store they are
    /// told once.
    async fn left_folds(&self, limit: u32) -> Stored<Vec<LeftFold>>;
    /// The node lives.
    async fn node_lives(&self, node: NodeId) -> Stored<()>;
    /// The node ends: what it has not given back is left.
    async fn node_ends(&self, node: NodeId) -> Stored<()>;
    /// A socket of the device sends fixes. A later claim is a higher number: the sockets of earlier ones are to close.
    async fn claim_stream(&self, device: DeviceId) -> Stored<i64>;
    /// The newest claims of those of the devices that have any.
    async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>>;
}

/// Seconds after which a node that says nothing is gone.
pub const FORGOTTEN_AFTER_S: u32 = 20;
