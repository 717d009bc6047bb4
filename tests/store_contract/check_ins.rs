//! Check-ins: set, changed, fired, never after a completion.

use crate::world::{alert, contacts, raised};
use crate::{T0, World, after, by_polls, id};
use cima::alerts::{
    AlertDraft, AlertKind, Change, CheckIn, CheckInCreated, CheckInCursor, CheckInDue, CheckInState, Command,
    Committed, Emergency, EndWith, Fired, Manner, Raised, Recipients,
};
use cima::id::{CheckInId, EmergencyId, UserId};
use cima::trust::Scope;
use futures_util::future::join;
use std::time::Duration;

const MAX: u32 = 20;

/// One that is due after so long, with half a minute of grace.
pub(crate) fn set(subject: UserId, due_s: u64) -> CheckIn {
    CheckIn {
        id: CheckInId(id()),
        subject,
        note: Some("to the lake".into()),
        set_at: T0,
        due_at: after(due_s),
        grace: Duration::from_secs(30),
        repeat: Some(Duration::from_secs(600)),
        state: CheckInState::Waiting,
        reminded: false,
        wakes_at: Some(after(due_s)),
        emergency: None,
        version: 1,
    }
}

pub(crate) async fn create(w: &World, check_in: &CheckIn) {
    assert_eq!(w.alerts.create_check_in(check_in, MAX).await.unwrap(), CheckInCreated::Created);
}

async fn change(w: &World, next: &CheckIn) -> bool {
    w.alerts.change_check_in(next, &[]).await.unwrap().is_some()
}

async fn read(w: &World, c: &CheckIn) -> Option<CheckIn> {
    w.alerts.check_in(c.subject, c.id).await.unwrap()
}

fn about(emergency: &Emergency) -> AlertDraft {
    AlertDraft {
        kind: AlertKind::Emergency,
        emergency: Some(emergency.id),
        ..alert(emergency.subject, contacts())
    }
}

/// Tries to store a miss that opens this emergency.
async fn fire(w: &World, check_in: &CheckIn, emergency: &Emergency) -> Fired {
    let alerts = [about(emergency)];
    let change = Change { emergency, joined: None, alerts: &alerts };
    w.alerts.fire_check_in(&check_in.miss(emergency.id).unwrap(), change).await.unwrap()
}

fn opens(check_in: &CheckIn) -> Emergency {
    check_in.raise(check_in.raises_as(), after(90)).emergency
}

pub(crate) async fn a_check_in_reads_back_as_it_was_set(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let first = set(anna, 60);
    create(w, &first).await;
    let bare = CheckIn { note: None, repeat: None, grace: Duration::ZERO, ..set(anna, 61) };
    create(w, &bare).await;
    for one in [&first, &bare] {
        assert_eq!(read(w, one).await.as_ref(), Some(one));
        assert_eq!(w.alerts.check_in(bob, one.id).await.unwrap(), None);
    }
    let repeat = CheckIn { note: None, ..first.clone() };
    let again = w.alerts.create_check_in(&repeat, MAX).await.unwrap();
    assert_eq!(again, CheckInCreated::Repeated(first.clone()));
    let stolen = CheckIn { subject: bob, ..first.clone() };
    assert_eq!(w.alerts.create_check_in(&stolen, MAX).await.unwrap(), CheckInCreated::Conflict);

    assert_eq!(w.alerts.create_check_in(&set(anna, 9), 2).await.unwrap(), CheckInCreated::TooMany);
    let again = w.alerts.create_check_in(&repeat, 2).await.unwrap();
    assert_eq!(again, CheckInCreated::Repeated(first), "a repeat is none too many");
    let completed = bare.complete(after(5)).unwrap();
    assert!(change(w, &completed).await);
    let third = set(anna, 9);
    assert_eq!(w.alerts.create_check_in(&third, 2).await.unwrap(), CheckInCreated::Created, "two wait");
    let deleted = third.delete().unwrap();
    assert!(change(w, &deleted).await);
    let again = w.alerts.create_check_in(&third, 2).await.unwrap();
    assert_eq!(again, CheckInCreated::Repeated(deleted), "a late repeat does not set it again");
}

pub(crate) async fn check_ins_come_in_pages_and_those_that_wait_first(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let mut all: Vec<CheckIn> = (0..6).map(|n| set(anna, 60 + n)).collect();
    for c in &all {
        create(w, c).await;
    }
    create(w, &set(bob, 60)).await;
    all.sort_by_key(|c| c.id);
    let over = |c: &CheckIn| CheckIn { repeat: None, ..c.clone() }.complete(after(1)).unwrap();
    for n in [0, 3] {
        let completed = CheckIn { repeat: all[n].repeat, ..over(&all[n]) };
        assert!(change(w, &completed).await);
        all[n] = completed;
    }
    assert!(change(w, &all[4].delete().unwrap()).await);
    let expected = [1, 2, 5, 0, 3].map(|n: usize| all[n].clone());
    let mut listed: Vec<CheckIn> = Vec::new();
    loop {
        let place = |c: &CheckIn| CheckInCursor { waiting: c.state == CheckInState::Waiting, id: c.id };
        let page = w.alerts.check_ins(anna, listed.last().map(place), 2).await.unwrap();
        let ended = page.len() < 2;
        listed.extend(page);
        if ended {
            break;
        }
    }
    assert_eq!(listed, expected);
}

