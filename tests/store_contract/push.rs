//! Endpoints, and what is handed to their providers.

use crate::world::{alert, contacts};
use crate::{T0, World, after};
use cima::alerts::{AlertDraft, AlertKind, DeliveryState, Lane, Recipients};
use cima::clock::Timestamp;
use cima::id::{DeviceId, UserId};
use cima::push::{
    Channel, Claimed, Endpoint, Matter, Notification, Previous, Queue, Settled, Settlement, Target, Urgency,
};
use cima::trust::Scope;

const FCM: Queue = Queue { channel: Channel::Fcm, urgency: Urgency::Emergency };
const ROUTINE: Queue = Queue { channel: Channel::Fcm, urgency: Urgency::Routine };
const HOOKS: Queue = Queue { channel: Channel::Webhook, urgency: Urgency::Emergency };

fn token(text: &str) -> Target {
    Target::Fcm { token: text.into() }
}

fn hook(host: &str) -> Target {
    let previous = Some(Previous { secret: "whsec_old".into(), until_ms: 5 });
    Target::Webhook { url: format!("https://{host}/in"), secret: "whsec_new".into(), previous }
}

async fn register(w: &World, user: UserId, device: DeviceId, target: &Target, at: Timestamp) {
    assert!(w.push.register_endpoint(user, device, target, at).await.unwrap());
}

/// Somebody whose phone has this token.
async fn reachable(w: &World, name: &str, target: &Target) -> (UserId, DeviceId) {
    let user = w.person(name).await;
    let (device, _) = w.device(user).await;
    register(w, user, device, target, T0).await;
    (user, device)
}

fn urgent(to: UserId) -> AlertDraft {
    AlertDraft { lane: Lane::Emergency, kind: AlertKind::Emergency, ..alert(to, Recipients::Person(to)) }
}

async fn tell(w: &World, draft: &AlertDraft) {
    w.alerts.tell(std::slice::from_ref(draft)).await.unwrap();
}

async fn claim(w: &World, queue: Queue, now: Timestamp) -> Vec<Claimed> {
    w.push.claim_pushes(queue, &[], 100, now, now + std::time::Duration::from_secs(30)).await.unwrap()
}

async fn settle(w: &World, claimed: &Claimed, settlement: Settlement, now: Timestamp) -> Vec<UserId> {
    let settled = [Settled { key: claimed.key, settlement }];
    w.push.settle_pushes(Urgency::Emergency, &settled, now).await.unwrap()
}

pub(crate) async fn an_endpoint_reads_back_as_it_was_registered(w: &World) {
    let (anna, phone) = reachable(w, "anna", &token("a")).await;
    let browser = Target::Webpush {
        endpoint: "https://push.example/x".into(),
        p256dh: "BCVx".into(),
        auth: "BTBZ".into(),
    };
    for target in [&browser, &hook("hook.example"), &Target::Apns { token: "00fc".into() }] {
        register(w, anna, phone, target, after(1)).await;
    }
    register(w, anna, phone, &token("b"), after(2)).await;
    let endpoint = |target: Target, s| Endpoint { device: phone, target, registered_at: after(s) };
    let expected = vec![
        endpoint(Target::Apns { token: "00fc".into() }, 1),
        endpoint(token("b"), 2),
        endpoint(hook("hook.example"), 1),
        endpoint(browser, 1),
    ];
    assert_eq!(w.push.endpoints(anna).await.unwrap(), expected);
    let bob = w.person("bob").await;
    assert!(!w.push.register_endpoint(bob, phone, &token("c"), T0).await.unwrap(), "not his device");
    assert!(!w.push.remove_endpoint(bob, phone, Channel::Fcm).await.unwrap());
    assert!(w.push.remove_endpoint(anna, phone, Channel::Fcm).await.unwrap());
    assert!(!w.push.remove_endpoint(anna, phone, Channel::Fcm).await.unwrap());
    assert_eq!(w.push.endpoints(anna).await.unwrap().len(), 3);
}

