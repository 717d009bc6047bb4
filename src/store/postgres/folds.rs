//! Who folds what, among many nodes.

use super::PostgresStore;
use super::connect::again;
use super::failure::read;
use crate::alerts::Lane;
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, UserId};
use crate::tracking::{FORGOTTEN_AFTER_S, FoldStore, FoldToken, LeftFold, Taken};
use async_trait::async_trait;
use sqlx::{query, query_as};
use uuid::Uuid;

impl PostgresStore {
    async fn take_fold_once(&self, device: DeviceId, node: NodeId) -> Stored<Option<(i64, Option<Uuid>)>> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        // Waits for what the holder is just storing.
        let take = query_as(
            "INSERT INTO folds (device_id, token, node)
             SELECT id, nextval('fold_tokens'), $2 FROM devices WHERE id = $1 FOR KEY SHARE
             ON CONFLICT (device_id) DO UPDATE
                 SET token = excluded.token, previous = folds.node, node = excluded.node
             RETURNING token, previous",
        );
        let taken = tx.one(take.bind(device.0).bind(node.0)).await?;
        tx.commit().await?;
        Ok(taken)
    }
}

#[async_trait]
impl FoldStore for PostgresStore {
    async fn take_fold(&self, device: DeviceId, node: NodeId) -> Stored<Taken> {
        let taken = again(Lane::Routine, || self.take_fold_once(device, node)).await?;
        // Of a device that is not there nothing is stored, whatever the token.
        let (token, previous) = taken.unwrap_or_default();
        Ok(Taken { token: FoldToken(token), from_another: previous.is_some_and(|other| other != node.0) })
    }

    async fn left_folds(&self, limit: u32) -> Stored<Vec<LeftFold>> {
        // One without a fix has nothing to fold.
        let left = query_as::<_, (Uuid, Uuid)>(
            "SELECT d.user_id, d.id FROM folds f JOIN devices d ON d.id = f.device_id AND d.tracked
             WHERE NOT EXISTS (SELECT 1 FROM nodes n
                               WHERE n.id = f.node AND n.seen_at > now() - $1 * interval '1 second')
             AND EXISTS (SELECT 1 FROM fixes x WHERE x.device_id = d.id) LIMIT $2",
        );
        let left = left.bind(f64::from(FORGOTTEN_AFTER_S)).bind(i64::from(limit));
        let rows = read(left.fetch_all(&self.db.routine)).await?;
        let left =
            |(user, device)| LeftFold { user: UserId(user), device: DeviceId(device), folded_to: None };
        Ok(rows.into_iter().map(left).collect())
    }

    async fn node_lives(&self, node: NodeId) -> Stored<()> {
        // By the server's clock: those of nodes may differ.
        let lives = query(
            "INSERT INTO nodes (id, seen_at) VALUES ($1, now()) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        );
        self.db.write(Lane::Routine, lives.bind(node.0)).await?;
        let gone = query("DELETE FROM nodes WHERE seen_at < now() - interval '1 day'");
        self.db.write(Lane::Routine, gone).await.map(|_| ())
    }

    async fn node_ends(&self, node: NodeId) -> Stored<()> {
        let ends = query("DELETE FROM nodes WHERE id = $1").bind(node.0);
        self.db.write(Lane::Routine, ends).await.map(|_| ())
    }

    async fn claim_stream(&self, device: DeviceId) -> Stored<i64> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        let claim = query_as::<_, (i64,)>(
            "INSERT INTO stream_claims (device_id, claim)
             SELECT id, nextval('stream_claims_made') FROM devices WHERE id = $1 FOR KEY SHARE
             ON CONFLICT (device_id) DO UPDATE SET claim = greatest(stream_claims.claim, nextval('stream_claims_made'))
             RETURNING claim",
        );
        let claim = tx.one(claim.bind(device.0)).await?;
        tx.commit().await?;
        Ok(claim.map_or(0, |(claim,)| claim))
    }

    async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        let claims = query_as::<_, (Uuid, i64)>(
            "SELECT device_id, claim FROM stream_claims WHERE device_id = ANY ($1)",
        );
        let devices: Vec<Uuid> = devices.iter().map(|device| device.0).collect();
        let rows = read(claims.bind(devices).fetch_all(&self.db.routine)).await?;
        Ok(rows.into_iter().map(|(device, claim)| (DeviceId(device), claim)).collect())
    }
}
