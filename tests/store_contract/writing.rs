//! Many writers, dropped writers, hurried writers, and what is left after a restart.

use crate::world::{alert, contacts, fence, new_fix, raised};
use crate::{T0, World, after, by_polls, id};
use cima::alerts::{AlertDraft, Raised, Recipients};
use cima::id::DeviceId;
use cima::tracking::{FixBatch, NewFix};
use cima::trust::Scope;
use futures_util::future::{BoxFuture, join_all};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

pub(crate) async fn concurrent_writers_leave_no_gap(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let cleo = w.contact(anna, "cleo", &[Scope::Alerts], true).await;
    let mut writers = JoinSet::new();
    for n in 0..40 {
        let store = Arc::clone(&w.alerts);
        writers.spawn(async move {
            let recipients = if n % 2 == 0 { contacts() } else { Recipients::Person(bob) };
            store.tell(&[alert(anna, recipients)]).await.unwrap();
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    // `inbox` asserts that cursors are 1, 2, 3, ...
    assert_eq!(w.inbox(bob).await.len(), 40);
    assert_eq!(w.inbox(cleo).await.len(), 20);
}

pub(crate) async fn concurrent_raises_open_one_emergency(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let raises: Vec<_> = (0..8).map(|_| raised(anna, 0)).collect();
    let drafts: Vec<AlertDraft> = raises.iter().map(|_| alert(anna, contacts())).collect();
    let outcomes = join_all(raises.iter().zip(&drafts).map(|(emergency, draft)| async {
        w.alerts.raise(emergency, emergency.id, std::slice::from_ref(draft)).await.unwrap()
    }));
    let outcomes = outcomes.await;
    let opened = outcomes.iter().filter(|o| matches!(o, Raised::Opened(_))).count();
    assert_eq!(opened, 1);
    assert_eq!(w.alerts.open_of(anna).await.unwrap().len(), 1);
    assert_eq!(w.inbox(bob).await.len(), 1);
}

/// Drops a write after its first poll, its second, and so on, far beyond its end.
pub(crate) async fn a_dropped_write_leaves_all_or_nothing(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let cleo = w.contact(anna, "cleo", &[Scope::Alerts], true).await;
    let phone = DeviceId(id());
    let rounds = 40;
    let mut dropped = 0;
    for polls in 1..=rounds {
        let drafts = [alert(anna, contacts()), alert(anna, contacts())];
        let told = by_polls(polls, w.alerts.tell(&drafts)).await;
        let seq = polls as i64 * 10;
        let group: Vec<NewFix> = (seq..seq + 9).map(|s| new_fix(phone, s, after(s as u64))).collect();
        let recorded = by_polls(polls, w.fixes.record(&group)).await;
        dropped += usize::from(!told) + usize::from(!recorded);

        // The next write ends what was dropped; until then it may still be on its way.
        w.settle().await;
        w.fixes.record(&[new_fix(DeviceId(id()), 1, T0)]).await.unwrap();
        let (of_bob, of_cleo) = (w.inbox(bob).await, w.inbox(cleo).await);
        let kept = drafts.iter().filter(|d| of_bob.contains(&d.id)).count();
        assert!(kept == 2 || (kept == 0 && !told), "{kept} of two after {polls} polls");
        assert_eq!(of_bob, of_cleo, "after {polls} polls");
        let place = (after(seq as u64), seq - 1);
        let stored = w.fixes.after(phone, place, 100).await.unwrap().len();
        assert!(stored == 9 || (stored == 0 && !recorded), "{stored} of nine after {polls} polls");

        // A repeat of what may or may not have been stored completes it.
        w.alerts.tell(&drafts).await.unwrap();
        let batch = w.fixes.record(&group).await.unwrap();
        assert_eq!(batch.duplicates.len(), stored);
        assert_eq!(w.fixes.last_seq(phone).await.unwrap(), seq + 8);
        assert_eq!(w.inbox(bob).await.len(), 2 * polls);
    }
    assert!(dropped > 0, "nothing was dropped");
}

/// What a backend promises that has one writer: of those who wait for it, an emergency is the next.
pub(crate) async fn an_emergency_overtakes_a_queue(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let emergency = raised(anna, 0);
    let order = Mutex::new(Vec::new());
    let drafts: Vec<AlertDraft> = (0..100).map(|_| alert(bob, Recipients::Person(bob))).collect();
    let mut writers: Vec<BoxFuture<'_, ()>> = Vec::new();
    for draft in &drafts {
        writers.push(Box::pin(async {
            w.alerts.tell(std::slice::from_ref(draft)).await.unwrap();
            order.lock().unwrap().push("routine");
        }));
    }
    // The last to come, when all the others wait.
    writers.push(Box::pin(async {
        w.alerts.raise(&emergency, emergency.id, &[]).await.unwrap();
        order.lock().unwrap().push("emergency");
    }));
    join_all(writers).await;
    let order = order.into_inner().unwrap();
    let place = order.iter().position(|lane| *lane == "emergency").unwrap();
    // One runs and one waits for its turn.
    assert!(place <= 2, "behind {place} of 100 routine writers");
}

pub(crate) async fn a_reopened_store_has_everything(w: &World) {
    let anna = w.person("anna").await;
    let (phone, session) = w.device(anna).await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let home = fence(anna, "home");
    w.tracking.create_fence(&home, 200, 50_000).await.unwrap();
    let emergency = raised(anna, 0);
    w.alerts.raise(&emergency, emergency.id, &[alert(anna, contacts())]).await.unwrap();
    let fix = new_fix(phone, 1, after(1));
    w.fixes.record(std::slice::from_ref(&fix)).await.unwrap();
    let inbox = w.alerts.inbox_after(bob, 0, 10).await.unwrap();
    let link = w.trust.link_between(anna, bob, T0).await.unwrap();

    w.backend.close().await;
    assert!(w.alerts.tell(&[]).await.is_err(), "a closed store takes nothing");
    let again = w.backend.open(w.clock.clone()).await;
    assert!(again.identity.account(anna).await.unwrap().is_some());
    assert!(again.identity.session(session).await.unwrap().is_some());
    assert_eq!(again.trust.link_between(anna, bob, T0).await.unwrap(), link);
    assert_eq!(again.tracking.fence(anna, home.id).await.unwrap(), Some(home));
    assert_eq!(again.alerts.emergency(emergency.id).await.unwrap(), Some(emergency));
    assert_eq!(again.alerts.inbox_after(bob, 0, 10).await.unwrap(), inbox);
    assert_eq!(again.fixes.last_seq(phone).await.unwrap(), 1);
    let repeat = again.fixes.record(&[fix]).await.unwrap();
    assert_eq!(repeat, FixBatch { duplicates: vec![0], conflicts: vec![] });
}
