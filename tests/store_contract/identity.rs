//! Accounts, devices, sessions.

use crate::world::{new_account, new_session};
use crate::{T0, World, after, id};
use cima::id::{DeviceId, SessionId, UserId};
use cima::identity::{AccountCreated, AccountPatch, Platform, Revoked, Rotation};
use std::time::Duration;

pub(crate) async fn an_account_is_created_once(w: &World) {
    let anna = w.person("anna").await;
    let repeat = w.identity.create_account(new_account(anna, "anna")).await.unwrap();
    assert_eq!(repeat, AccountCreated::Repeated);
    let other_handle = w.identity.create_account(new_account(anna, "other")).await.unwrap();
    assert_eq!(other_handle, AccountCreated::Taken);
    let other_id = w.identity.create_account(new_account(UserId(id()), "anna")).await.unwrap();
    assert_eq!(other_id, AccountCreated::Taken);

    let account = w.identity.account(anna).await.unwrap().unwrap();
    assert_eq!((account.user, account.handle.as_str()), (anna, "anna"));
    assert_eq!((account.display_name.as_str(), account.locale.as_str()), ("anna Example", "en"));
    assert_eq!((account.retention, account.pin_hash, account.pin_failures), (None, None, 0));
    let by_handle = w.identity.account_by_handle("anna").await.unwrap().unwrap();
    assert_eq!(by_handle.user, anna);
    assert!(w.identity.account_by_handle("other").await.unwrap().is_none());
    assert!(w.identity.account(UserId(id())).await.unwrap().is_none());
}

pub(crate) async fn no_handle_and_no_id_is_used_again(w: &World) {
    let anna = w.person("anna").await;
    w.identity.forget(anna, T0).await.unwrap();
    let same_handle = w.identity.create_account(new_account(UserId(id()), "anna")).await.unwrap();
    assert_eq!(same_handle, AccountCreated::Taken);
    let same_id = w.identity.create_account(new_account(anna, "berta")).await.unwrap();
    assert_eq!(same_id, AccountCreated::Taken);
    w.person("berta").await;
}

pub(crate) async fn a_patch_changes_only_what_it_names(w: &World) {
    let anna = w.person("anna").await;
    let first = AccountPatch {
        locale: Some("de-AT".into()),
        retention: Some(Some(Duration::from_secs(3600))),
        pin_hash: Some(Some("pin".into())),
        duress_hash: Some(Some("duress".into())),
        ..AccountPatch::default()
    };
    let account = w.identity.update_account(anna, first).await.unwrap().unwrap();
    assert_eq!((account.locale.as_str(), account.display_name.as_str()), ("de-AT", "anna Example"));
    assert_eq!(account.retention, Some(Duration::from_secs(3600)));
    let second = AccountPatch {
        display_name: Some("Anna".into()),
        time_zone: Some("Europe/Vienna".into()),
        retention: Some(None),
        duress_hash: Some(None),
        ..AccountPatch::default()
    };
    w.identity.update_account(anna, second).await.unwrap().unwrap();
    let account = w.identity.account(anna).await.unwrap().unwrap();
    assert_eq!((account.display_name.as_str(), account.time_zone.as_str()), ("Anna", "Europe/Vienna"));
    assert_eq!((account.locale.as_str(), account.retention), ("de-AT", None));
    assert_eq!((account.pin_hash.as_deref(), account.duress_hash), (Some("pin"), None));
    assert!(w.identity.update_account(UserId(id()), AccountPatch::default()).await.unwrap().is_none());
}

pub(crate) async fn wrong_pins_lock_at_the_limit(w: &World) {
    let anna = w.person("anna").await;
    for failures in 1..=2 {
        w.identity.pin_failed(anna, 3, after(60)).await.unwrap();
        let account = w.identity.account(anna).await.unwrap().unwrap();
        assert_eq!((account.pin_failures, account.pin_locked_until), (failures, None));
    }
    w.identity.pin_failed(anna, 3, after(60)).await.unwrap();
    let account = w.identity.account(anna).await.unwrap().unwrap();
    assert_eq!((account.pin_failures, account.pin_locked_until), (0, Some(after(60))));
    w.identity.pin_failed(anna, 3, after(90)).await.unwrap();
    w.identity.pin_passed(anna).await.unwrap();
    let account = w.identity.account(anna).await.unwrap().unwrap();
    assert_eq!((account.pin_failures, account.pin_locked_until), (0, None));
}

