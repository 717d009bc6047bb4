//! Alerts, inboxes, deliveries.

use crate::world::{alert, contacts, new_link, raised};
use crate::{T0, World, after, id};
use cima::alerts::{
    Alert, AlertDraft, AlertKind, Audience, Committed, Delivery, DeliveryState, Inboxed, Recipients,
};
use cima::id::{AlertId, UserId};
use cima::trust::{LinkPatch, NewLink, Scope};
use std::time::Duration;

pub(crate) async fn an_alert_is_stored_once(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let draft = alert(anna, contacts());
    let told = w.alerts.tell(std::slice::from_ref(&draft)).await.unwrap();
    assert_eq!(told, Committed { told: vec![bob] });
    assert_eq!(w.alerts.tell(std::slice::from_ref(&draft)).await.unwrap(), Committed::default());
    let AlertDraft { id, kind, severity, subject, at, template, params, geofence, transition, .. } = draft;
    let expected = Alert {
        id,
        kind,
        severity,
        subject,
        subject_name: "anna Example".into(),
        at,
        template: template.into(),
        params,
        emergency: None,
        geofence,
        transition,
        late: true,
        seen_at: None,
    };
    let inbox = w.alerts.inbox_after(bob, 0, 10).await.unwrap();
    assert_eq!(inbox, vec![Inboxed { cursor: 1, id, alert: Some(expected) }]);

    let twice = alert(anna, contacts());
    w.alerts.tell(&[twice.clone(), twice, alert(anna, Recipients::Person(bob))]).await.unwrap();
    assert_eq!(w.inbox(bob).await.len(), 3);
    // Of or to somebody who is not there: nobody is told, and it is no error.
    let nobody = UserId(crate::id());
    let strange = [alert(nobody, contacts()), alert(anna, Recipients::Person(nobody))];
    assert_eq!(w.alerts.tell(&strange).await.unwrap(), Committed::default());
}

pub(crate) async fn contacts_are_those_of_the_moment(w: &World) {
    let anna = w.person("anna").await;
    let told = w.contact(anna, "told", &[Scope::Alerts, Scope::Zones], true).await;
    w.contact(anna, "unscoped", &[Scope::LiveLocation, Scope::EmergencyLocation, Scope::Zones], true).await;
    let pending = w.person("pending").await;
    w.trust.create_link(new_link(anna, pending, &Scope::ALL)).await.unwrap();
    let other_way = w.person("otherway").await;
    let link = new_link(other_way, anna, &Scope::ALL);
    let link_id = link.id;
    w.trust.create_link(link).await.unwrap();
    w.trust.accept_link(link_id, anna, T0).await.unwrap();
    let expiring = w.person("expiring").await;
    let link = NewLink { expires_at: Some(after(100)), ..new_link(anna, expiring, &Scope::ALL) };
    let link_id = link.id;
    w.trust.create_link(link).await.unwrap();
    w.trust.accept_link(link_id, expiring, T0).await.unwrap();

    let committed = w.alerts.tell(&[alert(anna, contacts())]).await.unwrap();
    let mut expected = vec![told, expiring];
    expected.sort();
    assert_eq!(committed.told, expected);
    w.clock.advance(Duration::from_secs(100));
    let late = AlertDraft { at: T0, ..alert(anna, contacts()) };
    let committed = w.alerts.tell(&[late]).await.unwrap();
    assert_eq!(committed.told, vec![told], "what happened before does not open an expired link");

    let link = w.trust.link_between(anna, told, w.clock.now()).await.unwrap().unwrap();
    let quiet = LinkPatch { scopes: Some([Scope::Zones].into_iter().collect()), ..LinkPatch::default() };
    w.trust.update_link(link.id, anna, quiet, w.clock.now()).await.unwrap();
    assert_eq!(w.alerts.tell(&[alert(anna, contacts())]).await.unwrap(), Committed::default());
}

pub(crate) async fn named_contacts_only(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let cleo = w.contact(anna, "cleo", &[Scope::Alerts], true).await;
    let stranger = w.person("stranger").await;
    let only =
        |users: &[UserId]| Recipients::Contacts { only: Some(users.to_vec()), audience: Audience::All };
    let told = async |recipients| w.alerts.tell(&[alert(anna, recipients)]).await.unwrap().told;
    assert_eq!(told(only(&[cleo, stranger, anna])).await, vec![cleo]);
    assert_eq!(told(only(&[])).await, vec![]);
    assert_eq!(told(only(&[bob, bob])).await, vec![bob]);
    assert!(w.inbox(stranger).await.is_empty());
}