pub(crate) async fn a_token_is_one_devices(w: &World) {
    let (anna, phone) = reachable(w, "anna", &token("the phone's")).await;
    let (bob, bobs) = reachable(w, "bob", &hook("hook.example")).await;
    register(w, anna, phone, &hook("hook.example"), T0).await;
    assert_eq!(w.push.endpoints(bob).await.unwrap().len(), 1, "a server may be of many");
    assert!(!w.push.register_endpoint(bob, phone, &token("the phone's"), T0).await.unwrap());
    assert_eq!(w.push.endpoints(anna).await.unwrap().len(), 2, "what was refused took nothing");
    register(w, bob, bobs, &token("the phone's"), T0).await;
    assert_eq!(w.push.endpoints(anna).await.unwrap().len(), 1);
    assert_eq!(w.push.endpoints(bob).await.unwrap().len(), 2);
}

pub(crate) async fn a_token_that_many_register_at_once_is_one_devices(w: &World) {
    let mut devices = Vec::new();
    for name in ["anna", "bob", "cleo", "dora"] {
        devices.push(reachable(w, name, &token(name)).await);
    }
    for round in 0..10 {
        let shared = token(&format!("handed round {round}"));
        let all = devices.iter().map(|(user, device)| w.push.register_endpoint(*user, *device, &shared, T0));
        for registered in futures_util::future::join_all(all).await {
            assert!(registered.unwrap(), "somebody's device was refused");
        }
        let mut holders = 0;
        for (user, _) in &devices {
            holders += w.push.endpoints(*user).await.unwrap().iter().filter(|e| e.target == shared).count();
        }
        assert_eq!(holders, 1);
    }
}

pub(crate) async fn an_endpoint_goes_with_its_device_and_its_person(w: &World) {
    let (anna, phone) = reachable(w, "anna", &token("a")).await;
    w.identity.remove_device(anna, phone, T0).await.unwrap();
    assert_eq!(w.push.endpoints(anna).await.unwrap(), vec![]);
    assert!(!w.push.register_endpoint(anna, phone, &token("a"), T0).await.unwrap());
    let (other, _) = w.device(anna).await;
    register(w, anna, other, &token("a"), T0).await;
    tell(w, &urgent(anna)).await;
    w.identity.forget(anna, T0).await.unwrap();
    assert_eq!(w.push.endpoints(anna).await.unwrap(), vec![]);
    assert_eq!(claim(w, FCM, after(9)).await, vec![]);
}

pub(crate) async fn an_alert_is_pushed_to_every_endpoint_of_every_recipient(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let deaf = w.contact(anna, "deaf", &[Scope::Zones], true).await;
    for (user, name) in [(bob, "b1"), (bob, "b2"), (deaf, "d"), (anna, "a")] {
        let (device, _) = w.device(user).await;
        register(w, user, device, &token(name), T0).await;
    }
    let draft = AlertDraft { lane: Lane::Emergency, kind: AlertKind::Emergency, ..alert(anna, contacts()) };
    assert_eq!(w.push.next_push(FCM).await.unwrap(), None);
    tell(w, &draft).await;
    tell(w, &draft).await;
    assert_eq!(w.push.next_push(FCM).await.unwrap(), Some(T0), "an emergency is due at once");
    let mut claimed = claim(w, FCM, T0).await;
    claimed.sort_by_key(|c| format!("{:?}", c.target == token("b2")));
    let targets: Vec<_> = claimed.iter().map(|c| c.target.clone()).collect();
    assert_eq!(targets, vec![token("b1"), token("b2")]);
    let notification = Notification {
        alert: draft.id,
        matter: Matter::Emergency,
        urgency: Urgency::Emergency,
        locale: "en".into(),
        until: T0 + Matter::Emergency.lifetime(),
    };
    let one = &claimed[0];
    assert_eq!(one.notification, notification);
    assert_eq!((one.tries, one.queued_at, one.received, one.seen), (0, T0, false, false));

    let routine = alert(anna, contacts());
    tell(w, &routine).await;
    let due = w.push.next_push(ROUTINE).await.unwrap().unwrap();
    assert!(due > T0, "the app has its chance first");
    assert_eq!(claim(w, ROUTINE, T0).await, vec![]);
    let claimed = claim(w, ROUTINE, due).await;
    assert_eq!(claimed.len(), 2);
    assert_eq!(claimed[0].notification.until, T0 + Matter::Geofence.lifetime());
}