pub(crate) async fn a_session_opens_only_on_a_device_of_ones_own(w: &World) {
    let (anna, mallory) = (w.person("anna").await, w.person("mallory").await);
    let (phone, first) = w.device(anna).await;
    let session = w.identity.session(first).await.unwrap().unwrap();
    assert_eq!((session.user, session.device, session.generation), (anna, phone, 1));
    assert_eq!((session.salt, session.rotated_at, session.stepped_up_until), (vec![7; 16], T0, T0));

    assert!(!w.identity.open_session(new_session(mallory, phone)).await.unwrap());
    let mut again = new_session(anna, phone);
    (again.device_name, again.platform) = ("tablet".into(), Platform::Ios);
    assert!(w.identity.open_session(again).await.unwrap());
    let device = w.identity.device(phone).await.unwrap().unwrap();
    assert_eq!((device.user, device.name.as_str(), device.platform), (anna, "tablet", Platform::Ios));
    assert!(!device.tracked);
    assert!(w.identity.session(first).await.unwrap().is_some(), "an earlier session goes on");

    w.identity.remove_device(anna, phone, T0).await.unwrap();
    assert!(!w.identity.open_session(new_session(anna, phone)).await.unwrap());
    w.identity.forget(anna, T0).await.unwrap();
    assert!(!w.identity.open_session(new_session(mallory, phone)).await.unwrap());
    assert!(!w.identity.open_session(new_session(anna, DeviceId(id()))).await.unwrap());
}

pub(crate) async fn a_refresh_token_rotates(w: &World) {
    let anna = w.person("anna").await;
    let (_, session) = w.device(anna).await;
    assert_eq!(w.identity.rotate(session, 1, after(0), after(100)).await.unwrap(), Rotation::Rotated);
    let stored = w.identity.session(session).await.unwrap().unwrap();
    assert_eq!((stored.generation, stored.rotated_at), (2, after(100)));
    assert_eq!(w.identity.rotate(session, 1, after(100), after(120)).await.unwrap(), Rotation::Repeated);
    let stored = w.identity.session(session).await.unwrap().unwrap();
    assert_eq!((stored.generation, stored.rotated_at), (2, after(100)), "a repeat changes nothing");
    assert_eq!(w.identity.rotate(session, 2, after(170), after(200)).await.unwrap(), Rotation::Rotated);

    assert_eq!(w.identity.rotate(session, 2, after(201), after(231)).await.unwrap(), Rotation::Reused);
    assert!(w.identity.session(session).await.unwrap().is_none());
    assert_eq!(w.identity.revoked_since(after(231)).await.unwrap(), vec![Revoked::Session(session)]);
    assert_eq!(w.identity.rotate(session, 3, after(201), after(232)).await.unwrap(), Rotation::Gone);

    let (_, other) = w.device(anna).await;
    w.identity.rotate(other, 1, after(0), after(10)).await.unwrap();
    w.identity.rotate(other, 2, after(0), after(11)).await.unwrap();
    let two_back = w.identity.rotate(other, 1, after(0), after(12)).await.unwrap();
    assert_eq!(two_back, Rotation::Reused, "only the last used one may be repeated");
}

pub(crate) async fn of_two_refreshes_at_once_one_rotates(w: &World) {
    let anna = w.person("anna").await;
    let (_, session) = w.device(anna).await;
    let refresh = || w.identity.rotate(session, 1, after(0), after(10));
    let (one, other) = tokio::join!(refresh(), refresh());
    let mut outcomes = [one.unwrap(), other.unwrap()];
    outcomes.sort_by_key(|o| *o == Rotation::Repeated);
    assert_eq!(outcomes, [Rotation::Rotated, Rotation::Repeated]);
}

