//! The store's clock, and what is due by it.

use crate::check_ins::{create, set};
use crate::emergencies::open;
use crate::world::raised;
use crate::{T0, World, after};
use cima::alerts::{Change, Command, EndWith, Manner};
use cima::clock::Timestamp;
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;

fn moved(at: Timestamp) -> Timestamp {
    at + Duration::from_secs(3_600)
}

pub(crate) async fn what_is_due_moves_with_the_clock_once(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    open(w, &raised(anna, 10)).await;
    create(w, &set(bob, 20)).await;
    let seen = w.time.seen(after(1)).await.unwrap();
    assert_eq!((seen.steps, seen.undone), (0, false));
    assert!(seen.newest >= seen.now);
    assert!(w.time.step(0, HOUR_MS, false, after(1)).await.unwrap());
    assert!(!w.time.step(0, HOUR_MS, false, after(1)).await.unwrap(), "it was moved already");
    assert_eq!(w.alerts.next_due().await.unwrap(), Some(moved(after(10))));
    assert_eq!(w.alerts.next_check_in().await.unwrap(), Some(moved(after(20))));
    let due = w.alerts.due(moved(after(10))).await.unwrap();
    assert_eq!(due[0].countdown_until, Some(moved(after(10))));
    assert_eq!(w.alerts.due_check_ins(moved(after(20))).await.unwrap()[0].due_at, moved(after(20)));
    let seen = w.time.seen(after(2)).await.unwrap();
    assert_eq!((seen.steps, seen.last_step_ms, seen.undone), (1, HOUR_MS, false));
    assert!(w.time.step(1, -HOUR_MS, true, after(2)).await.unwrap());
    assert_eq!(w.alerts.next_due().await.unwrap(), Some(after(10)));
    assert!(w.time.seen(T0).await.unwrap().undone);
}

pub(crate) async fn a_change_made_across_a_step_is_made_again(w: &World) {
    let anna = w.person("anna").await;
    let emergency = raised(anna, 10);
    open(w, &emergency).await;
    w.time.step(0, HOUR_MS, false, after(1)).await.unwrap();
    let next = emergency.apply(Command::End(EndWith::Cancel, Manner::True), after(5)).unwrap();
    let change = Change { emergency: &next.emergency, joined: None, alerts: &[] };
    assert_eq!(w.alerts.change(change).await.unwrap(), None, "it was read before the step");
}
