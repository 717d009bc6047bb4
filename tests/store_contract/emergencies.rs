//! Emergencies: raised, changed, seen, due.

use crate::world::{alert, contacts, new_link, raised};
use crate::{World, after, id};
use cima::alerts::{
    AlertDraft, AlertKind, Audience, Change, Command, Committed, Emergency, EndWith, Manner, Notice, Party,
    Raised, Recipients, State,
};
use cima::id::{EmergencyId, UserId};
use cima::trust::{LinkRole, NewLink, Scope};

/// An alert of an emergency, to all contacts.
fn about(emergency: &Emergency) -> AlertDraft {
    AlertDraft {
        kind: AlertKind::Emergency,
        emergency: Some(emergency.id),
        ..alert(emergency.subject, contacts())
    }
}

pub(crate) async fn open(w: &World, emergency: &Emergency) {
    let outcome = w.alerts.raise(emergency, emergency.id, &[about(emergency)]).await.unwrap();
    assert!(matches!(outcome, Raised::Opened(_)), "{outcome:?}");
}

/// Applies a command and stores the change.
async fn apply(w: &World, emergency: &Emergency, command: Command, at: u64) -> Emergency {
    let next = emergency.apply(command, after(at)).unwrap().emergency;
    let joined = if let Command::Join(id) = command { Some(id) } else { None };
    let change = Change { emergency: &next, joined, alerts: &[] };
    assert!(w.alerts.change(change).await.unwrap().is_some());
    next
}

fn end(manner: Manner) -> Command {
    Command::End(EndWith::Resolve, manner)
}

pub(crate) async fn an_emergency_reads_back_as_it_was_raised(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let emergency = raised(anna, 0);
    let draft = about(&emergency);
    let outcome = w.alerts.raise(&emergency, emergency.id, std::slice::from_ref(&draft)).await.unwrap();
    assert_eq!(outcome, Raised::Opened(Committed { told: vec![bob] }));
    assert_eq!(w.inbox(bob).await, vec![draft.id]);
    assert_eq!(w.alerts.emergency(emergency.id).await.unwrap(), Some(emergency.clone()));
    assert_eq!(w.alerts.emergency_of(anna, emergency.id).await.unwrap(), Some(emergency.clone()));
    assert_eq!(w.alerts.emergency_of(bob, emergency.id).await.unwrap(), None);
    assert_eq!(w.alerts.emergency(EmergencyId(id())).await.unwrap(), None);
    assert_eq!(w.alerts.open_of(anna).await.unwrap(), vec![emergency.clone()]);
    assert_eq!(w.alerts.open_of(bob).await.unwrap(), vec![]);
    let bare = Emergency { device: None, message: None, opening_fix: None, ..raised(bob, 30) };
    open(w, &bare).await;
    assert_eq!(w.alerts.emergency(bare.id).await.unwrap(), Some(bare.clone()));
    assert_eq!(w.alerts.open().await.unwrap().len(), 2);
}

pub(crate) async fn a_repeated_raise_is_the_same_emergency(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let first = raised(anna, 0);
    open(w, &first).await;
    let repeat = Emergency { message: None, ..first.clone() };
    let outcome = w.alerts.raise(&repeat, first.id, &[about(&repeat)]).await.unwrap();
    assert_eq!(outcome, Raised::Repeated(first.clone()));
    let ended = apply(w, &first, end(Manner::True), 5).await;
    let outcome = w.alerts.raise(&repeat, first.id, &[about(&repeat)]).await.unwrap();
    assert_eq!(outcome, Raised::Repeated(ended), "an id resolves for ever");
    assert_eq!(w.inbox(bob).await.len(), 1);
}

pub(crate) async fn a_second_raise_finds_the_open_one(w: &World) {
    let anna = w.person("anna").await;
    let first = raised(anna, 0);
    open(w, &first).await;
    let second = raised(anna, 0);
    let outcome = w.alerts.raise(&second, second.id, &[about(&second)]).await.unwrap();
    assert_eq!(outcome, Raised::Open(first.clone()));
    assert_eq!(w.alerts.emergency(second.id).await.unwrap(), None);
    let joined = apply(w, &first, Command::Join(second.id), 3).await;
    let third = EmergencyId(id());
    let joined = apply(w, &joined, Command::Join(third), 4).await;
    assert_eq!(joined.joined, vec![second.id, third]);
    for any in [first.id, second.id, third] {
        assert_eq!(w.alerts.emergency_of(anna, any).await.unwrap(), Some(joined.clone()));
    }
    let outcome = w.alerts.raise(&second, second.id, &[]).await.unwrap();
    assert_eq!(outcome, Raised::Repeated(joined.clone()));
    // What seems over to the subject takes no joins: the next raise opens another.
    let forced = apply(w, &joined, end(Manner::Duress), 5).await;
    let fourth = raised(anna, 0);
    open(w, &fourth).await;
    assert_eq!(w.alerts.open_of(anna).await.unwrap().len(), 2);
    assert_eq!(w.alerts.emergency_of(anna, third).await.unwrap(), Some(forced));
}

