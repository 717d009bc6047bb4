//! Watches, their grants and leases.

use super::node::{ADA, BO, CY, SOS, sealed};
use super::rig::{FIRST, Rig, SECOND, caller};
use crate::identity::TokenKind;
use crate::stream::session::{Input, Peers};
use crate::trust::LEASE;
use serde_json::json;
use std::time::Duration;

const SECOND_S: Duration = Duration::from_secs(1);

fn watch(rig: &mut Rig, subject: crate::id::UserId) -> Vec<String> {
    rig.frame(json!({"type": "watch", "user": subject}))
}

/// Ada watches Bo, whose newest fix is 1, by `live_location`.
fn watching() -> Rig {
    let mut rig = Rig::welcomed();
    rig.node.trust_live(BO);
    rig.node.newest.insert(BO, 1);
    let said = watch(&mut rig, BO);
    assert_eq!(said[..3], ["listen b0", "ask grant b0", "ask names of b0"]);
    assert_eq!(
        said[3..],
        ["watching b0 live_location", "ask newest b0", "ask disclose 1", "position b0 1 live_location"]
    );
    rig
}

#[test]
fn a_watch_shows_the_newest_and_then_each_that_comes() {
    let mut rig = watching();
    let said = rig.mail(|m| m.position(BO, sealed(BO, 2)));
    assert_eq!(said, ["ask disclose 2", "position b0 2 live_location"]);
    assert!(rig.mail(|m| m.position(CY, sealed(CY, 1))).is_empty(), "nobody watches Cy");
    assert_eq!(rig.frame(json!({"type": "unwatch", "user": BO})), ["unlisten b0"]);
    assert!(rig.mail(|m| m.position(BO, sealed(BO, 3))).is_empty());
    assert!(rig.listening.is_empty());
}

#[test]
fn ones_own_position_needs_no_link() {
    let mut rig = Rig::welcomed();
    rig.node.newest.insert(ADA, 1);
    assert_eq!(watch(&mut rig, ADA).last().unwrap(), "position ada 1 self");
}

#[test]
fn a_refused_watch_is_forgotten() {
    let mut rig = Rig::welcomed();
    assert_eq!(watch(&mut rig, BO), ["listen b0", "ask grant b0", "unlisten b0", "unavailable b0"]);
    assert!(rig.listening.is_empty());
    assert!(rig.mail(|m| m.visibility(BO)).is_empty());
}

#[test]
fn a_store_that_does_not_answer_grants_nothing_and_ends_nothing() {
    let mut rig = Rig::welcomed();
    rig.node.fails = true;
    assert_eq!(watch(&mut rig, BO), ["listen b0", "ask grant b0", "unlisten b0", "error unavailable"]);
    let mut rig = watching();
    rig.node.fails = true;
    assert_eq!(rig.mail(|m| m.visibility(BO)), ["ask grant b0"]);
    assert_eq!(watch(&mut rig, BO), ["listen b0", "ask grant b0", "error unavailable"]);
    // What may have changed is believed no more; hints that were lost say nothing of this grant.
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 2))), ["ask grant b0"]);
    rig.node.fails = false;
    assert!(rig.tick(Peers::None).contains(&"ask grant b0".to_owned()), "it is looked up again soon");
    let said = rig.mail(|m| m.position(BO, sealed(BO, 3)));
    assert_eq!(said, ["ask disclose 3", "position b0 3 live_location"]);
    rig.node.fails = true;
    rig.mail(|m| m.resync());
    let said = rig.mail(|m| m.position(BO, sealed(BO, 4)));
    assert_eq!(said, ["ask disclose 4", "position b0 4 live_location"], "the lease holds");
}

#[test]
fn a_grant_that_ends_while_its_disclosure_is_recorded_shows_nothing() {
    let mut rig = Rig::welcomed();
    let end = rig.now() + SECOND_S * 2;
    rig.node.trust_live_until(BO, end);
    watch(&mut rig, BO);
    rig.node.takes = SECOND_S * 3;
    let said = rig.mail(|m| m.position(BO, sealed(BO, 2)));
    assert_eq!(said, ["ask disclose 2"], "a row too many harms nobody");
}

#[test]
fn what_was_read_and_then_comes_is_shown_once() {
    let mut rig = watching();
    assert!(rig.mail(|m| m.position(BO, sealed(BO, 1))).is_empty());
}