pub(crate) async fn a_check_in_changes_from_the_version_it_names(w: &World) {
    let anna = w.person("anna").await;
    let waiting = set(anna, 60);
    create(w, &waiting).await;
    let Some(CheckInDue::Remind(reminded)) = waiting.due(after(60)) else { panic!("no reminder") };
    let reminder = AlertDraft { kind: AlertKind::CheckIn, ..alert(anna, Recipients::Person(anna)) };
    let alerts = std::slice::from_ref(&reminder);
    let told = w.alerts.change_check_in(&reminded, alerts).await.unwrap();
    assert_eq!(told, Some(Committed { told: vec![anna] }));
    assert_eq!(read(w, &waiting).await, Some(reminded.clone()));
    let stale = waiting.complete(after(61)).unwrap();
    assert_eq!(w.alerts.change_check_in(&stale, &[alert(anna, contacts())]).await.unwrap(), None);
    assert_eq!(read(w, &waiting).await, Some(reminded.clone()));
    let again = reminded.complete(after(62)).unwrap();
    assert!(change(w, &again).await);
    assert_eq!(read(w, &waiting).await, Some(again));
    let inbox = w.alerts.inbox_after(anna, 0, 9).await.unwrap();
    assert_eq!(inbox.len(), 1, "a refused change tells nothing");
    assert_eq!(inbox[0].alert.as_ref().map(|a| a.kind), Some(AlertKind::CheckIn));
}

pub(crate) async fn a_miss_and_its_emergency_are_one(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let waiting = set(anna, 60);
    create(w, &waiting).await;
    let emergency = opens(&waiting);
    assert_eq!(fire(w, &waiting, &emergency).await, Fired::Stored(Committed { told: vec![bob] }));
    assert_eq!(read(w, &waiting).await, waiting.miss(emergency.id));
    assert_eq!(w.alerts.emergency_of(anna, emergency.id).await.unwrap(), Some(emergency.clone()));
    assert_eq!(fire(w, &waiting, &emergency).await, Fired::Stale, "once");
    assert_eq!(w.inbox(bob).await.len(), 1);

    // Completed by whoever came first: nothing of the miss is stored.
    let completed = set(anna, 60);
    create(w, &completed).await;
    assert!(change(w, &completed.complete(after(61)).unwrap()).await);
    assert_eq!(fire(w, &completed, &opens(&completed)).await, Fired::Stale);
    assert_eq!(w.alerts.open_of(anna).await.unwrap(), vec![emergency]);
    assert_eq!(w.inbox(bob).await.len(), 1);
}

pub(crate) async fn a_miss_joins_what_is_open(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let open = raised(anna, 0);
    assert!(matches!(w.alerts.raise(&open, open.id, &[]).await.unwrap(), Raised::Opened(_)));
    let waiting = set(anna, 60);
    create(w, &waiting).await;
    assert_eq!(fire(w, &waiting, &opens(&waiting)).await, Fired::Open(Box::new(open.clone())));
    assert_eq!(read(w, &waiting).await, Some(waiting.clone()), "nothing is stored before it has joined");

    let id = waiting.raises_as();
    let joined = open.apply(Command::Join(id), after(90)).unwrap().emergency;
    let missed = waiting.miss(open.id).unwrap();
    let alerts = [about(&joined)];
    let claimed = open.apply(Command::Claim(bob), after(80)).unwrap().emergency;
    w.alerts.change(Change { emergency: &claimed, joined: None, alerts: &[] }).await.unwrap().unwrap();
    let stale = Change { emergency: &joined, joined: Some(id), alerts: &alerts };
    assert_eq!(w.alerts.fire_check_in(&missed, stale).await.unwrap(), Fired::Changed);
    assert_eq!(read(w, &waiting).await, Some(waiting.clone()));

    let joined = claimed.apply(Command::Join(id), after(90)).unwrap().emergency;
    let change = Change { emergency: &joined, joined: Some(id), alerts: &alerts };
    let fired = w.alerts.fire_check_in(&missed, change).await.unwrap();
    assert_eq!(fired, Fired::Stored(Committed { told: vec![bob] }));
    assert_eq!(w.alerts.emergency_of(anna, id).await.unwrap(), Some(joined.clone()));
    assert_eq!(read(w, &waiting).await, Some(missed));

    // An id that was raised with before is no reason not to raise.
    let second = set(anna, 70);
    create(w, &second).await;
    let ended = joined.apply(Command::End(EndWith::Resolve, Manner::True), after(95)).unwrap().emergency;
    w.alerts.change(Change { emergency: &ended, joined: None, alerts: &[] }).await.unwrap().unwrap();
    let used = second.raise(id, after(100)).emergency;
    assert_eq!(fire(w, &second, &used).await, Fired::IdTaken);
    let other = second.raise(EmergencyId(crate::id()), after(100)).emergency;
    assert!(matches!(fire(w, &second, &other).await, Fired::Stored(_)));
}