pub(crate) async fn a_taken_id_raises_with_another(w: &World) {
    let (anna, mallory) = (w.person("anna").await, w.person("mallory").await);
    let first = raised(mallory, 0);
    open(w, &first).await;
    let same_id = Emergency { id: first.id, ..raised(anna, 0) };
    assert_eq!(w.alerts.raise(&same_id, first.id, &[]).await.unwrap(), Raised::IdTaken);
    let own = Emergency { id: EmergencyId(id()), ..same_id };
    assert!(matches!(w.alerts.raise(&own, first.id, &[]).await.unwrap(), Raised::Opened(_)));
    for any in [first.id, own.id] {
        assert_eq!(w.alerts.emergency_of(anna, any).await.unwrap(), Some(own.clone()));
    }
    assert_eq!(w.alerts.raise(&own, first.id, &[]).await.unwrap(), Raised::Repeated(own));
    assert_eq!(w.alerts.emergency_of(mallory, first.id).await.unwrap(), Some(first));
}

pub(crate) async fn a_change_is_made_from_the_version_it_names(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let first = raised(anna, 0);
    open(w, &first).await;
    let claimed = apply(w, &first, Command::Claim(bob), 1).await;
    let stale = first.apply(end(Manner::True), after(2)).unwrap().emergency;
    let draft = about(&stale);
    let other = EmergencyId(id());
    let change = Change { emergency: &stale, joined: Some(other), alerts: std::slice::from_ref(&draft) };
    assert_eq!(w.alerts.change(change).await.unwrap(), None);
    assert_eq!(w.alerts.emergency(first.id).await.unwrap(), Some(claimed.clone()));
    assert_eq!(w.alerts.emergency_of(anna, other).await.unwrap(), None);
    assert_eq!(w.inbox(bob).await.len(), 1, "a refused change tells nothing");

    let dropped = apply(w, &claimed, Command::Unclaim(bob), 1).await;
    assert!(dropped.claims[0].dropped_at.is_some());
    assert_eq!(w.alerts.emergency(first.id).await.unwrap(), Some(dropped.clone()));
    let claimed = apply(w, &dropped, Command::Claim(bob), 1).await;
    assert_eq!(claimed.claims.len(), 1, "it takes the place of the one that was dropped");
    assert_eq!(w.alerts.emergency(first.id).await.unwrap(), Some(claimed.clone()));
    let ended = claimed.apply(end(Manner::True), after(9)).unwrap().emergency;
    let change = Change { emergency: &ended, joined: None, alerts: std::slice::from_ref(&draft) };
    assert_eq!(w.alerts.change(change).await.unwrap(), Some(Committed { told: vec![bob] }));
    assert_eq!(w.alerts.emergency(first.id).await.unwrap(), Some(ended));
    assert_eq!(w.alerts.open_of(anna).await.unwrap(), vec![]);
}

pub(crate) async fn a_contact_has_part_in_what_they_were_told(w: &World) {
    let anna = w.person("anna").await;
    let told = w.contact(anna, "told", &[Scope::Alerts], true).await;
    let sees = w.contact(anna, "sees", &[Scope::EmergencyLocation], true).await;
    let other = w.contact(anna, "other", &[Scope::LiveLocation, Scope::Zones], true).await;
    let stranger = w.person("stranger").await;
    let counting = raised(anna, 30);
    open(w, &counting).await;
    let part = async |who: UserId, id, s| w.alerts.emergency_for(who, id, after(s)).await.unwrap();
    assert_eq!(part(told, counting.id, 1).await, None, "a countdown is nobody's to see");
    let active = apply(w, &counting, Command::Wake(None), 30).await;
    for contact in [told, sees] {
        let expected = Party { emergency: active.clone(), hears_duress: true };
        assert_eq!(part(contact, counting.id, 31).await, Some(expected));
    }
    for nobody in [other, stranger, anna] {
        assert_eq!(part(nobody, counting.id, 31).await, None);
    }
    let ended = apply(w, &active, end(Manner::True), 60).await;
    assert!(part(told, ended.id, 61).await.is_some(), "an ended one is still theirs to look at");
    // Who came after the end has no part in it.
    for (name, accepted, has_part) in [("before", 59, true), ("after", 60, false)] {
        let late = w.person(name).await;
        let link = NewLink { expires_at: Some(after(500)), ..new_link(anna, late, &[Scope::Alerts]) };
        let link_id = link.id;
        w.trust.create_link(link).await.unwrap();
        assert_eq!(part(late, ended.id, 61).await, None, "not accepted");
        w.trust.accept_link(link_id, late, after(accepted)).await.unwrap();
        assert_eq!(part(late, ended.id, 61).await.is_some(), has_part);
        assert_eq!(part(late, ended.id, 500).await, None, "expired");
    }
    let never_told = apply_cancel(w, anna).await;
    assert_eq!(part(told, never_told, 200).await, None);
}

