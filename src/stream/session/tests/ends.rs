//! What ends a session from outside: its token's session, its device, a newer socket.

use super::node::{ADA, BO, fixes, sealed};
use super::rig::{FIRST, PHONE, Rig, SECOND, caller};
use crate::id::{DeviceId, UserId};
use crate::identity::{Caller, Revoked, TokenKind};
use crate::stream::session::{Input, Peers};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

const SESSION_ENDED: &str = "close 4401: the session ended";
const REMOVED: &str = "close 4403: the device was removed";

/// A session that has moved from [`FIRST`] to [`SECOND`].
fn moved() -> Rig {
    let mut rig = Rig::welcomed();
    rig.node.tokens.insert("second".to_owned(), caller(TokenKind::Access(SECOND)));
    let said = rig.frame(json!({"type": "token", "access_token": "second"}));
    assert_eq!(said, ["ask authenticate", "ask move 2"]);
    rig
}

#[test]
fn a_socket_closes_with_the_session_it_is_on() {
    assert_eq!(Rig::welcomed().mail(|m| m.ended(FIRST)), [SESSION_ENDED]);
    let mut rig = moved();
    assert!(rig.mail(|m| m.ended(FIRST)).is_empty(), "it has left that one");
    assert_eq!(rig.mail(|m| m.ended(SECOND)), [SESSION_ENDED]);
}

#[test]
fn an_end_of_the_session_before_hides_no_later_one() {
    let mut rig = moved();
    let said = rig.mail(|m| {
        m.ended(FIRST);
        m.ended(SECOND);
    });
    assert_eq!(said, [SESSION_ENDED]);
}

/// At its welcome, at a heartbeat, after lost hints, and when a token moves it: whenever a session is looked at.
#[test]
fn every_look_tells_an_ended_session_from_a_removed_device() {
    for (revoked, close) in [(Revoked::Session(FIRST), SESSION_ENDED), (Revoked::Device(PHONE), REMOVED)] {
        let mut rig = Rig::new(TokenKind::Access(FIRST));
        rig.revoked = Some(revoked);
        assert_eq!(rig.give(Input::Opened), [close], "welcome");

        let mut rig = Rig::welcomed();
        rig.revoked = Some(revoked);
        assert_eq!(rig.tick(Peers::None), [close], "heartbeat");

        let mut rig = Rig::welcomed();
        rig.revoked = Some(revoked);
        assert_eq!(rig.mail(|m| m.resync()), [close], "lost hints");

        let mut rig = Rig::welcomed();
        rig.revoked = Some(revoked);
        rig.node.tokens.insert("second".to_owned(), caller(TokenKind::Access(SECOND)));
        let said = rig.frame(json!({"type": "token", "access_token": "second"}));
        assert_eq!(said.last().unwrap(), close, "token");
    }
}

#[test]
fn a_removed_device_outweighs_everything_and_nothing_is_sent_beside_a_close() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![true];
    let said = rig.mail(|m| {
        m.ended(FIRST);
        m.replaced();
        m.removed();
        m.inbox();
        m.resync();
        m.drain(Duration::from_secs(1));
        m.position(BO, sealed(BO, 1));
    });
    assert_eq!(said, [REMOVED]);
}

#[test]
fn a_distress_socket_has_no_session_to_end_with() {
    let mut rig = Rig::new(TokenKind::Distress);
    assert_eq!(rig.give(Input::Opened), ["ask welcome", "welcome"]);
    assert!(rig.mail(|m| m.ended(FIRST)).is_empty());
    assert_eq!(rig.mail(|m| m.removed()), [REMOVED]);
}

#[test]
fn a_token_of_somebody_else_or_of_another_kind_moves_nothing() {
    let mut rig = Rig::welcomed();
    let good = caller(TokenKind::Access(SECOND));
    let others = [
        ("user", Caller { user: UserId(Uuid::from_u128(5)), ..good }),
        ("device", Caller { device: DeviceId(Uuid::from_u128(5)), ..good }),
        ("distress", caller(TokenKind::Distress)),
    ];
    for (name, other) in others {
        rig.node.tokens.insert(name.to_owned(), other);
        let said = rig.frame(json!({"type": "token", "access_token": name}));
        assert_eq!(said, ["ask authenticate", "error forbidden"], "{name}");
    }
    let said = rig.frame(json!({"type": "token", "access_token": "garbage"}));
    assert_eq!(said, ["ask authenticate", "error invalid_request"]);
    assert_eq!(rig.session.caller(), &caller(TokenKind::Access(FIRST)));

    let mut distress = Rig::new(TokenKind::Distress);
    distress.node.tokens.insert("access".to_owned(), good);
    let said = distress.frame(json!({"type": "token", "access_token": "access"}));
    assert_eq!(said, ["ask authenticate", "error forbidden"]);
}

#[test]
fn the_first_fix_overtakes_older_sockets_once_and_an_overtaken_one_closes() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    assert_eq!(rig.frame(fixes(&[1], now)), ["ask way in for 1", "overtake", "ingest 1 of 1"]);
    assert_eq!(rig.frame(fixes(&[2], now)), ["ingest 2 of 1"]);
    assert_eq!(rig.mail(|m| m.replaced()), ["close 4409: a newer socket of this device sends fixes"]);
}

#[test]
fn a_client_that_does_not_read_is_closed_and_sent_nothing_more() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![false; 3];
    let moment = rig.moment();
    // It stalls in the middle of a page.
    let mailbox = crate::stream::mailbox::Mailbox::default();
    mailbox.inbox();
    rig.session.take(Input::Waiting(mailbox.take_now()), &moment);
    assert!(rig.session.next(&moment).is_some());
    assert_eq!(rig.give(Input::Stalled), ["close 4408: slow consumer"]);
}

#[test]
fn a_session_without_a_heartbeat_left_is_not_asked_who_it_is() {
    let mut rig = Rig::welcomed();
    for _ in 0..2 {
        assert_eq!(rig.tick(Peers::None)[0], "ping");
    }
    rig.revoked = Some(Revoked::Session(FIRST));
    assert_eq!(rig.tick(Peers::None), ["gone"], "nobody is there to be told");
    assert_eq!(rig.session.caller().user, ADA);
}
