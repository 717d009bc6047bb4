//! What has had its time, and what emergencies keep of it.

use crate::world::{alert, contacts, fence, fix, new_fix, raised};
use crate::{T0, World, after, id};
use cima::alerts::{
    Change, CheckIn, CheckInState, Command, Emergency, EndWith, Manner, Recipients, TransitionAlert,
    TransitionCommit,
};
use cima::clock::Timestamp;
use cima::id::{CheckInId, DeviceId, EmergencyId, NodeId, TransitionId, UserId};
use cima::identity::AccountPatch;
use cima::tracking::{
    Geofence, Incident, NewFix, Reading, StoredFix, TrackPage, TrailPart, Transition, Trigger, event_order,
};
use cima::trust::{Disclosed, DisclosureKey};
use std::time::Duration;

const EVER: Timestamp = Timestamp::from_unix_ms(i64::MAX);
const BEGINNING: Timestamp = Timestamp::from_unix_ms(i64::MIN);

fn incident(from: u64, to: Option<u64>) -> Incident {
    let to = to.map(after);
    Incident { emergency: EmergencyId(id()), from: after(from), to, shown_to: to }
}

fn whole(incident: &Incident) -> TrailPart {
    TrailPart { emergency: incident.emergency, from: BEGINNING, to: EVER }
}

fn seqs(fixes: &[StoredFix]) -> Vec<i64> {
    fixes.iter().map(|f| f.fix.seq).collect()
}

async fn trail(w: &World, device: DeviceId, parts: &[TrailPart]) -> Vec<i64> {
    seqs(&w.fixes.trail_page(&[device], parts, TrackPage::forwards(None, 100_000)).await.unwrap())
}