/// An emergency cancelled in its countdown.
async fn apply_cancel(w: &World, subject: UserId) -> EmergencyId {
    let counting = raised(subject, 30);
    open(w, &counting).await;
    apply(w, &counting, Command::End(EndWith::Cancel, Manner::True), 5).await.id
}

pub(crate) async fn duress_shows_its_end_to_who_does_not_hear_of_it(w: &World) {
    let anna = w.person("anna").await;
    let hears = w.contact(anna, "hears", &[Scope::Alerts], true).await;
    let deaf = w.contact(anna, "deaf", &[Scope::Alerts], false).await;
    let first = raised(anna, 0);
    open(w, &first).await;
    let forced = apply(w, &first, end(Manner::Duress), 10).await;
    for (contact, hears_duress) in [(hears, true), (deaf, false)] {
        let party = w.alerts.emergency_for(contact, first.id, after(11)).await.unwrap();
        assert_eq!(party, Some(Party { emergency: forced.clone(), hears_duress }));
    }
    // Accepted after the end that is shown, before the true one.
    for (name, duress) in [("newhears", true), ("newdeaf", false)] {
        let late = w.person(name).await;
        let link = NewLink { duress, ..new_link(anna, late, &[Scope::Alerts]) };
        let link_id = link.id;
        w.trust.create_link(link).await.unwrap();
        w.trust.accept_link(link_id, late, after(20)).await.unwrap();
        let party = w.alerts.emergency_for(late, first.id, after(21)).await.unwrap();
        assert_eq!(party, None, "{name}");
    }
}

pub(crate) async fn lists_show_the_state_that_people_see(w: &World) {
    let anna = w.person("anna").await;
    let hears = w.contact(anna, "hears", &[Scope::Alerts], true).await;
    let deaf = w.contact(anna, "deaf", &[Scope::Alerts], false).await;
    let open_at = async |s, countdown| {
        let mut emergency = raised(anna, countdown);
        emergency.opened_at = after(s);
        open(w, &emergency).await;
        emergency
    };
    let resolved = apply(w, &open_at(1, 0).await, end(Manner::True), 5).await.id;
    let forced = apply(w, &open_at(2, 0).await, end(Manner::Duress), 5).await.id;
    let untold = apply(w, &open_at(3, 60).await, Command::End(EndWith::Cancel, Manner::True), 5).await.id;
    let active = open_at(4, 0).await.id;
    let list = async |who, role, state| -> Vec<EmergencyId> {
        let found = w.alerts.emergencies(who, role, state, None, 10, after(9)).await.unwrap();
        found.into_iter().map(|p| p.emergency.id).collect()
    };
    let (subject, contact) = (LinkRole::Subject, LinkRole::Contact);
    assert_eq!(list(anna, subject, None).await, vec![active, untold, forced, resolved]);
    assert_eq!(list(anna, subject, Some(State::Active)).await, vec![active]);
    assert_eq!(list(anna, subject, Some(State::Resolved)).await, vec![forced, resolved]);
    assert_eq!(list(anna, subject, Some(State::Cancelled)).await, vec![untold]);
    assert_eq!(list(anna, contact, None).await, vec![]);
    assert_eq!(list(hears, contact, None).await, vec![active, forced, resolved]);
    assert_eq!(list(hears, contact, Some(State::Active)).await, vec![active, forced]);
    assert_eq!(list(deaf, contact, Some(State::Active)).await, vec![active]);
    assert_eq!(list(deaf, contact, Some(State::Resolved)).await, vec![forced, resolved]);
    assert_eq!(list(hears, subject, None).await, vec![]);

    for (who, role, all) in [(anna, subject, 4), (hears, contact, 3)] {
        let mut seen: Vec<EmergencyId> = Vec::new();
        loop {
            let page =
                w.alerts.emergencies(who, role, None, seen.last().copied(), 1, after(9)).await.unwrap();
            let Some(one) = page.first() else { break };
            assert_eq!((page.len(), one.hears_duress), (1, who == hears));
            seen.push(one.emergency.id);
        }
        assert_eq!(seen, list(who, role, None).await);
        assert_eq!(seen.len(), all);
    }
}

