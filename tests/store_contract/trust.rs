//! Links and disclosures.

use crate::world::new_link;
use crate::{T0, World, after, id};
use cima::id::{EmergencyId, LinkId, UserId};
use cima::trust::{Disclosed, DisclosureKey, LinkCreated, LinkPatch, LinkRole, LinkState, NewLink, Scope};

const ALL: [Scope; 4] = Scope::ALL;

pub(crate) async fn a_pair_has_one_link(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let new = || NewLink { id: LinkId(uuid::Uuid::from_u128(1)), ..new_link(anna, bob, &[Scope::Alerts]) };
    let LinkCreated::Created(link) = w.trust.create_link(new()).await.unwrap() else { panic!("not created") };
    assert_eq!((link.subject, link.contact, link.state), (anna, bob, LinkState::Pending));
    assert_eq!((link.subject_name.as_str(), link.contact_name.as_str()), ("anna Example", "bob Example"));
    assert_eq!((link.tier, link.hears_duress, link.accepted_at, link.expires_at), (1, true, None, None));
    assert_eq!(w.trust.create_link(new()).await.unwrap(), LinkCreated::Repeated(link.clone()));
    assert_eq!(w.trust.create_link(new_link(anna, bob, &ALL)).await.unwrap(), LinkCreated::Conflict);
    let other_way = NewLink { id: link.id, ..new_link(bob, anna, &ALL) };
    assert_eq!(w.trust.create_link(other_way).await.unwrap(), LinkCreated::Conflict, "the id is theirs");
    let to_nobody = new_link(anna, UserId(id()), &ALL);
    assert_eq!(w.trust.create_link(to_nobody).await.unwrap(), LinkCreated::NoContact);
    let back = w.trust.create_link(new_link(bob, anna, &ALL)).await.unwrap();
    assert!(matches!(back, LinkCreated::Created(_)), "the other way is another link");

    assert_eq!(w.trust.link_between(anna, bob, T0).await.unwrap(), Some(link));
    assert_eq!(w.trust.user_by_handle("bob").await.unwrap(), Some(bob));
    assert_eq!(w.trust.user_by_handle("nobody").await.unwrap(), None);
    assert_eq!(w.trust.display_name(anna).await.unwrap().as_deref(), Some("anna Example"));
    assert_eq!(w.trust.display_name(UserId(id())).await.unwrap(), None);
}

pub(crate) async fn only_the_contact_accepts_and_only_the_subject_changes(w: &World) {
    let (anna, bob, mallory) = (w.person("anna").await, w.person("bob").await, w.person("mallory").await);
    let new = new_link(anna, bob, &[Scope::Alerts]);
    let link = new.id;
    w.trust.create_link(new).await.unwrap();
    assert!(w.trust.contacts_of(anna, T0).await.unwrap().is_empty());
    for other in [anna, mallory] {
        assert!(w.trust.accept_link(link, other, after(1)).await.unwrap().is_none());
    }
    let accepted = w.trust.accept_link(link, bob, after(2)).await.unwrap().unwrap();
    assert_eq!((accepted.state, accepted.accepted_at), (LinkState::Active, Some(after(2))));
    assert_eq!(accepted.scopes_since, after(2), "a pending link allowed nothing");
    assert_eq!(w.trust.accept_link(link, bob, after(3)).await.unwrap(), Some(accepted.clone()));
    assert_eq!(w.trust.contacts_of(anna, T0).await.unwrap(), vec![accepted]);

    let patch = |scopes: &[Scope]| LinkPatch {
        scopes: Some(scopes.iter().copied().collect()),
        ..LinkPatch::default()
    };
    for other in [bob, mallory] {
        assert!(w.trust.update_link(link, other, patch(&ALL), after(4)).await.unwrap().is_none());
    }
    let same = w.trust.update_link(link, anna, patch(&[Scope::Alerts]), after(5)).await.unwrap().unwrap();
    assert_eq!(same.scopes_since, after(2), "the same scopes are not new");
    let wider = w.trust.update_link(link, anna, patch(&ALL), after(6)).await.unwrap().unwrap();
    assert_eq!((wider.scopes_since, wider.scopes.bits()), (after(6), 15));
    let quiet = LinkPatch { tier: Some(3), duress: Some(false), ..LinkPatch::default() };
    let quiet = w.trust.update_link(link, anna, quiet, after(7)).await.unwrap().unwrap();
    assert_eq!((quiet.tier, quiet.hears_duress, quiet.scopes.bits()), (3, false, 15));
    assert_eq!(quiet.scopes_since, after(6));

    assert!(w.trust.link(link, mallory, T0).await.unwrap().is_none());
    assert_eq!(w.trust.link(link, bob, T0).await.unwrap(), Some(quiet.clone()));
    assert!(w.trust.end_link(link, mallory).await.unwrap().is_none());
    assert_eq!(w.trust.end_link(link, bob).await.unwrap(), Some(quiet));
    assert!(w.trust.end_link(link, bob).await.unwrap().is_none());
    assert!(w.trust.link_between(anna, bob, T0).await.unwrap().is_none());
}