async fn expire_all(w: &World, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> u64 {
    let mut dropped = 0;
    loop {
        match w.fixes.expire(device, before, incidents).await.unwrap() {
            0 => return dropped,
            some => dropped += some,
        }
    }
}

pub(crate) async fn old_fixes_go_and_incidents_keep_their_part(w: &World) {
    let (phone, other) = (DeviceId(id()), DeviceId(id()));
    let group: Vec<NewFix> = (1..=3_000).map(|n| new_fix(phone, n, after(n.unsigned_abs()))).collect();
    w.fixes.record(&group).await.unwrap();
    w.fixes.record(&[new_fix(other, 1, after(1))]).await.unwrap();
    let asked = [(phone, after(2_501)), (other, after(1)), (DeviceId(id()), after(9))];
    assert_eq!(w.fixes.expired(&asked).await.unwrap(), vec![phone]);

    // Two windows that overlap, and one beyond what is dropped.
    let incidents = [incident(100, Some(1_200)), incident(1_100, Some(1_300)), incident(2_600, None)];
    assert_eq!(expire_all(w, phone, after(2_501), &incidents).await, 2_500);
    assert_eq!(w.fixes.expired(&asked).await.unwrap(), vec![]);
    let left = w.fixes.after(phone, (BEGINNING, 0), 10_000).await.unwrap();
    assert_eq!(seqs(&left), (2_501..=3_000).collect::<Vec<i64>>());
    assert_eq!(w.fixes.last_seq(phone).await.unwrap(), 3_000, "it outlives the fix");
    assert!(w.fixes.newest(&[other]).await.unwrap().is_some());

    assert_eq!(trail(w, phone, &[whole(&incidents[0])]).await, (100..=1_200).collect::<Vec<i64>>());
    assert_eq!(trail(w, phone, &[whole(&incidents[2])]).await, vec![] as Vec<i64>);
    let both = [whole(&incidents[0]), whole(&incidents[1])];
    assert_eq!(trail(w, phone, &both).await, (100..=1_300).collect::<Vec<i64>>(), "each once");
    let part = TrailPart { from: after(150), to: after(160), ..both[0] };
    assert_eq!(trail(w, phone, &[part]).await, (150..=160).collect::<Vec<i64>>());
    assert_eq!(trail(w, other, &both).await, vec![] as Vec<i64>);
    let newest = w.fixes.newest_of_trail(&[other, phone], &both).await.unwrap().unwrap();
    let original = &group[1_299];
    let expected = StoredFix { device: phone, fix: original.fix.clone(), received_at: original.received_at };
    assert_eq!(newest, expected);
    assert_eq!(w.fixes.newest_of_trail(&[phone], &[]).await.unwrap(), None);

    // In pages, with bounds, as fixes are read.
    let mut wanted: Vec<i64> = (200..=1_200).collect();
    for reading in [Reading::Forwards, Reading::Backwards] {
        let (mut paged, mut place) = (Vec::new(), None);
        loop {
            let page = TrackPage { reading, ..TrackPage::between(after(200), after(1_201), place, 300) };
            let page = w.fixes.trail_page(&[phone, other], &both, page).await.unwrap();
            paged.extend(seqs(&page));
            match page.last() {
                Some(last) if page.len() == 300 => place = Some(event_order(last)),
                _ => break,
            }
        }
        assert_eq!(paged, wanted, "{reading:?}");
        wanted.reverse();
    }

    assert_eq!(w.fixes.drop_trail(incidents[0].emergency).await.unwrap(), 1_101);
    assert_eq!(trail(w, phone, &both).await, (1_100..=1_300).collect::<Vec<i64>>());
    w.fixes.wipe_fixes().await.unwrap();
}

pub(crate) async fn an_open_incident_keeps_the_newest_fix_whatever_its_age(w: &World) {
    let phone = DeviceId(id());
    let (open, over) = (incident(500, None), incident(500, Some(600)));
    w.fixes.record(&[new_fix(phone, 1, after(1)), new_fix(phone, 2, after(2))]).await.unwrap();
    assert_eq!(expire_all(w, phone, after(100), &[open, over]).await, 2);
    assert_eq!(trail(w, phone, &[whole(&open)]).await, vec![2]);
    assert_eq!(trail(w, phone, &[whole(&over)]).await, vec![] as Vec<i64>);
    w.fixes.record(&[new_fix(phone, 3, after(3)), new_fix(phone, 4, after(400))]).await.unwrap();
    assert_eq!(expire_all(w, phone, after(100), &[open]).await, 1);
    assert_eq!(trail(w, phone, &[whole(&open)]).await, vec![2], "the newest is a fix still");
}

pub(crate) async fn keepers_say_how_long_and_for_what(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let (phone, _) = w.device(anna).await;
    let (removed, _) = w.device(anna).await;
    let (bobs, _) = w.device(bob).await;
    w.identity.remove_device(anna, removed, T0).await.unwrap();
    let retention = Some(Some(Duration::from_secs(7_200)));
    w.identity.update_account(anna, AccountPatch { retention, ..AccountPatch::default() }).await.unwrap();
    let check_in = |state: CheckInState, set: u64| CheckIn {
        id: CheckInId(id()),
        subject: bob,
        note: None,
        set_at: after(set),
        due_at: after(900),
        grace: Duration::ZERO,
        repeat: None,
        state,
        reminded: false,
        wakes_at: (state == CheckInState::Waiting).then_some(after(900)),
        emergency: None,
        version: 1,
    };
    for (state, set) in
        [(CheckInState::Completed, 5), (CheckInState::Waiting, 70), (CheckInState::Waiting, 60)]
    {
        w.alerts.create_check_in(&check_in(state, set), 20).await.unwrap();
    }
    let mut keepers: Vec<(DeviceId, UserId, Option<Duration>, Option<Timestamp>)> = Vec::new();
    loop {
        let page = w.tracking.keepers(keepers.last().map(|(device, ..)| *device), 2).await.unwrap();
        keepers.extend(page.iter().map(|k| (k.device, k.user, k.retention, k.held_from)));
        if page.len() < 2 {
            break;
        }
    }
    let hers = Some(Duration::from_secs(7_200));
    let mut expected =
        vec![(phone, anna, hers, None), (removed, anna, hers, None), (bobs, bob, None, Some(after(60)))];
    expected.sort_by_key(|k| k.0);
    assert_eq!(keepers, expected);
    let mut every = vec![phone, removed];
    every.sort();
    assert_eq!(w.tracking.every_device_of(anna).await.unwrap(), every);
}

/// An emergency of the person's, raised at T0 and ended so many seconds later.
async fn emergency(w: &World, subject: UserId, ended: Option<(u64, Manner)>) -> Emergency {
    let mut e = raised(subject, 0);
    w.alerts.raise(&e, e.id, &[]).await.unwrap();
    let commands =
        [Some((Command::Claim(subject), 1)), ended.map(|(s, m)| (Command::End(EndWith::Resolve, m), s))];
    for (command, s) in commands.into_iter().flatten() {
        e = e.apply(command, after(s)).unwrap().emergency;
        w.alerts.change(Change { emergency: &e, joined: None, alerts: &[] }).await.unwrap().unwrap();
    }
    e
}

pub(crate) async fn emergencies_are_incidents_until_their_time_is_over(w: &World) {
    let anna = w.person("anna").await;
    let truly = emergency(w, anna, Some((100, Manner::True))).await;
    let forced = emergency(w, anna, Some((100, Manner::Duress))).await;
    let open = emergency(w, anna, None).await;
    let found = w.tracking.incidents(anna, after(100)).await.unwrap();
    let facts = |e: &Emergency, to: Option<u64>, shown_to: Option<u64>| Incident {
        emergency: e.id,
        from: e.trail_from,
        to: to.map(after),
        shown_to: shown_to.map(after),
    };
    let mut expected =
        vec![facts(&truly, Some(100), Some(100)), facts(&forced, None, Some(100)), facts(&open, None, None)];
    expected.sort_by_key(|i| i.emergency);
    assert_eq!(found, expected);
    let later = w.tracking.incidents(anna, after(101)).await.unwrap();
    assert!(later.iter().all(|i| i.emergency != truly.id) && later.len() == 2);

    assert_eq!(w.alerts.past_emergencies(after(100), 9).await.unwrap(), vec![]);
    assert_eq!(w.alerts.bare_emergencies(after(100)).await.unwrap(), 0);
    assert_eq!(w.alerts.past_emergencies(after(101), 9).await.unwrap(), vec![truly.id]);
    assert_eq!(w.alerts.bare_emergencies(after(101)).await.unwrap(), 2);
    for id in [truly.id, forced.id, open.id] {
        w.alerts.erase_emergency(id).await.unwrap();
    }
    w.alerts.wipe().await.unwrap();
    let now = async |e: &Emergency| w.alerts.emergency_of(anna, e.id).await.unwrap().unwrap();
    let bare = Emergency { message: None, opening_fix: None, claims: vec![], erased: true, ..truly.clone() };
    assert_eq!(now(&truly).await, bare, "its id resolves for ever");
    assert_eq!(now(&forced).await, Emergency { erased: true, ..forced.clone() }, "it goes on");
    assert_eq!(now(&open).await, open);
    assert_eq!(w.alerts.past_emergencies(after(101), 9).await.unwrap(), vec![]);
}

pub(crate) async fn old_alerts_go_and_their_places_stay(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[cima::trust::Scope::Alerts], true).await;
    let open = emergency(w, anna, None).await;
    let forced = emergency(w, bob, Some((5, Manner::Duress))).await;
    let of = |e: EmergencyId| cima::alerts::AlertDraft { emergency: Some(e), ..alert(anna, contacts()) };
    let (old, of_open, of_forced) = (alert(anna, contacts()), of(open.id), of(forced.id));
    w.alerts.tell(&[old.clone(), of_open.clone(), of_forced.clone()]).await.unwrap();
    assert_eq!(w.alerts.expire_alerts(T0).await.unwrap(), 0);
    assert_eq!(w.alerts.expire_alerts(after(1)).await.unwrap(), 2);
    let shown = async || -> Vec<bool> {
        let inbox = w.alerts.inbox_after(bob, 0, 10).await.unwrap();
        inbox.iter().map(|p| p.alert.is_some()).collect()
    };
    assert_eq!(shown().await, vec![false, true, false], "those of what is open to its subject wait");
    // What is told again, late, has the place it had.
    w.alerts.tell(std::slice::from_ref(&old)).await.unwrap();
    assert_eq!(shown().await, vec![true, true, false]);
    w.alerts.tell(&[alert(anna, Recipients::Person(bob))]).await.unwrap();
    assert_eq!(w.inbox(bob).await.len(), 4);
}

