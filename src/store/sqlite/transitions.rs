//! What a fold of fixes changed, stored with the alerts it makes.

use super::SqliteStore;
use super::identity::millis;
use super::inbox::Telling;
use super::tracking::MOVE_TAIL;
use super::writer::Tx;
use crate::alerts::{Folded, Lane, TransitionAlert, TransitionCommit};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use sqlx::{query, query_as};

/// Stores the commits in their order, in one transaction. Those of a device that is gone with its person leave
/// nothing: an error would hold up everybody else's.
pub(super) async fn commit(store: &SqliteStore, commits: &[TransitionCommit]) -> Stored<Folded> {
    let mut tx = store.db.writer.begin(Lane::Routine).await?;
    let mut telling = Telling::at(store.clock.now());
    let mut refused = Vec::new();
    for (place, commit) in commits.iter().enumerate() {
        if !store.folds.is_newest(commit.device, commit.token) {
            refused.push(place);
            continue;
        }
        if !is_there(&mut tx, commit.owner, commit.device).await? {
            continue;
        }
        keep_states(&mut tx, commit).await?;
        for found in &commit.transitions {
            keep_transition(&mut tx, commit, found).await?;
            tell(&mut tx, &mut telling, found).await?;
        }
        for id in &commit.retracted {
            let retract = query("UPDATE transitions SET retracted = 1 WHERE id = ? AND device_id = ?");
            tx.run(retract.bind(id.0).bind(commit.device.0)).await?;
        }
    }
    tx.commit().await?;
    for commit in commits.iter().filter(|commit| commit.last) {
        store.folds.give_back(commit.device, commit.token);
    }
    Ok(Folded { told: telling.committed().told, refused })
}

async fn is_there(tx: &mut Tx<'_>, owner: UserId, device: DeviceId) -> Stored<bool> {
    let device = query_as::<_, (i64,)>("SELECT 1 FROM devices WHERE id = ? AND user_id = ?").bind(device.0);
    Ok(tx.one(device.bind(owner.0)).await?.is_some())
}

/// A state of a fence that was deleted meanwhile is dropped, one of an older shape never replaces a newer one.
async fn keep_states(tx: &mut Tx<'_>, commit: &TransitionCommit) -> Stored<()> {
    for state in &commit.states {
        let keep = query(
            "INSERT INTO fence_states (device_id, geofence_id, revision, membership, since, since_seq, dwelled, dwell_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM geofences WHERE id = ?2)
             ON CONFLICT (device_id, geofence_id) DO UPDATE SET
                 revision = excluded.revision, membership = excluded.membership, since = excluded.since,
                 since_seq = excluded.since_seq, dwelled = excluded.dwelled, dwell_at = excluded.dwell_at
             WHERE excluded.revision >= revision",
        );
        let keep = keep
            .bind(commit.device.0)
            .bind(state.fence.0)
            .bind(state.revision)
            .bind(state.membership.word())
            .bind(state.since.unix_ms())
            .bind(state.since_seq)
            .bind(state.dwelled)
            .bind(state.dwell_at.map(Timestamp::unix_ms));
        tx.run(keep).await?;
    }
    let tail = query(MOVE_TAIL).bind(commit.device.0).bind(commit.folded_to.0.unix_ms());
    tx.run(tail.bind(commit.folded_to.1)).await.map(|_| ())
}

/// A transition that was retracted and is found again happened after all.
async fn keep_transition(tx: &mut Tx<'_>, commit: &TransitionCommit, found: &TransitionAlert) -> Stored<()> {
    let transition = &found.transition;
    // Of which shape it was: the state it led to says so; the fence does if it led to none.
    let revision = commit.states.iter().find(|s| s.fence == transition.fence).map(|s| s.revision);
    let keep = query(
        "INSERT INTO transitions (id, owner_id, device_id, geofence_id, revision, kind, at, seq, initial, late)
         VALUES (?1, ?2, ?3, ?4, coalesce(?5, (SELECT revision FROM geofences WHERE id = ?4), 0), ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET retracted = 0 WHERE retracted = 1",
    );
    let keep = keep
        .bind(transition.id.0)
        .bind(commit.owner.0)
        .bind(commit.device.0)
        .bind(transition.fence.0)
        .bind(revision)
        .bind(transition.kind.word())
        .bind(transition.at.unix_ms())
        .bind(transition.seq)
        .bind(transition.initial)
        .bind(transition.late);
    tx.run(keep).await.map(|_| ())
}

/// Stores the alert, unless another of the same fence and kind was told a cooldown ago or less, in event time.
async fn tell(tx: &mut Tx<'_>, telling: &mut Telling, found: &TransitionAlert) -> Stored<()> {
    let Some(alert) = &found.alert else { return Ok(()) };
    let transition = &found.transition;
    if !found.cooldown.is_zero() {
        let before = query_as::<_, (i64,)>(
            "SELECT 1 FROM transitions
             WHERE alerted = 1 AND geofence_id = ? AND kind = ? AND at > ? AND at <= ? AND id <> ? LIMIT 1",
        );
        let at = transition.at.unix_ms();
        let before = before.bind(transition.fence.0).bind(transition.kind.word());
        let before = before.bind(at.saturating_sub(millis(found.cooldown))).bind(at).bind(transition.id.0);
        if tx.one(before).await?.is_some() {
            return Ok(());
        }
    }
    if telling.tell(tx, alert).await? {
        tx.run(query("UPDATE transitions SET alerted = 1 WHERE id = ?").bind(transition.id.0)).await?;
    }
    Ok(())
}