pub(crate) async fn what_is_due_is_found(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    assert_eq!(w.alerts.next_due().await.unwrap(), None);
    let (soon, later) = (raised(anna, 10), raised(bob, 20));
    open(w, &later).await;
    open(w, &soon).await;
    assert_eq!(w.alerts.next_due().await.unwrap(), Some(after(10)));
    assert_eq!(w.alerts.due(after(9)).await.unwrap(), vec![]);
    assert_eq!(w.alerts.due(after(10)).await.unwrap(), vec![soon.clone()]);
    assert_eq!(w.alerts.due(after(20)).await.unwrap(), vec![soon.clone(), later]);
    apply(w, &soon, Command::End(EndWith::Cancel, Manner::True), 5).await;
    assert_eq!(w.alerts.next_due().await.unwrap(), Some(after(20)));
}

pub(crate) async fn raising_deliveries_are_listed_without_duress(w: &World) {
    let anna = w.person("anna").await;
    let bob = w.contact(anna, "bob", &[Scope::Alerts], true).await;
    let cleo = w.contact(anna, "cleo", &[Scope::Alerts], true).await;
    let emergency = raised(anna, 0);
    let first = about(&emergency);
    w.alerts.raise(&emergency, emergency.id, std::slice::from_ref(&first)).await.unwrap();
    let update = AlertDraft { kind: AlertKind::EmergencyUpdate, ..about(&emergency) };
    let hidden = Recipients::Contacts { only: None, audience: Audience::HearDuress };
    let duress = AlertDraft { recipients: hidden, ..about(&emergency) };
    let again = about(&emergency);
    w.alerts.tell(&[update, duress, again.clone(), alert(anna, contacts())]).await.unwrap();
    let deliveries = w.alerts.deliveries(emergency.id).await.unwrap();
    let mut listed: Vec<_> = deliveries.iter().map(|d| (d.alert, d.recipient)).collect();
    let mut expected = vec![(first.id, bob), (first.id, cleo), (again.id, bob), (again.id, cleo)];
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(w.alerts.deliveries(EmergencyId(id())).await.unwrap().is_empty());
}

/// There is no column for the last sign of life: a store that is opened anew gives back what it follows from.
pub(crate) async fn the_last_sign_of_life_outlives_a_restart(w: &World) {
    const HOUR: u64 = 3_600;
    let anna = w.person("anna").await;
    let first = raised(anna, 0);
    open(w, &first).await;
    let joined = apply(w, &first, Command::Join(EmergencyId(id())), 10 * HOUR).await;
    w.backend.close().await;
    let again = w.backend.open(w.clock.clone()).await;
    assert_eq!(again.alerts.due(after(33 * HOUR + 1_799)).await.unwrap(), vec![]);
    let due = again.alerts.due(after(33 * HOUR + 1_800)).await.unwrap();
    assert_eq!(due, vec![joined]);
    let warned = due[0].apply(Command::Wake(None), after(33 * HOUR + 1_800)).unwrap();
    assert_eq!((warned.emergency.state, &warned.notices), (State::Active, &vec![Notice::ExpiresSoon]));
    let change = Change { emergency: &warned.emergency, joined: None, alerts: &[] };
    assert!(again.alerts.change(change).await.unwrap().is_some());
    w.backend.close().await;
    let again = w.backend.open(w.clock.clone()).await;
    assert_eq!(again.alerts.due(after(34 * HOUR - 1)).await.unwrap(), vec![]);
    let due = again.alerts.due(after(34 * HOUR)).await.unwrap();
    assert_eq!(due, vec![warned.emergency]);
    let over = due[0].apply(Command::Wake(None), after(34 * HOUR)).unwrap();
    assert_eq!((over.emergency.state, over.notices), (State::Expired, vec![Notice::Ended(State::Expired)]));
}

pub(crate) async fn of_many_raises_that_joined_the_newest_are_read_and_all_resolve(w: &World) {
    let anna = w.person("anna").await;
    let mut emergency = raised(anna, 0);
    open(w, &emergency).await;
    let ids: Vec<EmergencyId> = (0..105).map(|_| EmergencyId(id())).collect();
    for id in &ids {
        emergency = apply(w, &emergency, Command::Join(*id), 3).await;
    }
    let found = w.alerts.emergency_of(anna, ids[0]).await.unwrap().expect("the first still resolves");
    assert_eq!((found.id, found.joined.as_slice()), (emergency.id, &ids[5..]));
}
