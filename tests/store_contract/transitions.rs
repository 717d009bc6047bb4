//! What evaluating fixes leaves behind.

use crate::world::{alert, contacts, fence};
use crate::{World, after, id};
use cima::alerts::{CommittedTransitions, TransitionAlert, TransitionCommit};
use cima::id::{DeviceId, NodeId, UserId};
use cima::tracking::{FenceState, FencingToken, Geofence, Membership, Transition, Trigger};
use cima::trust::Scope;
use std::time::Duration;

/// Somebody with a tracked phone, a fence and a contact who is told.
pub(crate) struct Tracked {
    pub(crate) owner: UserId,
    pub(crate) phone: DeviceId,
    home: Geofence,
    pub(crate) contact: UserId,
    pub(crate) token: FencingToken,
}

pub(crate) async fn tracked(w: &World) -> Tracked {
    let owner = w.person("anna").await;
    let (phone, _) = w.device(owner).await;
    w.identity.track(owner, phone).await.unwrap();
    let home = fence(owner, "home");
    w.tracking.create_fence(&home, 200, 50_000).await.unwrap();
    let contact = w.contact(owner, "bob", &[Scope::Alerts], true).await;
    let token = w.tracking.take_device(phone, NodeId(id())).await.unwrap().token;
    Tracked { owner, phone, home, contact, token }
}

impl Tracked {
    fn transition(&self, kind: Trigger, at: u64) -> Transition {
        let seq = i64::try_from(at).unwrap();
        Transition {
            id: Transition::id_of(self.phone, &self.home, kind, seq),
            owner: self.owner,
            device: self.phone,
            fence: self.home.id,
            kind,
            at: after(at),
            seq,
            initial: false,
            late: false,
        }
    }

    pub(crate) fn found(&self, kind: Trigger, at: u64) -> TransitionAlert {
        let alert = Some(alert(self.owner, contacts()));
        TransitionAlert { transition: self.transition(kind, at), alert, cooldown: Duration::ZERO }
    }

    fn state(&self, membership: Membership, since: u64) -> FenceState {
        let Geofence { id: fence, revision, .. } = self.home;
        let since_seq = i64::try_from(since).unwrap();
        let since = after(since);
        FenceState { fence, revision, membership, since, since_seq, dwelled: false, dwell_at: None }
    }

    /// A commit whose fixes are evaluated up to the last of its transitions.
    pub(crate) fn commit(&self, transitions: Vec<TransitionAlert>) -> TransitionCommit {
        let last = transitions.last().map(|t| &t.transition);
        let membership = |t: &Transition| match t.kind {
            Trigger::Exit => Membership::Outside,
            _ => Membership::Inside,
        };
        TransitionCommit {
            owner: self.owner,
            device: self.phone,
            states: last
                .map(|t| FenceState { since: t.at, since_seq: t.seq, ..self.state(membership(t), 0) })
                .into_iter()
                .collect(),
            folded_to: last.map_or((after(0), 1), |t| (t.at, t.seq)),
            transitions,
            retracted: vec![],
            token: self.token,
            last: false,
            goes_on: false,
        }
    }

    async fn history(&self, w: &World) -> Vec<(Trigger, bool)> {
        let history = w.tracking.transitions_since(self.phone, after(0)).await.unwrap();
        history.into_iter().map(|t| (t.transition.kind, t.retracted)).collect()
    }
}

pub(crate) async fn a_commit_is_stored_once(w: &World) {
    let t = tracked(w).await;
    let commit = t.commit(vec![t.found(Trigger::Enter, 10), t.found(Trigger::Exit, 20)]);
    let told = w.alerts.commit_transitions(std::slice::from_ref(&commit)).await.unwrap();
    assert_eq!(told, CommittedTransitions { told: vec![t.contact], refused: vec![] });
    assert_eq!(w.inbox(t.contact).await.len(), 2);
    let again = w.alerts.commit_transitions(std::slice::from_ref(&commit)).await.unwrap();
    assert_eq!(again, CommittedTransitions::default());
    assert_eq!(w.inbox(t.contact).await.len(), 2);

    let history = w.tracking.transitions_since(t.phone, after(0)).await.unwrap();
    let stored: Vec<_> = history.iter().map(|h| h.transition.clone()).collect();
    assert_eq!(stored, vec![t.transition(Trigger::Enter, 10), t.transition(Trigger::Exit, 20)]);
    assert_eq!(w.tracking.transitions_since(t.phone, after(11)).await.unwrap().len(), 1);
    let tail = w.tracking.device_tail(t.phone).await.unwrap();
    assert_eq!(tail.folded_to, Some((after(20), 20)));
    assert_eq!(tail.states, vec![t.state(Membership::Outside, 20)]);

    // A part of a batch tells what it found, and moves nothing before the last part is there.
    let part = TransitionCommit { goes_on: true, ..t.commit(vec![t.found(Trigger::Enter, 30)]) };
    w.alerts.commit_transitions(&[part]).await.unwrap();
    assert_eq!(w.inbox(t.contact).await.len(), 3);
    let tail = w.tracking.device_tail(t.phone).await.unwrap();
    assert_eq!(
        (tail.folded_to, tail.states),
        (Some((after(20), 20)), vec![t.state(Membership::Outside, 20)])
    );
}