pub(crate) async fn an_ended_session_is_gone_and_revoked(w: &World) {
    let anna = w.person("anna").await;
    let (_, session) = w.device(anna).await;
    w.identity.step_up(session, after(300)).await.unwrap();
    assert_eq!(w.identity.session(session).await.unwrap().unwrap().stepped_up_until, after(300));
    w.identity.end_session(session, after(5)).await.unwrap();
    w.identity.end_session(session, after(6)).await.unwrap();
    w.identity.end_session(SessionId(id()), after(7)).await.unwrap();
    assert!(w.identity.session(session).await.unwrap().is_none());
    assert_eq!(w.identity.revoked_since(after(5)).await.unwrap(), vec![Revoked::Session(session)]);
    assert_eq!(w.identity.revoked_since(after(6)).await.unwrap(), vec![]);
}

pub(crate) async fn at_most_one_device_is_tracked(w: &World) {
    let (anna, mallory) = (w.person("anna").await, w.person("mallory").await);
    let ((phone, _), (tablet, _)) = (w.device(anna).await, w.device(anna).await);
    assert_eq!(w.identity.track_if_none(mallory, phone).await.unwrap(), None);
    assert_eq!(w.identity.track_if_none(anna, phone).await.unwrap(), Some(phone));
    assert_eq!(w.identity.track_if_none(anna, tablet).await.unwrap(), Some(phone));
    assert!(w.identity.track(anna, tablet).await.unwrap());
    assert!(!w.identity.track(mallory, phone).await.unwrap());
    assert!(!w.identity.track(anna, DeviceId(id())).await.unwrap());
    let tracked: Vec<_> = w.identity.devices(anna, None, 10).await.unwrap();
    let tracked: Vec<_> = tracked.into_iter().filter(|d| d.tracked).map(|d| d.id).collect();
    assert_eq!(tracked, vec![tablet], "a refused track changes nothing");
    assert!(!w.identity.untrack(mallory, tablet).await.unwrap());
    assert!(w.identity.untrack(anna, tablet).await.unwrap());
    assert_eq!(w.tracking.tracked_device(anna).await.unwrap(), None);

    w.identity.track(anna, tablet).await.unwrap();
    w.identity.remove_device(anna, tablet, T0).await.unwrap();
    assert!(!w.identity.track(anna, tablet).await.unwrap());
    assert_eq!(w.identity.track_if_none(anna, tablet).await.unwrap(), None);
    assert_eq!(w.identity.track_if_none(anna, phone).await.unwrap(), Some(phone));
}

pub(crate) async fn devices_come_in_pages(w: &World) {
    let (anna, other) = (w.person("anna").await, w.person("other").await);
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(w.device(anna).await.0);
        w.device(other).await;
    }
    all.sort();
    let mut seen = Vec::new();
    loop {
        let page = w.identity.devices(anna, seen.last().copied(), 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|d| d.id));
    }
    assert_eq!(seen, all);
}

pub(crate) async fn a_removed_device_ends_its_sessions(w: &World) {
    let (anna, mallory) = (w.person("anna").await, w.person("mallory").await);
    let (phone, session) = w.device(anna).await;
    let (_, kept) = w.device(anna).await;
    assert!(!w.identity.remove_device(mallory, phone, after(1)).await.unwrap());
    assert!(w.identity.remove_device(anna, phone, after(1)).await.unwrap());
    assert!(!w.identity.remove_device(anna, phone, after(2)).await.unwrap());
    assert!(w.identity.device(phone).await.unwrap().is_none());
    assert!(w.identity.session(session).await.unwrap().is_none());
    assert!(w.identity.session(kept).await.unwrap().is_some());
    assert_eq!(w.identity.devices(anna, None, 10).await.unwrap().len(), 1);
    let revoked = w.identity.revoked_since(after(1)).await.unwrap();
    assert_eq!(revoked.len(), 2);
    assert!(revoked.contains(&Revoked::Device(phone)) && revoked.contains(&Revoked::Session(session)));
}