pub(crate) async fn a_claim_is_one_workers_until_its_lease_ends(w: &World) {
    let (anna, _) = reachable(w, "anna", &token("a")).await;
    for _ in 0..5 {
        tell(w, &urgent(anna)).await;
    }
    let some = w.push.claim_pushes(FCM, &[], 3, after(1), after(30)).await.unwrap();
    assert_eq!(some.len(), 3);
    assert_eq!(claim(w, FCM, after(1)).await.len(), 2, "what is claimed is not claimed twice");
    assert_eq!(claim(w, FCM, after(29)).await, vec![]);
    let again = claim(w, FCM, after(30)).await;
    assert_eq!(again.len(), 3, "a lease has an end");
    // Whoever had it before says nothing of it any more, but that it was taken.
    let late = again.iter().find(|c| c.key.alert == some[0].key.alert).unwrap();
    assert_ne!(late.key, some[0].key);
    for settlement in [Settlement::Dead("refused"), Settlement::Retry(after(900)), Settlement::Unneeded] {
        settle(w, &some[0], settlement, after(31)).await;
    }
    let mut due: Vec<_> = claim(w, FCM, after(100)).await.into_iter().map(|c| c.key.alert).collect();
    due.sort();
    assert_eq!(due.len(), 5);
    assert!(due.contains(&some[0].key.alert));
}

pub(crate) async fn claims_leave_out_services_and_other_queues(w: &World) {
    let (anna, phone) = reachable(w, "anna", &hook("slow.example")).await;
    let (other, _) = w.device(anna).await;
    register(w, anna, other, &hook("quick.example"), T0).await;
    register(w, anna, phone, &token("a"), T0).await;
    tell(w, &urgent(anna)).await;
    let except = ["https://slow.example".to_owned()];
    let claimed = w.push.claim_pushes(HOOKS, &except, 10, T0, after(30)).await.unwrap();
    let services: Vec<_> = claimed.iter().map(|c| c.target.service()).collect();
    assert_eq!(services, vec!["https://quick.example"]);
    assert_eq!(claimed[0].target, hook("quick.example"));
    assert_eq!(w.push.next_push(HOOKS).await.unwrap(), Some(T0), "the other still waits");
    assert_eq!(claim(w, HOOKS, T0).await.len(), 1);
    assert_eq!(claim(w, FCM, T0).await.len(), 1);
    assert_eq!(claim(w, ROUTINE, after(99)).await, vec![]);
}

pub(crate) async fn what_a_provider_took_is_sent_whoever_claimed_it(w: &World) {
    let (anna, _) = reachable(w, "anna", &token("a")).await;
    let bob = w.person("bob").await;
    let emergency = crate::world::raised(bob, 0);
    let draft = AlertDraft { emergency: Some(emergency.id), subject: bob, ..urgent(anna) };
    w.alerts.raise(&emergency, emergency.id, &[draft]).await.unwrap();
    let first = claim(w, FCM, T0).await.remove(0);
    let second = claim(w, FCM, after(60)).await.remove(0);
    assert_eq!(first.key.alert, second.key.alert);
    settle(w, &first, Settlement::Accepted, after(61)).await;
    settle(w, &second, Settlement::Retry(after(62)), after(62)).await;
    assert_eq!(w.push.next_push(FCM).await.unwrap(), None, "it was taken");
    let sent: Vec<_> =
        w.alerts.deliveries(emergency.id).await.unwrap().into_iter().map(|d| d.sent_at).collect();
    assert_eq!(sent, vec![Some(after(61))]);
}