pub(crate) async fn states_follow_the_fence(w: &World) {
    let mut t = tracked(w).await;
    w.alerts.commit_transitions(&[t.commit(vec![t.found(Trigger::Enter, 10)])]).await.unwrap();
    let (owner, phone) = (t.owner, t.phone);
    let zones = async || w.tracking.fences_inside(owner, phone).await.unwrap();
    assert_eq!(zones().await, vec![(t.home.id, "home".to_owned())]);
    assert!(w.tracking.fences_inside(t.contact, t.phone).await.unwrap().is_empty());

    let old = t.commit(vec![]);
    let replaced = w.tracking.replace_fence(&t.home, 200, 50_000).await.unwrap().unwrap().unwrap();
    assert!(zones().await.is_empty(), "of the new shape nothing is known");
    t.home = replaced;
    let inside = TransitionCommit { states: vec![t.state(Membership::Inside, 30)], ..t.commit(vec![]) };
    w.alerts.commit_transitions(&[inside]).await.unwrap();
    let stale = FenceState { revision: 1, ..t.state(Membership::Outside, 40) };
    w.alerts.commit_transitions(&[TransitionCommit { states: vec![stale], ..old }]).await.unwrap();
    let tail = w.tracking.device_tail(t.phone).await.unwrap();
    assert_eq!(tail.states, vec![t.state(Membership::Inside, 30)], "an older shape replaces no newer one");

    w.tracking.delete_fence(t.owner, t.home.id).await.unwrap();
    assert!(w.tracking.device_tail(t.phone).await.unwrap().states.is_empty());
    assert_eq!(t.history(w).await, vec![(Trigger::Enter, false)], "history stays");
    let late = TransitionCommit { states: vec![t.state(Membership::Outside, 50)], ..t.commit(vec![]) };
    w.alerts.commit_transitions(&[late]).await.unwrap();
    assert!(w.tracking.device_tail(t.phone).await.unwrap().states.is_empty());
}

pub(crate) async fn history_knows_the_states_before(w: &World) {
    let t = tracked(w).await;
    let steps = [(Trigger::Enter, 10), (Trigger::Dwell, 15), (Trigger::Exit, 20), (Trigger::Cross, 25)];
    for (kind, at) in steps {
        let state = t.state(Membership::Unknown, at);
        let commit = TransitionCommit { states: vec![state], ..t.commit(vec![t.found(kind, at)]) };
        w.alerts.commit_transitions(&[commit]).await.unwrap();
    }
    let before = |at, seq| w.tracking.states_before(t.phone, (after(at), seq));
    assert_eq!(before(10, 10).await.unwrap(), vec![]);
    assert_eq!(before(10, 11).await.unwrap(), vec![t.state(Membership::Inside, 10)]);
    assert_eq!(before(20, 20).await.unwrap(), vec![t.state(Membership::Inside, 10)]);
    assert_eq!(before(90, 1).await.unwrap(), vec![t.state(Membership::Outside, 20)]);
    let exit = t.transition(Trigger::Exit, 20).id;
    w.alerts
        .commit_transitions(&[TransitionCommit { retracted: vec![exit], ..t.commit(vec![]) }])
        .await
        .unwrap();
    assert_eq!(
        before(90, 1).await.unwrap(),
        vec![t.state(Membership::Inside, 10)],
        "retracted is not history"
    );
    w.tracking.replace_fence(&t.home, 200, 50_000).await.unwrap();
    assert_eq!(before(90, 1).await.unwrap(), vec![], "an older shape says nothing of the new one");
}

