//! What a fold of fixes changed, stored with the alerts it makes.

use super::PostgresStore;
use super::at::At;
use super::connect::{Tx, again};
use super::inbox::Telling;
use super::tracking::MOVE_TAIL;
use super::values::millis;
use crate::alerts::{Folded, Lane, TransitionAlert, TransitionCommit};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::tracking::FoldToken;
use sqlx::{query, query_as};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Stores the commits in their order, in one transaction. Those of a device that is gone with its person leave
/// nothing: an error would hold up everybody else's.
pub(super) async fn commit(store: &PostgresStore, commits: &[TransitionCommit]) -> Stored<Folded> {
    again(Lane::Routine, || commit_once(store, commits)).await
}

async fn commit_once(store: &PostgresStore, commits: &[TransitionCommit]) -> Stored<Folded> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let mut telling = Telling::at(store.clock.now());
    let there = lock_devices(&mut tx, commits).await?;
    let tokens = lock_folds(&mut tx, commits).await?;
    let mut refused = Vec::new();
    for (place, commit) in commits.iter().enumerate() {
        if !there.contains(&(commit.device, commit.owner)) {
            continue;
        }
        if tokens.get(&commit.device) != Some(&commit.token) {
            refused.push(place);
            continue;
        }
        keep_states(&mut tx, commit).await?;
        for found in &commit.transitions {
            keep_transition(&mut tx, commit, found).await?;
            tell(&mut tx, &mut telling, found).await?;
        }
        for id in &commit.retracted {
            let retract = query("UPDATE transitions SET retracted = true WHERE id = $1 AND device_id = $2");
            tx.run(retract.bind(id.0).bind(commit.device.0)).await?;
        }
        if commit.last {
            let give_back = query("DELETE FROM folds WHERE device_id = $1 AND token = $2");
            tx.run(give_back.bind(commit.device.0).bind(commit.token.0)).await?;
        }
    }
    let told = telling.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(Folded { told, refused })
}

/// The newest token of each device, which stays the newest until the end.
async fn lock_folds(tx: &mut Tx, commits: &[TransitionCommit]) -> Stored<BTreeMap<DeviceId, FoldToken>> {
    let devices: Vec<Uuid> = commits.iter().map(|c| c.device.0).collect();
    let lock = query_as::<_, (Uuid, i64)>(
        "SELECT device_id, token FROM folds WHERE device_id = ANY ($1) ORDER BY device_id FOR UPDATE",
    );
    let tokens = tx.all(lock.bind(devices)).await?;
    Ok(tokens.into_iter().map(|(device, token)| (DeviceId(device), FoldToken(token))).collect())
}

/// Those of the commits' devices that are there, each with its person, and stay there until the end. Two nodes that fold
/// the same device store one after the other; a person's emergency waits for neither.
async fn lock_devices(tx: &mut Tx, commits: &[TransitionCommit]) -> Stored<BTreeSet<(DeviceId, UserId)>> {
    let owners: Vec<Uuid> = commits.iter().map(|c| c.owner.0).collect();
    tx.run(query("SELECT 1 FROM accounts WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE").bind(owners))
        .await?;
    let devices: Vec<Uuid> = commits.iter().map(|c| c.device.0).collect();
    let lock = query_as::<_, (Uuid, Uuid)>(
        "SELECT id, user_id FROM devices WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
    );
    let there = tx.all(lock.bind(devices)).await?;
    Ok(there.into_iter().map(|(device, user)| (DeviceId(device), UserId(user))).collect())
}

/// A state of a fence that was deleted meanwhile is dropped, one of an older shape never replaces a newer one.
async fn keep_states(tx: &mut Tx, commit: &TransitionCommit) -> Stored<()> {
    for state in &commit.states {
        let keep = query(
            "INSERT INTO fence_states (device_id, geofence_id, revision, membership, since, since_seq, dwelled, dwell_at)
             SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM geofences WHERE id = $2 FOR KEY SHARE
             ON CONFLICT (device_id, geofence_id) DO UPDATE SET
                 revision = excluded.revision, membership = excluded.membership, since = excluded.since,
                 since_seq = excluded.since_seq, dwelled = excluded.dwelled, dwell_at = excluded.dwell_at
             WHERE excluded.revision >= fence_states.revision",
        );
        let keep = keep
            .bind(commit.device.0)
            .bind(state.fence.0)
            .bind(state.revision)
            .bind(state.membership.word())
            .bind(At(state.since))
            .bind(state.since_seq)
            .bind(state.dwelled)
            .bind(state.dwell_at.map(At));
        tx.run(keep).await?;
    }
    let tail = query(MOVE_TAIL).bind(commit.device.0).bind(At(commit.folded_to.0));
    tx.run(tail.bind(commit.folded_to.1)).await.map(|_| ())
}

/// A transition that was retracted and is found again happened after all.
async fn keep_transition(tx: &mut Tx, commit: &TransitionCommit, found: &TransitionAlert) -> Stored<()> {
    let transition = &found.transition;
    // Of which shape it was: the state it led to says so; the fence does if it led to none.
    let revision = commit.states.iter().find(|s| s.fence == transition.fence).map(|s| s.revision);
    let keep = query(
        "INSERT INTO transitions (id, owner_id, device_id, geofence_id, revision, kind, at, seq, initial, late)
         VALUES ($1, $2, $3, $4, coalesce($5, (SELECT revision FROM geofences WHERE id = $4), 0), $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET retracted = false WHERE transitions.retracted",
    );
    let keep = keep
        .bind(transition.id.0)
        .bind(commit.owner.0)
        .bind(commit.device.0)
        .bind(transition.fence.0)
        .bind(revision)
        .bind(transition.kind.word())
        .bind(At(transition.at))
        .bind(transition.seq)
        .bind(transition.initial)
        .bind(transition.late);
    tx.run(keep).await.map(|_| ())
}

/// Stores the alert, unless another of the same fence and kind was told a cooldown ago or less, in event time.
async fn tell(tx: &mut Tx, telling: &mut Telling, found: &TransitionAlert) -> Stored<()> {
    let Some(alert) = &found.alert else { return Ok(()) };
    let transition = &found.transition;
    if !found.cooldown.is_zero() {
        // Of two devices at one fence, the second looks after the first has told.
        let fence = query("SELECT 1 FROM geofences WHERE id = $1 FOR NO KEY UPDATE").bind(transition.fence.0);
        tx.run(fence).await?;
        let before = query_as::<_, (i32,)>(
            "SELECT 1 FROM transitions
             WHERE alerted AND geofence_id = $1 AND kind = $2 AND at > $3 AND at <= $4 AND id <> $5 LIMIT 1",
        );
        let at = transition.at.unix_ms();
        let from = Timestamp::from_unix_ms(at.saturating_sub(millis(found.cooldown)));
        let before = before.bind(transition.fence.0).bind(transition.kind.word());
        let before = before.bind(At(from)).bind(At(transition.at)).bind(transition.id.0);
        if tx.one(before).await?.is_some() {
            return Ok(());
        }
    }
    if telling.tell(tx, alert).await? {
        tx.run(query("UPDATE transitions SET alerted = true WHERE id = $1").bind(transition.id.0)).await?;
    }
    Ok(())
}