#[test]
fn a_grant_is_used_for_a_lease_and_then_asked_for_again() {
    let mut rig = watching();
    rig.pass(LEASE - SECOND_S);
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 2)))[0], "ask disclose 2");
    rig.pass(SECOND_S);
    let said = rig.mail(|m| m.position(BO, sealed(BO, 3)));
    assert_eq!(said, ["ask grant b0", "ask disclose 3", "position b0 3 live_location"]);
}

#[test]
fn nothing_is_shown_past_a_lease_that_cannot_be_renewed() {
    let mut rig = watching();
    rig.pass(LEASE);
    rig.node.fails = true;
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 2))), ["ask grant b0"]);
    rig.node.fails = false;
    rig.node.links.clear();
    let said = rig.mail(|m| m.position(BO, sealed(BO, 3)));
    assert_eq!(said, ["ask grant b0", "unlisten b0", "unavailable b0"]);
}

#[test]
fn a_grant_that_ends_by_itself_is_noticed_though_no_position_comes() {
    let mut rig = Rig::welcomed();
    let end = rig.now() + SECOND_S * 30;
    rig.node.trust_live_until(BO, end);
    watch(&mut rig, BO);
    for _ in 1..30 {
        assert!(!rig.tick(Peers::None).iter().any(|s| s.starts_with("ask grant")));
    }
    let said = rig.tick(Peers::None);
    assert_eq!(said, ["ask grant b0", "unlisten b0", "unavailable b0"]);
}

#[test]
fn a_lease_is_renewed_by_ticks_too() {
    let mut rig = watching();
    let mut renewals = 0;
    for _ in 0..180 {
        rig.give(Input::Beat);
        let said = rig.tick(Peers::None);
        renewals += said.iter().filter(|s| *s == "ask grant b0").count();
        assert!(!said.iter().any(|s| s.starts_with("position")), "nothing new was to be shown");
    }
    assert_eq!(renewals, 3);
}

#[test]
fn a_position_that_waits_with_an_end_of_its_grant_is_not_shown() {
    let mut rig = watching();
    rig.node.links.clear();
    let said = rig.mail(|m| {
        m.position(BO, sealed(BO, 2));
        m.visibility(BO);
    });
    assert_eq!(said, ["ask grant b0", "unlisten b0", "unavailable b0"]);
    let mut rig = watching();
    rig.node.links.clear();
    let said = rig.mail(|m| {
        m.position(BO, sealed(BO, 2));
        m.visibility(BO);
        m.resync();
    });
    assert_eq!(said[2..], ["ask grant b0", "unlisten b0", "unavailable b0"], "once, after lost hints too");
}

#[test]
fn a_grant_that_ends_while_the_store_is_slow_shows_nothing() {
    let mut rig = Rig::welcomed();
    let end = rig.now() + SECOND_S * 5;
    rig.node.trust_live_until(BO, end);
    rig.node.newest.insert(BO, 1);
    rig.node.takes = SECOND_S * 3;
    let said = watch(&mut rig, BO);
    assert_eq!(said, ["listen b0", "ask grant b0", "ask names of b0", "ask newest b0"]);
}

#[test]
fn a_watch_is_answered_though_there_is_no_position_yet() {
    let mut rig = Rig::welcomed();
    rig.node.trust_live(BO);
    assert_eq!(watch(&mut rig, BO)[3..], ["watching b0 live_location", "ask newest b0"]);
}

#[test]
fn the_end_of_a_token_is_told_before_it_comes() {
    let mut rig = watching();
    let told = |said: &[String]| said.iter().filter(|s| *s == "token_expires").count();
    rig.pass(SECOND_S * 830);
    rig.give(Input::Beat);
    assert_eq!(told(&rig.tick(Peers::None)), 0);
    rig.pass(SECOND_S * 10);
    assert_eq!(told(&rig.tick(Peers::None)), 1);
    assert_eq!(told(&rig.tick(Peers::None)), 0, "once");
    let mut fresh = caller(TokenKind::Access(SECOND));
    fresh.until = rig.now() + SECOND_S * 30;
    rig.node.tokens.insert("short".to_owned(), fresh);
    rig.frame(json!({"type": "token", "access_token": "short"}));
    assert_eq!(told(&rig.tick(Peers::None)), 1, "of each token");
    let mut rig = Rig::welcomed();
    rig.pass(SECOND_S * 850);
    assert_eq!(told(&rig.tick(Peers::None)), 0, "who watches nobody needs no token");
}