pub(crate) async fn a_dwell_is_due_until_it_is_found(w: &World) {
    let t = tracked(w).await;
    w.identity.track(t.owner, t.phone).await.unwrap();
    let waits = FenceState { dwell_at: Some(after(60)), ..t.state(Membership::Inside, 10) };
    let entered = TransitionCommit { states: vec![waits], ..t.commit(vec![t.found(Trigger::Enter, 10)]) };
    w.alerts.commit_transitions(&[entered]).await.unwrap();
    let due = async |at| {
        w.tracking
            .due_dwells(after(at), NodeId(id()), after(at), 100)
            .await
            .unwrap()
            .contains(&(t.owner, t.phone))
    };
    assert_eq!((due(59).await, due(60).await), (false, true));
    let mut dwell = t.found(Trigger::Dwell, 60);
    dwell.transition.seq = 10;
    let found = FenceState { dwelled: true, ..t.state(Membership::Inside, 10) };
    let commit = TransitionCommit { states: vec![found], ..t.commit(vec![dwell]) };
    w.alerts.commit_transitions(&[commit]).await.unwrap();
    assert!(!due(90).await);
    assert_eq!(w.tracking.device_tail(t.phone).await.unwrap().states, vec![found]);
    let before = async |at| w.tracking.states_before(t.phone, (after(at), 99)).await.unwrap();
    assert_eq!(before(50).await, vec![t.state(Membership::Inside, 10)]);
    assert_eq!(before(70).await, vec![found]);
}

pub(crate) async fn a_retracted_transition_may_happen_again(w: &World) {
    let t = tracked(w).await;
    let enter = t.found(Trigger::Enter, 10);
    let id = enter.transition.id;
    w.alerts.commit_transitions(&[t.commit(vec![enter.clone()])]).await.unwrap();
    w.alerts
        .commit_transitions(&[TransitionCommit { retracted: vec![id], ..t.commit(vec![]) }])
        .await
        .unwrap();
    assert_eq!(t.history(w).await, vec![(Trigger::Enter, true)]);
    w.alerts.commit_transitions(&[t.commit(vec![enter])]).await.unwrap();
    assert_eq!(t.history(w).await, vec![(Trigger::Enter, false)]);
    assert_eq!(w.inbox(t.contact).await.len(), 1, "and is not told again");
}

pub(crate) async fn a_waiting_transition_is_told_later(w: &World) {
    let t = tracked(w).await;
    let told = t.found(Trigger::Enter, 10);
    let silent = TransitionAlert { alert: None, ..told.clone() };
    w.alerts.commit_transitions(&[t.commit(vec![silent])]).await.unwrap();
    assert!(w.inbox(t.contact).await.is_empty());
    w.alerts.commit_transitions(&[t.commit(vec![told])]).await.unwrap();
    assert_eq!(w.inbox(t.contact).await.len(), 1);
    assert_eq!(t.history(w).await, vec![(Trigger::Enter, false)]);
}

pub(crate) async fn a_cooldown_makes_history_only(w: &World) {
    let t = tracked(w).await;
    let cooled = |kind, at| TransitionAlert { cooldown: Duration::from_secs(60), ..t.found(kind, at) };
    let commit = t.commit(vec![
        cooled(Trigger::Enter, 100),
        cooled(Trigger::Exit, 110),
        cooled(Trigger::Enter, 159),
        cooled(Trigger::Enter, 160),
    ]);
    w.alerts.commit_transitions(&[commit]).await.unwrap();
    assert_eq!(t.history(w).await.len(), 4);
    assert_eq!(w.inbox(t.contact).await.len(), 3, "an exit is of another kind, and at 60 s it is over");
    // The one that was not told starts no cooldown; the one that was does, and looks back only.
    let commit =
        t.commit(vec![cooled(Trigger::Enter, 219), cooled(Trigger::Enter, 90), cooled(Trigger::Enter, 220)]);
    w.alerts.commit_transitions(&[commit]).await.unwrap();
    assert_eq!(w.inbox(t.contact).await.len(), 5);
}

pub(crate) async fn commits_of_the_gone_hold_nobody_up(w: &World) {
    let t = tracked(w).await;
    let gone = TransitionCommit { device: DeviceId(id()), ..t.commit(vec![t.found(Trigger::Enter, 5)]) };
    let stranger = TransitionCommit { owner: t.contact, ..t.commit(vec![t.found(Trigger::Enter, 6)]) };
    let commit = t.commit(vec![t.found(Trigger::Enter, 10)]);
    let told = w.alerts.commit_transitions(&[gone, stranger, commit]).await.unwrap();
    assert_eq!(told.told, vec![t.contact]);
    assert_eq!(t.history(w).await, vec![(Trigger::Enter, false)]);
}