pub(crate) async fn of_a_completion_and_a_miss_one_is_stored(w: &World) {
    let (mut completions, mut misses) = (0, 0);
    for n in 0..40 {
        let anna = w.person(&format!("anna{n}")).await;
        let waiting = CheckIn { repeat: None, ..set(anna, 60) };
        create(w, &waiting).await;
        let (completed, emergency) = (waiting.complete(after(90)).unwrap(), opens(&waiting));
        let (done, fired) = if n % 2 == 0 {
            join(change(w, &completed), fire(w, &waiting, &emergency)).await
        } else {
            let (fired, done) = join(fire(w, &waiting, &emergency), change(w, &completed)).await;
            (done, fired)
        };
        let stored = matches!(fired, Fired::Stored(_));
        assert_ne!(done, stored, "{fired:?}");
        assert_eq!(w.alerts.open_of(anna).await.unwrap().len(), usize::from(stored));
        let state = if done { CheckInState::Completed } else { CheckInState::Missed };
        assert_eq!(read(w, &waiting).await.map(|c| c.state), Some(state));
        completions += u32::from(done);
        misses += u32::from(stored);
    }
    assert!(completions > 0 && misses > 0, "{completions} completions, {misses} misses");
}

/// Drops a miss after its first poll, its second, and so on, far beyond its end; then tries it again.
pub(crate) async fn a_dropped_miss_leaves_all_or_nothing(w: &World) {
    let mut dropped = 0;
    for polls in 1..=40 {
        let anna = w.person(&format!("anna{polls}")).await;
        let bob = w.contact(anna, &format!("bob{polls}"), &[Scope::Alerts], true).await;
        let waiting = set(anna, 60);
        create(w, &waiting).await;
        let emergency = opens(&waiting);
        dropped += usize::from(!by_polls(polls, fire(w, &waiting, &emergency)).await);
        w.settle().await;
        let stored = read(w, &waiting).await != Some(waiting.clone());
        assert_eq!(w.alerts.emergency(emergency.id).await.unwrap().is_some(), stored);
        assert_eq!(w.inbox(bob).await.len(), usize::from(stored));
        let again = fire(w, &waiting, &emergency).await;
        assert_eq!(again == Fired::Stale, stored);
        assert_eq!(w.alerts.open_of(anna).await.unwrap(), vec![emergency]);
        assert_eq!(w.inbox(bob).await.len(), 1);
    }
    assert!(dropped > 0, "nothing was dropped");
}

pub(crate) async fn a_timer_finds_the_check_ins_to_look_at(w: &World) {
    let anna = w.person("anna").await;
    assert_eq!(w.alerts.next_check_in().await.unwrap(), None);
    let (soon, later) = (set(anna, 10), set(anna, 20));
    create(w, &later).await;
    create(w, &soon).await;
    assert_eq!(w.alerts.next_check_in().await.unwrap(), Some(after(10)));
    assert_eq!(w.alerts.due_check_ins(after(9)).await.unwrap(), vec![]);
    assert_eq!(w.alerts.due_check_ins(after(10)).await.unwrap(), vec![soon.clone()]);
    assert_eq!(w.alerts.due_check_ins(after(20)).await.unwrap(), vec![soon.clone(), later.clone()]);
    let Some(CheckInDue::Remind(reminded)) = soon.due(after(10)) else { panic!("no reminder") };
    assert!(change(w, &reminded).await);
    assert_eq!(w.alerts.next_check_in().await.unwrap(), Some(after(20)));
    assert_eq!(w.alerts.due_check_ins(after(40)).await.unwrap(), vec![later.clone(), reminded.clone()]);
    assert!(change(w, &later.delete().unwrap()).await);
    assert!(matches!(fire(w, &reminded, &opens(&reminded)).await, Fired::Stored(_)));
    assert_eq!(w.alerts.next_check_in().await.unwrap(), None);
    assert_eq!(w.alerts.due_check_ins(after(9_999)).await.unwrap(), vec![]);
}

pub(crate) async fn forgotten_check_ins_never_fire(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let (first, second, his) = (set(anna, 10), set(anna, 10), set(bob, 10));
    for c in [&first, &second, &his] {
        create(w, c).await;
    }
    w.alerts.forget_check_ins(anna).await.unwrap();
    assert_eq!(w.alerts.due_check_ins(after(99)).await.unwrap(), vec![his.clone()]);
    // It was read by a timer before.
    assert_eq!(fire(w, &first, &opens(&first)).await, Fired::Stale);
    assert_eq!(w.alerts.open().await.unwrap(), vec![]);
    w.identity.forget(bob, after(9)).await.unwrap();
    assert_eq!(fire(w, &his, &opens(&his)).await, Fired::Stale);
    assert_eq!(w.alerts.due_check_ins(after(99)).await.unwrap(), vec![]);
}
