//! What evaluating a device's fixes changed, stored with the alerts it makes.

use super::inbox::NewAlerts;
use crate::alerts::{CommittedTransitions, Lane, TransitionAlert, TransitionCommit};
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::store::Store;
use crate::store::database::Tx;
use crate::store::sql::{query, sql};
use crate::store::tracking::MOVE_TAIL;
use crate::tracking::FencingToken;
use std::collections::{BTreeMap, BTreeSet};

/// Stores the commits in their order, in one transaction. Those of a device that is gone with its person leave
/// nothing: an error would hold up everybody else's.
pub(super) async fn commit(store: &Store, commits: &[TransitionCommit]) -> Stored<CommittedTransitions> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let mut new = NewAlerts::at(store.clock.now());
    let there = lock_devices(&mut tx, commits).await?;
    let shared = lock_tokens(&mut tx, commits).await?;
    let mut refused = Vec::new();
    for (place, commit) in commits.iter().enumerate() {
        let is_there = there.contains(&(commit.device, commit.owner));
        let is_newest = match &shared {
            // The row of a device that is gone is gone with it: it tells nothing of the token.
            Some(tokens) => !is_there || tokens.get(&commit.device) == Some(&commit.token),
            None => store.owners.is_newest(commit.device, commit.token),
        };
        if !is_newest {
            refused.push(place);
        }
        if !is_newest || !is_there {
            continue;
        }
        if !commit.goes_on {
            keep_states(&mut tx, commit).await?;
        }
        for found in &commit.transitions {
            keep_transition(&mut tx, commit, found).await?;
            tell(&mut tx, &mut new, found).await?;
        }
        for id in &commit.retracted {
            let retract = query("UPDATE transitions SET retracted = true WHERE id = $1 AND device_id = $2");
            tx.run(retract.bind(*id).bind(commit.device)).await?;
        }
        if shared.is_some() && commit.last {
            let give_back = query("DELETE FROM folds WHERE device_id = $1 AND token = $2");
            tx.run(give_back.bind(commit.device).bind(commit.token.0)).await?;
        }
    }
    let told = new.place(&mut tx).await?.told;
    tx.commit().await?;
    if shared.is_none() {
        for commit in commits.iter().filter(|commit| commit.last) {
            store.owners.give_back(commit.device, commit.token);
        }
    }
    Ok(CommittedTransitions { told, refused })
}

/// The newest token of each device, which stays the newest until the end. `None` where the one process that has the
/// store keeps them itself.
async fn lock_tokens(
    tx: &mut Tx<'_>,
    commits: &[TransitionCommit],
) -> Stored<Option<BTreeMap<DeviceId, FencingToken>>> {
    if matches!(tx, Tx::Lite(_)) {
        return Ok(None);
    }
    let devices: Vec<DeviceId> = commits.iter().map(|c| c.device).collect();
    let lock =
        query("SELECT device_id, token FROM folds WHERE device_id = ANY ($1) ORDER BY device_id FOR UPDATE");
    let tokens = tx.all::<(DeviceId, i64)>(lock.bind(devices.as_slice())).await?;
    Ok(Some(tokens.into_iter().map(|(device, token)| (device, FencingToken(token))).collect()))
}

/// Those of the commits' devices that are there, each with its person, and stay there until the end. Two nodes that
/// evaluate the same device store one after the other; a person's emergency waits for neither.
async fn lock_devices(tx: &mut Tx<'_>, commits: &[TransitionCommit]) -> Stored<BTreeSet<(DeviceId, UserId)>> {
    let owners: Vec<UserId> = commits.iter().map(|c| c.owner).collect();
    let accounts = query("SELECT 1 FROM accounts WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE");
    tx.lock(accounts.bind(owners.as_slice())).await?;
    let devices: Vec<DeviceId> = commits.iter().map(|c| c.device).collect();
    let there = query(sql!(
        "SELECT id, user_id FROM devices WHERE id " among "$1" " ORDER BY id" pg " FOR NO KEY UPDATE"
    ));
    Ok(tx.all(there.bind(devices.as_slice())).await?.into_iter().collect())
}

/// A state of a fence that was deleted meanwhile is dropped, one of an older shape never replaces a newer one.
async fn keep_states(tx: &mut Tx<'_>, commit: &TransitionCommit) -> Stored<()> {
    for state in &commit.states {
        let keep = query(sql!(
            "INSERT INTO fence_states (device_id, geofence_id, revision, membership, since, since_seq, dwelled, dwell_at)
             SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM geofences WHERE id = $2" pg " FOR KEY SHARE"
            " ON CONFLICT (device_id, geofence_id) DO UPDATE SET
                 revision = excluded.revision, membership = excluded.membership, since = excluded.since,
                 since_seq = excluded.since_seq, dwelled = excluded.dwelled, dwell_at = excluded.dwell_at
             WHERE excluded.revision >= fence_states.revision"
        ));
        let keep = keep
            .bind(commit.device)
            .bind(state.fence)
            .bind(state.revision)
            .bind(state.membership)
            .bind(state.since)
            .bind(state.since_seq)
            .bind(state.dwelled)
            .bind(state.dwell_at);
        tx.run(keep).await?;
    }
    let (at, seq) = commit.folded_to;
    tx.run(query(MOVE_TAIL).bind(commit.device).bind(at).bind(seq)).await.map(|_| ())
}

/// A transition that was retracted and is found again happened after all.
async fn keep_transition(tx: &mut Tx<'_>, commit: &TransitionCommit, found: &TransitionAlert) -> Stored<()> {
    let transition = &found.transition;
    // Of which shape it was: the state it led to says so; the fence does if it led to none.
    let revision = commit.states.iter().find(|s| s.fence == transition.fence).map(|s| s.revision);
    let keep = query(
        "INSERT INTO transitions (id, owner_id, device_id, geofence_id, revision, kind, at, seq, initial, late)
         VALUES ($1, $2, $3, $4, coalesce($5, (SELECT revision FROM geofences WHERE id = $4), 0), $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET retracted = false WHERE transitions.retracted",
    );
    let keep = keep
        .bind(transition.id)
        .bind(commit.owner)
        .bind(commit.device)
        .bind(transition.fence)
        .bind(revision)
        .bind(transition.kind)
        .bind(transition.at)
        .bind(transition.seq)
        .bind(transition.initial)
        .bind(transition.late);
    tx.run(keep).await.map(|_| ())
}

/// Stores the alert, unless another of the same fence and kind was told a cooldown ago or less, in event time.
async fn tell(tx: &mut Tx<'_>, new: &mut NewAlerts, found: &TransitionAlert) -> Stored<()> {
    let Some(alert) = &found.alert else { return Ok(()) };
    let transition = &found.transition;
    if !found.cooldown.is_zero() {
        // Of two devices at one fence, the second looks after the first has told.
        let fence = query("SELECT 1 FROM geofences WHERE id = $1 FOR NO KEY UPDATE");
        tx.lock(fence.bind(transition.fence)).await?;
        let before = query(sql!(
            "SELECT 1 FROM transitions WHERE alerted" lite " = 1"
            " AND geofence_id = $1 AND kind = $2 AND at > $3 AND at <= $4 AND id <> $5 LIMIT 1"
        ));
        let before = before
            .bind(transition.fence)
            .bind(transition.kind)
            .bind(transition.at - found.cooldown)
            .bind(transition.at)
            .bind(transition.id);
        if tx.any(before).await? {
            return Ok(());
        }
    }
    if new.tell(tx, alert).await? {
        tx.run(query("UPDATE transitions SET alerted = true WHERE id = $1").bind(transition.id)).await?;
    }
    Ok(())
}