pub(crate) async fn a_push_is_tried_again_given_up_and_replayed(w: &World) {
    let (anna, _) = reachable(w, "anna", &token("a")).await;
    tell(w, &urgent(anna)).await;
    let one = claim(w, FCM, T0).await.remove(0);
    settle(w, &one, Settlement::Retry(after(5)), after(1)).await;
    assert_eq!(w.push.next_push(FCM).await.unwrap(), Some(after(5)));
    let one = claim(w, FCM, after(5)).await.remove(0);
    assert_eq!(one.tries, 1);
    settle(w, &one, Settlement::Later(after(6)), after(5)).await;
    let one = claim(w, FCM, after(6)).await.remove(0);
    assert_eq!(one.tries, 1, "it was not tried");
    settle(w, &one, Settlement::Dead("refused"), after(7)).await;
    assert_eq!(claim(w, FCM, after(999)).await, vec![]);
    assert_eq!(w.push.replay_pushes(after(1_000)).await.unwrap(), 1);
    assert_eq!(w.push.replay_pushes(after(1_000)).await.unwrap(), 0);
    let one = claim(w, FCM, after(1_000)).await.remove(0);
    assert_eq!((one.tries, one.notification.until), (0, after(1_000) + Matter::Emergency.lifetime()));
}

pub(crate) async fn an_app_that_was_faster_is_seen_by_the_claim(w: &World) {
    let (anna, _) = reachable(w, "anna", &token("a")).await;
    let draft = urgent(anna);
    tell(w, &draft).await;
    w.alerts.ack(anna, draft.id, DeliveryState::Received, after(1)).await.unwrap();
    let one = claim(w, FCM, after(1)).await.remove(0);
    assert_eq!((one.received, one.seen), (true, false));
    settle(w, &one, Settlement::Later(after(2)), after(2)).await;
    w.alerts.ack(anna, draft.id, DeliveryState::Seen, after(2)).await.unwrap();
    let one = claim(w, FCM, after(2)).await.remove(0);
    assert_eq!((one.received, one.seen), (true, true));
    settle(w, &one, Settlement::Unneeded, after(3)).await;
    assert_eq!(w.push.next_push(FCM).await.unwrap(), None);
    assert_eq!(w.push.replay_pushes(after(4)).await.unwrap(), 0, "what nobody needs is not given up");
}

pub(crate) async fn what_is_gone_is_removed_unless_it_came_back(w: &World) {
    let (anna, phone) = reachable(w, "anna", &token("old")).await;
    let there = async || w.push.endpoints(anna).await.unwrap().len();
    let told = async |s| {
        tell(w, &urgent(anna)).await;
        claim(w, FCM, after(s)).await.remove(0)
    };
    // Registered again after the claim: with another token, and with the same.
    for target in [token("new"), token("new")] {
        let one = told(1).await;
        register(w, anna, phone, &target, after(1)).await;
        settle(w, &one, Settlement::Gone(None), after(2)).await;
        assert_eq!(there().await, 1);
        let again = claim(w, FCM, after(2)).await.remove(0);
        assert_eq!((again.key.alert, &again.target), (one.key.alert, &target), "and it is due at once");
        settle(w, &again, Settlement::Accepted, after(2)).await;
    }
    // Forgotten and registered anew: that is another registration, too.
    let one = told(3).await;
    w.push.remove_endpoint(anna, phone, Channel::Fcm).await.unwrap();
    register(w, anna, phone, &token("new"), after(3)).await;
    settle(w, &one, Settlement::Gone(None), after(3)).await;
    assert_eq!(there().await, 1);
    // The provider speaks of a time before it was registered.
    for since in [after(2), after(3)] {
        let one = told(4).await;
        settle(w, &one, Settlement::Gone(Some(since)), after(4)).await;
        assert_eq!(there().await, 1);
        let again = claim(w, FCM, after(4)).await.remove(0);
        settle(w, &again, Settlement::Accepted, after(4)).await;
    }
    let one = told(5).await;
    settle(w, &one, Settlement::Gone(Some(after(4))), after(5)).await;
    assert_eq!(there().await, 0);
    assert_eq!(w.push.next_push(FCM).await.unwrap(), None);
}