pub(crate) async fn old_disclosures_go(w: &World) {
    let anna = w.person("anna").await;
    for (n, last) in [50, 100].into_iter().enumerate() {
        let viewer = w.person(&format!("viewer{n}")).await;
        let key =
            DisclosureKey { viewer, subject: anna, basis: "live_location", emergency: None, covert: false };
        w.trust
            .disclose(vec![Disclosed { key, first_at: T0, last_at: after(last), fixes: 1 }])
            .await
            .unwrap();
    }
    assert_eq!(w.trust.expire_disclosures(after(100)).await.unwrap(), 1);
    let left = w.trust.disclosures(anna, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|d| d.last_at).collect::<Vec<_>>(), vec![after(100)]);
}

pub(crate) async fn old_transitions_go_unless_a_state_follows_from_them(w: &World) {
    let anna = w.person("anna").await;
    let (phone, _) = w.device(anna).await;
    let (home, work) = (fence(anna, "home"), fence(anna, "work"));
    for fence in [&home, &work] {
        w.tracking.create_fence(fence, 200, 50_000).await.unwrap();
    }
    let found = |fence: &Geofence, kind: Trigger, s: u64| TransitionAlert {
        transition: Transition {
            id: TransitionId(id()),
            owner: anna,
            device: phone,
            fence: fence.id,
            kind,
            at: after(s),
            seq: i64::try_from(s).unwrap(),
            initial: false,
            late: false,
        },
        alert: None,
        cooldown: Duration::ZERO,
    };
    let transitions = vec![
        found(&home, Trigger::Enter, 1),
        found(&home, Trigger::Exit, 2),
        found(&work, Trigger::Cross, 3),
        found(&work, Trigger::Enter, 4),
        found(&home, Trigger::Enter, 5),
        found(&home, Trigger::Exit, 200),
    ];
    let folded_to = (after(200), 200);
    let commit = TransitionCommit {
        owner: anna,
        device: phone,
        states: vec![],
        folded_to,
        transitions,
        retracted: vec![],
        token: w.tracking.take_device(phone, NodeId(id())).await.unwrap().token,
        last: false,
        goes_on: false,
    };
    w.alerts.commit_transitions(&[commit]).await.unwrap();
    let before = w.tracking.states_before(phone, (after(100), 0)).await.unwrap();
    assert_eq!(before.len(), 2);
    let day = Duration::from_secs(86_400);
    let kept = w.alerts.expire_transitions(after(100), after(100), day).await.unwrap();
    assert_eq!(kept, 0, "a fix from before them may still come");
    assert_eq!(w.alerts.expire_transitions(after(100), after(86_500), day).await.unwrap(), 3);
    let left = w.tracking.transitions_since(phone, T0).await.unwrap();
    let left: Vec<_> = left.iter().map(|t| t.transition.at).collect();
    assert_eq!(left, vec![after(4), after(5), after(200)]);
    assert_eq!(w.tracking.states_before(phone, (after(100), 0)).await.unwrap(), before);
    w.tracking.delete_fence(anna, home.id).await.unwrap();
    assert_eq!(w.alerts.expire_transitions(after(100), after(86_500), day).await.unwrap(), 1);
}

pub(crate) async fn trails_of_the_forgotten_go_with_them(w: &World) {
    let anna = w.person("anna").await;
    let (phone, _) = w.device(anna).await;
    let incident = incident(0, Some(100));
    w.fixes.record(&[new_fix(phone, 1, after(1))]).await.unwrap();
    assert_eq!(expire_all(w, phone, after(50), &[incident]).await, 1);
    assert_eq!(trail(w, phone, &[whole(&incident)]).await, vec![1]);
    w.identity.forget(anna, T0).await.unwrap();
    assert_eq!(trail(w, phone, &[whole(&incident)]).await, vec![] as Vec<i64>);
    w.fixes
        .record(&[NewFix { fix: fix(2, after(2), 1.0, 1.0), ..new_fix(phone, 2, after(2)) }])
        .await
        .unwrap();
    assert_eq!(expire_all(w, phone, after(50), &[incident]).await, 0);
}
