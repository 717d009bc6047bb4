//! Who owns a device: of two nodes that both believe it, the later.

use crate::transitions::tracked;
use crate::world::new_fix;
use crate::{World, after, id};
use cima::alerts::{CommittedTransitions, TransitionCommit};
use cima::id::{DeviceId, NodeId};
use cima::tracking::{DeviceTail, FencingToken, Taken, Trigger};

pub(crate) async fn of_two_owners_only_the_later_stores_something(w: &World) {
    let t = tracked(w).await;
    let entered = t.commit(vec![t.found(Trigger::Enter, 10)]);
    let other = NodeId(id());
    let taken = w.tracking.take_device(t.phone, other).await.unwrap();
    assert!(taken.from_another && taken.token != t.token, "{taken:?}");

    let refused = w.alerts.commit_transitions(std::slice::from_ref(&entered)).await.unwrap();
    assert_eq!(refused, CommittedTransitions { told: vec![], refused: vec![0] });
    assert!(w.tracking.transitions_since(t.phone, after(0)).await.unwrap().is_empty());
    assert_eq!(w.tracking.device_tail(t.phone).await.unwrap(), DeviceTail::default());
    assert!(w.inbox(t.contact).await.is_empty());

    // One that is refused takes nothing from those beside it.
    let newer = TransitionCommit { token: taken.token, ..entered.clone() };
    let both = w.alerts.commit_transitions(&[entered, newer]).await.unwrap();
    assert_eq!(both, CommittedTransitions { told: vec![t.contact], refused: vec![0] });
    assert_eq!(w.tracking.transitions_since(t.phone, after(0)).await.unwrap().len(), 1);

    let again = w.tracking.take_device(t.phone, other).await.unwrap();
    assert!(!again.from_another && again.token != taken.token, "one's own, and yet a new token: {again:?}");
}

pub(crate) async fn a_place_moves_only_forward(w: &World) {
    let t = tracked(w).await;
    let steps =
        [((10, 5), (10, 5)), ((10, 4), (10, 5)), ((9, 9), (10, 5)), ((10, 6), (10, 6)), ((11, 1), (11, 1))];
    for ((at, seq), (then_at, then_seq)) in steps {
        let commit = TransitionCommit { folded_to: (after(at), seq), ..t.commit(vec![]) };
        w.alerts.commit_transitions(&[commit]).await.unwrap();
        let tail = w.tracking.device_tail(t.phone).await.unwrap();
        assert_eq!((tail.folded_to, tail.states.len()), (Some((after(then_at), then_seq)), 0));
    }
}

pub(crate) async fn a_device_that_was_given_back_is_nobodys(w: &World) {
    let t = tracked(w).await;
    let last = TransitionCommit { last: true, ..t.commit(vec![t.found(Trigger::Enter, 10)]) };
    assert_eq!(
        w.alerts.commit_transitions(std::slice::from_ref(&last)).await.unwrap().refused,
        Vec::<usize>::new()
    );
    let after_it = w.alerts.commit_transitions(std::slice::from_ref(&last)).await.unwrap();
    assert_eq!(after_it.refused, vec![0], "with it the token went");
    let Taken { token, from_another } = w.tracking.take_device(t.phone, NodeId(id())).await.unwrap();
    assert!(!from_another && token != t.token);
    // Whoever is late to give back what another took meanwhile changes nothing.
    assert_eq!(w.alerts.commit_transitions(&[last]).await.unwrap().refused, vec![0]);
    let commit = TransitionCommit { token, ..t.commit(vec![t.found(Trigger::Exit, 20)]) };
    assert_eq!(w.alerts.commit_transitions(&[commit]).await.unwrap().refused, Vec::<usize>::new());

    let gone = TransitionCommit { device: DeviceId(id()), token: FencingToken(0), ..t.commit(vec![]) };
    w.alerts.commit_transitions(&[gone]).await.unwrap();
}

pub(crate) async fn a_later_claim_is_a_higher_number(w: &World) {
    let anna = w.person("anna").await;
    let (phone, watch) = (w.device(anna).await.0, w.device(anna).await.0);
    assert!(w.tracking.stream_claims(&[phone, watch]).await.unwrap().is_empty());
    let first = w.tracking.claim_stream(phone).await.unwrap();
    let second = w.tracking.claim_stream(phone).await.unwrap();
    assert!(0 < first && first < second, "{first} {second}");
    assert_eq!(w.tracking.stream_claims(&[phone, watch]).await.unwrap(), vec![(phone, second)]);
}

/// Only of a store that several nodes share: orphans are devices whose node is gone.
pub(crate) async fn what_a_node_leaves_that_is_gone_is_found(w: &World) {
    let t = tracked(w).await;
    w.identity.track(t.owner, t.phone).await.unwrap();
    let (gone, lives) = (NodeId(id()), NodeId(id()));
    w.tracking.take_device(t.phone, gone).await.unwrap();
    w.tracking.heartbeat(gone).await.unwrap();
    w.tracking.heartbeat(lives).await.unwrap();
    w.fixes.record(&[new_fix(t.phone, 1, after(1))]).await.unwrap();
    assert!(w.tracking.orphans(10).await.unwrap().is_empty());
    w.tracking.end_node(gone).await.unwrap();
    let left = w.tracking.orphans(10).await.unwrap();
    assert_eq!(left.iter().map(|l| (l.user, l.device)).collect::<Vec<_>>(), vec![(t.owner, t.phone)]);
    w.tracking.take_device(t.phone, lives).await.unwrap();
    assert!(w.tracking.orphans(10).await.unwrap().is_empty());
}