pub(crate) async fn the_last_endpoint_is_told_to_those_who_count_on_it(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let (phone, _) = w.device(bob).await;
    let (tablet, _) = w.device(bob).await;
    register(w, bob, phone, &token("1"), T0).await;
    register(w, bob, tablet, &token("2"), T0).await;
    tell(w, &urgent(bob)).await;
    let claimed = claim(w, FCM, T0).await;
    assert_eq!(settle(w, &claimed[0], Settlement::Gone(None), after(1)).await, vec![], "there is another");
    assert_eq!(settle(w, &claimed[1], Settlement::Gone(None), after(1)).await, vec![anna]);
    assert_eq!(settle(w, &claimed[1], Settlement::Gone(None), after(1)).await, vec![], "once");
    let inbox = w.alerts.inbox_after(anna, 0, 10).await.unwrap();
    let alert = inbox[0].alert.clone().unwrap();
    assert_eq!((inbox.len(), alert.template.as_str()), (1, "link.unreachable"));
    assert_eq!(alert.params["contact"], "bob Example");
    // A person's own removal is their own business.
    register(w, bob, phone, &token("1"), after(2)).await;
    w.push.remove_endpoint(bob, phone, Channel::Fcm).await.unwrap();
    assert_eq!(w.inbox(anna).await.len(), 1);
}

pub(crate) async fn what_had_its_time_is_swept(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let (phone, _) = w.device(bob).await;
    register(w, bob, phone, &token("old"), T0).await;
    register(w, bob, phone, &hook("hook.example"), T0).await;
    tell(w, &urgent(bob)).await;
    let end = T0 + Matter::Emergency.lifetime();
    assert_eq!(w.push.sweep_pushes(after(5), T0).await.unwrap(), vec![]);
    assert_eq!(w.push.next_push(FCM).await.unwrap(), Some(T0));
    w.push.sweep_pushes(end, T0).await.unwrap();
    assert_eq!(w.push.next_push(FCM).await.unwrap(), None, "it is given up");
    assert_eq!(w.push.replay_pushes(end).await.unwrap(), 2);
    assert_eq!(w.push.sweep_pushes(end, after(1)).await.unwrap(), vec![], "the server is still there");
    let left: Vec<_> = w.push.endpoints(bob).await.unwrap().into_iter().map(|e| e.target).collect();
    assert_eq!(left, vec![hook("hook.example")], "a server does not grow old");
    w.push.remove_endpoint(bob, phone, Channel::Webhook).await.unwrap();
    register(w, bob, phone, &token("old"), T0).await;
    assert_eq!(w.push.sweep_pushes(end, after(1)).await.unwrap(), vec![anna]);
}

pub(crate) async fn what_a_gone_process_claimed_is_due(w: &World) {
    let (anna, _) = reachable(w, "anna", &token("a")).await;
    tell(w, &urgent(anna)).await;
    let lost = claim(w, FCM, after(1)).await.remove(0);
    // A store that several processes share waits for the lease.
    let recovered = w.push.recover_pushes(after(2)).await.unwrap();
    let now = if recovered > 0 { after(2) } else { after(31) };
    assert_eq!(claim(w, FCM, now).await.remove(0).key.alert, lost.key.alert);
}

pub(crate) async fn the_oldest_emergency_that_waits_is_known(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let (device, _) = w.device(bob).await;
    register(w, bob, device, &token("b"), T0).await;
    tell(w, &alert(anna, contacts())).await;
    assert_eq!(w.push.oldest_emergency_push().await.unwrap(), None, "a routine one is none");
    let sos = AlertDraft { lane: Lane::Emergency, kind: AlertKind::Emergency, ..alert(anna, contacts()) };
    tell(w, &sos).await;
    assert_eq!(w.push.oldest_emergency_push().await.unwrap(), Some(T0));
    let claimed = claim(w, FCM, T0).await;
    assert_eq!(w.push.oldest_emergency_push().await.unwrap(), Some(T0), "no provider has it yet");
    let taken = Settled { key: claimed[0].key, settlement: Settlement::Accepted };
    w.push.settle_pushes(Urgency::Emergency, &[taken], T0).await.unwrap();
    assert_eq!(w.push.oldest_emergency_push().await.unwrap(), None);
}