pub(crate) async fn an_expired_link_is_not_there(w: &World) {
    let (anna, bob) = (w.person("anna").await, w.person("bob").await);
    let new = NewLink { expires_at: Some(after(100)), ..new_link(anna, bob, &ALL) };
    let link = new.id;
    w.trust.create_link(new).await.unwrap();
    assert!(w.trust.accept_link(link, bob, after(1)).await.unwrap().is_some());
    for (now, there) in [(after(99), 1), (after(100), 0)] {
        assert_eq!(w.trust.link(link, anna, now).await.unwrap().iter().count(), there);
        assert_eq!(w.trust.link_between(anna, bob, now).await.unwrap().iter().count(), there);
        assert_eq!(w.trust.links(anna, LinkRole::Subject, None, 10, now).await.unwrap().len(), there);
        assert_eq!(w.trust.links(bob, LinkRole::Contact, None, 10, now).await.unwrap().len(), there);
        assert_eq!(w.trust.contacts_of(anna, now).await.unwrap().len(), there);
        let update = w.trust.update_link(link, anna, LinkPatch::default(), now).await.unwrap();
        assert_eq!(update.iter().count(), there);
        assert_eq!(w.trust.accept_link(link, bob, now).await.unwrap().iter().count(), there);
    }
    let early = NewLink { created_at: after(99), ..new_link(anna, bob, &ALL) };
    assert_eq!(w.trust.create_link(early).await.unwrap(), LinkCreated::Conflict);
    let late = NewLink { created_at: after(100), ..new_link(anna, bob, &[Scope::Zones]) };
    let LinkCreated::Created(late) = w.trust.create_link(late).await.unwrap() else { panic!("not replaced") };
    assert_eq!(w.trust.link_between(anna, bob, after(100)).await.unwrap(), Some(late));
    assert!(w.trust.link(link, anna, T0).await.unwrap().is_none());
}

pub(crate) async fn links_come_in_pages(w: &World) {
    let anna = w.person("anna").await;
    let mut all = Vec::new();
    for n in 0..5 {
        let other = w.person(&format!("other{n}")).await;
        let (to, from) = (new_link(anna, other, &ALL), new_link(other, anna, &ALL));
        all.push((to.id, from.id));
        w.trust.create_link(to).await.unwrap();
        w.trust.create_link(from).await.unwrap();
    }
    for role in [LinkRole::Subject, LinkRole::Contact] {
        let mut expected: Vec<LinkId> =
            all.iter().map(|(to, from)| if role == LinkRole::Subject { *to } else { *from }).collect();
        expected.sort();
        let mut seen: Vec<LinkId> = Vec::new();
        loop {
            let page = w.trust.links(anna, role, seen.last().copied(), 2, T0).await.unwrap();
            if page.is_empty() {
                break;
            }
            seen.extend(page.into_iter().map(|l| l.id));
        }
        assert_eq!(seen, expected);
    }
}

pub(crate) async fn disclosures_add_up(w: &World) {
    let (anna, bob, eve) = (w.person("anna").await, w.person("bob").await, w.person("eve").await);
    let emergency = EmergencyId(id());
    let live =
        DisclosureKey { viewer: bob, subject: anna, basis: "live_location", emergency: None, covert: false };
    let sos = DisclosureKey { basis: "emergency", emergency: Some(emergency), ..live };
    let seen =
        |key, first, last, fixes| Disclosed { key, first_at: after(first), last_at: after(last), fixes };
    w.trust.disclose(vec![seen(live, 10, 10, 0)]).await.unwrap();
    w.trust.disclose(vec![seen(sos, 11, 11, 1)]).await.unwrap();
    let hidden = DisclosureKey { covert: true, ..sos };
    w.trust
        .disclose(vec![seen(live, 10, 40, 3), seen(hidden, 50, 60, 9), seen(live, 5, 20, 2)])
        .await
        .unwrap();
    w.trust.disclose(vec![seen(DisclosureKey { viewer: eve, ..live }, 70, 70, 1)]).await.unwrap();
    // The wall clock may step back between the two.
    w.trust.disclose(vec![seen(DisclosureKey { viewer: eve, ..live }, 70, 60, 1)]).await.unwrap();
    let nobody = DisclosureKey { viewer: UserId(id()), ..live };
    w.trust.disclose(vec![seen(nobody, 70, 70, 1)]).await.unwrap();

    let listed = w.trust.disclosures(anna, None, 10).await.unwrap();
    let told: Vec<_> = listed.iter().map(|d| (d.viewer, d.basis.as_str(), d.emergency, d.fixes)).collect();
    let expected = [
        (eve, "live_location", None, 2),
        (bob, "emergency", Some(emergency), 1),
        (bob, "live_location", None, 5),
    ];
    assert_eq!(told, expected, "newest first, without the covert one");
    assert_eq!((listed[2].first_at, listed[2].last_at), (after(5), after(40)));
    assert_eq!((listed[0].first_at, listed[0].last_at), (after(70), after(70)));
    assert_eq!(listed[0].viewer_name, "eve Example");
    let rest = w.trust.disclosures(anna, Some(listed[0].row), 1).await.unwrap();
    assert_eq!(rest, listed[1..2]);
    assert!(w.trust.disclosures(bob, None, 10).await.unwrap().is_empty());
}
