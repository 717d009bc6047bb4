//! Who folds what. One process has the files, so tokens live and end with it.

use super::SqliteStore;
use super::failure::read;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, UserId};
use crate::tracking::{FoldStore, FoldToken, LeftFold, Taken};
use async_trait::async_trait;
use dashmap::DashMap;
use sqlx::query_as;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use uuid::Uuid;

/// The folds of this process.
#[derive(Default)]
pub(super) struct Folds {
    tokens: DashMap<DeviceId, (FoldToken, NodeId)>,
    claims: DashMap<DeviceId, i64>,
    last: AtomicI64,
    /// What the process before left was told.
    told: AtomicBool,
}

impl Folds {
    fn next(&self) -> i64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the token is the device's newest.
    pub(super) fn is_newest(&self, device: DeviceId, token: FoldToken) -> bool {
        self.tokens.get(&device).is_some_and(|newest| newest.0 == token)
    }

    /// Gives a fold back, unless somebody took it meanwhile.
    pub(super) fn give_back(&self, device: DeviceId, token: FoldToken) {
        self.tokens.remove_if(&device, |_, newest| newest.0 == token);
    }
}

#[async_trait]
impl FoldStore for SqliteStore {
    async fn take_fold(&self, device: DeviceId, node: NodeId) -> Stored<Taken> {
        let token = FoldToken(self.folds.next());
        let before = self.folds.tokens.insert(device, (token, node));
        Ok(Taken { token, from_another: before.is_some_and(|(_, other)| other != node) })
    }

    async fn left_folds(&self, _limit: u32) -> Stored<Vec<LeftFold>> {
        if self.folds.told.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let tracked = query_as::<_, (Uuid, Uuid, Option<i64>, Option<i64>)>(
            "SELECT d.user_id, d.id, t.folded_at, t.folded_seq
             FROM devices d LEFT JOIN device_tails t ON t.device_id = d.id WHERE d.tracked = 1",
        );
        let rows = read(tracked.fetch_all(&self.db.readers)).await?;
        self.folds.told.store(true, Ordering::Relaxed);
        let left = |(user, device, at, seq): (Uuid, Uuid, Option<i64>, Option<i64>)| LeftFold {
            user: UserId(user),
            device: DeviceId(device),
            folded_to: at.map(Timestamp::from_unix_ms).zip(seq),
        };
        Ok(rows.into_iter().map(left).collect())
    }

    async fn node_lives(&self, _node: NodeId) -> Stored<()> {
        Ok(())
    }

    async fn node_ends(&self, _node: NodeId) -> Stored<()> {
        Ok(())
    }

    async fn claim_stream(&self, device: DeviceId) -> Stored<i64> {
        let claim = self.folds.next();
        self.folds.claims.entry(device).and_modify(|newest| *newest = claim.max(*newest)).or_insert(claim);
        Ok(claim)
    }

    async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let claim = |device: &DeviceId| Some((*device, *self.folds.claims.get(device)?));
        Ok(devices.iter().filter_map(claim).collect())
    }
}