#[test]
fn another_basis_shows_the_newest_again() {
    let mut rig = Rig::welcomed();
    rig.node.trust_both(BO);
    rig.node.newest.insert(BO, 1);
    assert_eq!(watch(&mut rig, BO).last().unwrap(), "position b0 1 live_location");
    assert_eq!(rig.mail(|m| m.visibility(BO)), ["ask grant b0"], "nothing has changed");
    rig.node.emergencies.insert(BO, SOS);
    let said = rig.mail(|m| m.visibility(BO));
    assert_eq!(said, ["ask grant b0", "ask newest b0", "ask disclose 1", "position b0 1 emergency"]);
    rig.node.emergencies.clear();
    assert_eq!(rig.mail(|m| m.visibility(BO)).last().unwrap(), "position b0 1 live_location");
    rig.node.trust_in_emergency(BO);
    assert_eq!(rig.mail(|m| m.visibility(BO)).last().unwrap(), "unavailable b0");
}

#[test]
fn what_cannot_be_recorded_as_disclosed_is_not_shown() {
    let mut rig = watching();
    rig.node.no_ledger = true;
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 2))), ["ask disclose 2"]);
}

#[test]
fn an_expired_token_shows_nothing_is_told_once_and_a_fresh_one_goes_on() {
    let mut rig = watching();
    rig.pass(SECOND_S * 900);
    let said = rig.mail(|m| m.position(BO, sealed(BO, 2)));
    assert_eq!(said, ["ask grant b0", "error token_expired"]);
    assert!(rig.mail(|m| m.position(BO, sealed(BO, 3))).is_empty());
    assert!(watch(&mut rig, CY).is_empty());
    let mut fresh = caller(TokenKind::Access(SECOND));
    fresh.until = rig.now() + SECOND_S * 900;
    rig.node.tokens.insert("fresh".to_owned(), fresh);
    let said = rig.frame(json!({"type": "token", "access_token": "fresh"}));
    assert_eq!(said, ["ask authenticate", "ask move 2", "ask grant b0"]);
    let said = rig.mail(|m| m.position(BO, sealed(BO, 4)));
    assert_eq!(said, ["ask disclose 4", "position b0 4 live_location"]);
    rig.pass(SECOND_S * 900);
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 5)))[1], "error token_expired", "told anew");
}

#[test]
fn a_revoked_caller_is_shown_nothing_before_its_socket_closes() {
    let mut rig = watching();
    rig.revoked = Some(crate::identity::Revoked::Session(FIRST));
    assert_eq!(rig.mail(|m| m.position(BO, sealed(BO, 2))), ["error token_expired"]);
}

#[test]
fn of_whom_nothing_is_heard_the_store_is_read_if_other_nodes_stream() {
    for (peers, silence) in [(Peers::Heard, 5), (Peers::Suspect, 1)] {
        let mut rig = watching();
        for _ in 1..silence {
            assert!(rig.tick(peers).is_empty());
        }
        assert_eq!(rig.tick(peers), ["ask newest b0"], "{peers:?}: it was shown already");
        rig.node.newest.insert(BO, 2);
        let said: Vec<_> = (0..silence).flat_map(|_| rig.tick(peers)).collect();
        assert_eq!(said, ["ask newest b0", "ask disclose 2", "position b0 2 live_location"], "{peers:?}");
    }
    let mut rig = watching();
    rig.node.newest.insert(BO, 2);
    let said: Vec<_> = (0..15).flat_map(|_| rig.tick(Peers::None)).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_socket_watches_a_hundred_people() {
    let mut rig = Rig::welcomed();
    let person = |n: u128| crate::id::UserId(uuid::Uuid::from_u128(0x1000 + n));
    for n in 0..101 {
        rig.node.trust_live(person(n));
    }
    for n in 0..100 {
        assert_eq!(watch(&mut rig, person(n))[0], format!("listen {:x}", 0x1000 + n));
    }
    assert_eq!(watch(&mut rig, person(100)), ["error limit_reached"]);
    assert_eq!(watch(&mut rig, person(0)).len(), 5, "one of them again is no more");
    rig.frame(json!({"type": "unwatch", "user": person(0)}));
    assert_eq!(watch(&mut rig, person(100)).len(), 5);
    assert_eq!(rig.listening.len(), 100);
}