pub(crate) async fn duress_is_told_to_those_who_hear_of_it(w: &World) {
    let anna = w.person("anna").await;
    let hears = w.contact(anna, "hears", &[Scope::Alerts], true).await;
    let deaf = w.contact(anna, "deaf", &[Scope::Alerts], false).await;
    let told = async |audience| {
        let recipients = Recipients::Contacts { only: None, audience };
        w.alerts.tell(&[alert(anna, recipients)]).await.unwrap().told
    };
    assert_eq!(told(Audience::HearDuress).await, vec![hears]);
    assert_eq!(told(Audience::DeafToDuress).await, vec![deaf]);
    let mut both = vec![hears, deaf];
    both.sort();
    assert_eq!(told(Audience::All).await, both);
}

pub(crate) async fn inboxes_are_read_by_cursor(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.person("bob").await;
    assert_eq!(w.alerts.inbox_head(anna).await.unwrap(), 0);
    let drafts: Vec<AlertDraft> = (0..5).map(|_| alert(bob, Recipients::Person(anna))).collect();
    w.alerts.tell(&drafts).await.unwrap();
    let read = async |cursor, limit| -> Vec<(i64, AlertId)> {
        let places = w.alerts.inbox_after(anna, cursor, limit).await.unwrap();
        places.into_iter().map(|p| (p.cursor, p.id)).collect()
    };
    assert_eq!(read(0, 2).await, vec![(1, drafts[0].id), (2, drafts[1].id)]);
    assert_eq!(read(2, 10).await, vec![(3, drafts[2].id), (4, drafts[3].id), (5, drafts[4].id)]);
    assert_eq!(read(5, 10).await, vec![]);
    assert_eq!(w.alerts.inbox_head(anna).await.unwrap(), 5);
    assert_eq!(w.alerts.inbox_head(bob).await.unwrap(), 0);
    assert_eq!(w.alerts.inbox_heads(&[bob, anna, anna]).await.unwrap(), [(anna, 5)]);
    assert_eq!(w.alerts.inbox_heads(&[]).await.unwrap(), []);
}

/// An emergency of Anna's told to Bob: its alert and who he is.
async fn told_of_emergency(w: &World) -> (AlertDraft, UserId) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let emergency = raised(anna, 0);
    let draft =
        AlertDraft { kind: AlertKind::Emergency, emergency: Some(emergency.id), ..alert(anna, contacts()) };
    w.alerts.raise(&emergency, emergency.id, std::slice::from_ref(&draft)).await.unwrap();
    (draft, bob)
}

async fn delivery(w: &World, draft: &AlertDraft) -> Delivery {
    w.alerts.deliveries(draft.emergency.unwrap()).await.unwrap().remove(0)
}

pub(crate) async fn a_delivery_only_moves_forward(w: &World) {
    let (draft, bob) = told_of_emergency(w).await;
    let queued = delivery(w, &draft).await;
    assert_eq!((queued.recipient, queued.alert, queued.queued_at), (bob, draft.id, T0));
    assert_eq!((queued.sent_at, queued.received_at, queued.seen_at), (None, None, None));
    let ack = async |state, s| w.alerts.ack(bob, draft.id, state, after(s)).await.unwrap();
    let steps = async || {
        let d = delivery(w, &draft).await;
        [d.sent_at, d.received_at, d.seen_at]
    };
    assert!(ack(DeliveryState::Queued, 1).await);
    assert_eq!(steps().await, [None; 3]);
    assert!(ack(DeliveryState::Received, 5).await);
    assert_eq!(steps().await, [Some(after(5)), Some(after(5)), None], "what was received was sent");
    assert!(ack(DeliveryState::Sent, 6).await && ack(DeliveryState::Received, 7).await);
    assert_eq!(steps().await, [Some(after(5)), Some(after(5)), None]);
    assert!(ack(DeliveryState::Seen, 8).await && ack(DeliveryState::Seen, 9).await);
    assert_eq!(steps().await, [Some(after(5)), Some(after(5)), Some(after(8))]);
    assert!(!w.alerts.ack(draft.subject, draft.id, DeliveryState::Seen, T0).await.unwrap());
    assert!(!w.alerts.ack(bob, AlertId(id()), DeliveryState::Seen, T0).await.unwrap());
}

pub(crate) async fn a_socket_takes_a_part_of_the_inbox(w: &World) {
    let (draft, bob) = told_of_emergency(w).await;
    let more: Vec<AlertDraft> = (0..2).map(|_| AlertDraft { id: AlertId(id()), ..draft.clone() }).collect();
    w.alerts.tell(&more).await.unwrap();
    let sent = async || -> Vec<_> {
        let all = w.alerts.deliveries(draft.emergency.unwrap()).await.unwrap();
        all.into_iter().map(|d| d.sent_at).collect()
    };
    w.alerts.sent(bob, 1, 2, after(3)).await.unwrap();
    assert_eq!(sent().await, vec![Some(after(3)), Some(after(3)), None]);
    w.alerts.sent(bob, 2, 9, after(4)).await.unwrap();
    w.alerts.sent(draft.subject, 1, 9, after(5)).await.unwrap();
    assert_eq!(sent().await, vec![Some(after(3)), Some(after(3)), Some(after(4))]);
}
