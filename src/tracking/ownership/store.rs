//! What ownership needs from the store. Every method is one use case and atomic.

use super::super::FixKey;
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, UserId};
use async_trait::async_trait;

/// A fencing token: of a device, only the newest one counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FencingToken(pub i64);

/// A device that a node took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The token that the store asks for from now on.
    pub token: FencingToken,
    /// Another node owned it until now, and may have read fixes that it has not stored yet.
    pub from_another: bool,
}

/// A device whose owner is gone and that nobody else has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// Whose.
    pub user: UserId,
    /// Their tracked device.
    pub device: DeviceId,
    /// How far its fixes are evaluated, if that alone says whether some are left.
    pub folded_to: Option<FixKey>,
}

/// The owners of devices, and the nodes that live.
#[async_trait]
pub trait OwnershipStore: Send + Sync {
    /// Makes a node the owner of a device. What comes with an earlier token is refused from now on.
    async fn take_device(&self, device: DeviceId, node: NodeId) -> Stored<Taken>;
    /// Tracked devices whose owner is gone and has not given them back, at most `limit`: of a process that ended, or of a
    /// node without a heartbeat for [`FORGOTTEN_AFTER_S`] seconds. The store of a single node returns them once.
    async fn orphans(&self, limit: u32) -> Stored<Vec<Orphan>>;
    /// The node lives; it says so every few seconds.
    async fn heartbeat(&self, node: NodeId) -> Stored<()>;
    /// The node ends: devices that it has not given back are orphans at once.
    async fn end_node(&self, node: NodeId) -> Stored<()>;
    /// Notes that a socket of the device sends fixes. A later claim is a higher number; sockets of earlier ones close.
    async fn claim_stream(&self, device: DeviceId) -> Stored<i64>;
    /// The newest claims of those of the devices that have any.
    async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>>;
}

/// Seconds after its last heartbeat at which a node is taken to be gone.
pub const FORGOTTEN_AFTER_S: u32 = 20;
