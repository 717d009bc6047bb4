//! Which node owns a device: the only one whose findings about it are stored. On PostgreSQL the newest token is a row of
//! `folds`, as the table is called; where one process has the store to itself, tokens live and end with it.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, UserId};
use crate::store::Store;
use crate::store::database::Database;
use crate::store::sql::query;
use crate::tracking::{FORGOTTEN_AFTER_S, FencingToken, Orphan, OwnershipStore, Taken};
use async_trait::async_trait;
use dashmap::DashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Who owns what in the one process that has the store.
#[derive(Default)]
pub(in crate::store) struct Owners {
    tokens: DashMap<DeviceId, (FencingToken, NodeId)>,
    claims: DashMap<DeviceId, i64>,
    last: AtomicI64,
    /// The orphans that the process before left were returned.
    told: AtomicBool,
}

impl Owners {
    fn next(&self) -> i64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn take(&self, device: DeviceId, node: NodeId) -> Taken {
        let token = FencingToken(self.next());
        let before = self.tokens.insert(device, (token, node));
        Taken { token, from_another: before.is_some_and(|(_, other)| other != node) }
    }

    fn claim(&self, device: DeviceId) -> i64 {
        let claim = self.next();
        self.claims.entry(device).and_modify(|newest| *newest = claim.max(*newest)).or_insert(claim);
        claim
    }

    /// Whether the token is the device's newest.
    pub(in crate::store) fn is_newest(&self, device: DeviceId, token: FencingToken) -> bool {
        self.tokens.get(&device).is_some_and(|newest| newest.0 == token)
    }

    /// Gives a device back, unless somebody took it meanwhile.
    pub(in crate::store) fn give_back(&self, device: DeviceId, token: FencingToken) {
        self.tokens.remove_if(&device, |_, newest| newest.0 == token);
    }
}

#[async_trait]
impl OwnershipStore for Store {
    async fn take_device(&self, device: DeviceId, node: NodeId) -> Stored<Taken> {
        match &self.db {
            Database::Lite(_) => Ok(self.owners.take(device, node)),
            Database::Pg(_) => self.db.again(Lane::Routine, || take(&self.db, device, node)).await,
        }
    }

    async fn orphans(&self, limit: u32) -> Stored<Vec<Orphan>> {
        match &self.db {
            Database::Lite(_) if self.owners.told.load(Ordering::Relaxed) => Ok(Vec::new()),
            Database::Lite(_) => {
                let left = left_by_the_process_before(&self.db).await?;
                self.owners.told.store(true, Ordering::Relaxed);
                Ok(left)
            }
            Database::Pg(_) => left_by_silent_nodes(&self.db, limit).await,
        }
    }

    async fn heartbeat(&self, node: NodeId) -> Stored<()> {
        if let Database::Lite(_) = &self.db {
            return Ok(());
        }
        // By the server's clock: those of nodes may differ.
        let lives = || {
            query("INSERT INTO nodes (id, seen_at) VALUES ($1, now()) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at")
                .bind(node)
        };
        self.db.write(Lane::Routine, lives).await?;
        let gone = || query("DELETE FROM nodes WHERE seen_at < now() - interval '1 day'");
        self.db.write(Lane::Routine, gone).await.map(|_| ())
    }

    async fn end_node(&self, node: NodeId) -> Stored<()> {
        if let Database::Lite(_) = &self.db {
            return Ok(());
        }
        let ends = || query("DELETE FROM nodes WHERE id = $1").bind(node);
        self.db.write(Lane::Routine, ends).await.map(|_| ())
    }

    async fn claim_stream(&self, device: DeviceId) -> Stored<i64> {
        match &self.db {
            Database::Lite(_) => Ok(self.owners.claim(device)),
            Database::Pg(_) => claim(&self.db, device).await,
        }
    }

    async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        if let Database::Lite(_) = &self.db {
            let claim = |device: &DeviceId| Some((*device, *self.owners.claims.get(device)?));
            return Ok(devices.iter().filter_map(claim).collect());
        }
        let claims = query("SELECT device_id, claim FROM stream_claims WHERE device_id = ANY ($1)");
        self.db.all(Lane::Routine, claims.bind(devices)).await
    }
}

async fn take(db: &Database, device: DeviceId, node: NodeId) -> Stored<Taken> {
    let mut tx = db.begin(Lane::Routine).await?;
    // Waits for what the owner is just storing.
    let take = query(
        "INSERT INTO folds (device_id, token, node)
         SELECT id, nextval('fold_tokens'), $2 FROM devices WHERE id = $1 FOR KEY SHARE
         ON CONFLICT (device_id) DO UPDATE
             SET token = excluded.token, previous = folds.node, node = excluded.node
         RETURNING token, previous",
    );
    let taken = tx.one::<(i64, Option<NodeId>)>(take.bind(device).bind(node)).await?;
    tx.commit().await?;
    // Of a device that is not there nothing is stored, whatever the token.
    let (token, previous) = taken.unwrap_or_default();
    Ok(Taken { token: FencingToken(token), from_another: previous.is_some_and(|other| other != node) })
}

async fn left_by_silent_nodes(db: &Database, limit: u32) -> Stored<Vec<Orphan>> {
    // One without a fix has nothing to evaluate.
    let left = query(
        "SELECT d.user_id, d.id FROM folds f JOIN devices d ON d.id = f.device_id AND d.tracked
         WHERE NOT EXISTS (SELECT 1 FROM nodes n
                           WHERE n.id = f.node AND n.seen_at > now() - $1 * interval '1 second')
         AND EXISTS (SELECT 1 FROM fixes x WHERE x.device_id = d.id) LIMIT $2",
    );
    let left = left.bind(f64::from(FORGOTTEN_AFTER_S)).bind(limit);
    db.list(Lane::Routine, left, |(user, device)| Orphan { user, device, folded_to: None }).await
}

async fn left_by_the_process_before(db: &Database) -> Stored<Vec<Orphan>> {
    let tracked = query(
        "SELECT d.user_id, d.id, t.folded_at, t.folded_seq
         FROM devices d LEFT JOIN device_tails t ON t.device_id = d.id WHERE d.tracked = 1",
    );
    let left = |(user, device, at, seq): (UserId, DeviceId, Option<Timestamp>, Option<i64>)| Orphan {
        user,
        device,
        folded_to: at.zip(seq),
    };
    db.list(Lane::Routine, tracked, left).await
}

async fn claim(db: &Database, device: DeviceId) -> Stored<i64> {
    let mut tx = db.begin(Lane::Routine).await?;
    let claim = query(
        "INSERT INTO stream_claims (device_id, claim)
         SELECT id, nextval('stream_claims_made') FROM devices WHERE id = $1 FOR KEY SHARE
         ON CONFLICT (device_id) DO UPDATE SET claim = greatest(stream_claims.claim, nextval('stream_claims_made'))
         RETURNING claim",
    );
    let claim = tx.one::<(i64,)>(claim.bind(device)).await?;
    tx.commit().await?;
    Ok(claim.map_or(0, |(claim,)| claim))
}
