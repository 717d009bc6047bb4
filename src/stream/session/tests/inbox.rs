//! Welcome, alerts and `resume`.

use super::node::SOS;
use super::rig::{FIRST, Rig};
use crate::identity::TokenKind;
use crate::stream::session::{Input, Peers};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_welcome_begins_at_the_head_and_shows_what_is_open() {
    let mut rig = Rig::new(TokenKind::Access(FIRST));
    rig.node.inbox = vec![true, false];
    rig.node.open = vec![SOS];
    let said = rig.give(Input::Opened);
    assert_eq!(said, ["ask welcome", "welcome", "ask open emergencies", "emergency"]);
    assert_eq!(rig.session.sent_to(), 2);
}

#[test]
fn a_store_that_does_not_answer_sends_nobody_away() {
    let mut reader = Rig::new(TokenKind::Access(FIRST));
    reader.node.fails = true;
    assert_eq!(reader.give(Input::Opened), ["ask welcome", "welcome"]);
    let mut distress = Rig::new(TokenKind::Distress);
    distress.node.fails = true;
    assert_eq!(distress.give(Input::Opened), ["ask welcome", "welcome"]);
}

#[test]
fn who_was_welcomed_without_an_inbox_misses_nothing_of_it() {
    let mut rig = Rig::new(TokenKind::Access(FIRST));
    rig.node.fails = true;
    rig.node.inbox = vec![false; 150];
    rig.give(Input::Opened);
    let said = rig.mail(|m| m.inbox());
    assert_eq!(said, ["ask place"], "where to go on from is not known yet");
    // It came after the welcome, and before the store answers again.
    rig.node.inbox.push(false);
    rig.node.fails = false;
    let said = rig.tick(Peers::None);
    assert_eq!(said[..3], ["ask open emergencies", "ask place", "ask inbox 51"], "{said:?}");
    assert_eq!(said.last().unwrap(), "continue inbox");
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 151"]);
}

#[test]
fn a_resume_says_where_to_go_on_from_too() {
    let mut rig = Rig::new(TokenKind::Access(FIRST));
    rig.node.fails = true;
    rig.node.inbox = vec![false; 3];
    rig.give(Input::Opened);
    rig.node.fails = false;
    let said = rig.frame(json!({"type": "resume", "cursor": 2}));
    assert_eq!(said, ["ask head 2", "ask inbox 2", "alert 3", "resumed true"]);
    assert!(rig.tick(Peers::None).contains(&"ask inbox 3".to_owned()));
}

#[test]
fn alerts_come_in_order_and_those_of_emergencies_are_recorded_as_sent() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![false, true, false];
    let said = rig.mail(|m| m.inbox());
    assert_eq!(said, ["ask inbox 0", "alert 1", "alert 2", "told in time", "alert 3", "sent 1 to 3"]);
    assert_eq!(rig.session.sent_to(), 3);
    rig.node.inbox.push(false);
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 3", "alert 4"]);
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 4"]);
}

#[test]
fn a_long_replay_lets_everything_else_have_its_turn() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![false; 250];
    let said = rig.frame(json!({"type": "resume", "cursor": 0}));
    assert_eq!((said.len(), said[0].as_str(), said[1].as_str()), (103, "ask head 0", "ask inbox 0"));
    assert_eq!(said.last().unwrap(), "continue inbox");
    let said = rig.mail(|m| m.inbox());
    assert_eq!((said[0].as_str(), said.last().unwrap().as_str()), ("ask inbox 100", "continue inbox"));
    let said = rig.mail(|m| m.inbox());
    assert_eq!((said.len(), said.last().unwrap().as_str()), (52, "resumed true"));
    // A full last page ends with an empty one.
    rig.node.inbox.truncate(100);
    rig.frame(json!({"type": "resume", "cursor": 0}));
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 100", "resumed true"]);
}

#[test]
fn a_resume_is_complete_only_from_a_cursor_that_was_given_out() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![false; 3];
    let resume = |cursor: i64| json!({"type": "resume", "cursor": cursor});
    assert_eq!(rig.frame(resume(2)), ["ask head 2", "ask inbox 2", "alert 3", "resumed true"]);
    assert_eq!(rig.frame(resume(3)), ["ask head 3", "ask inbox 3", "resumed true"]);
    for unknown in [4, -1] {
        assert_eq!(rig.frame(resume(unknown))[1..], ["resumed false"], "{unknown}");
    }
    assert_eq!(rig.session.sent_to(), 3, "a refused one moves nothing");
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 3"], "resumed is said once");
}

#[test]
fn what_could_not_be_read_is_read_again_after_a_second() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![true];
    rig.node.fails = true;
    let said = rig.mail(|m| {
        m.emergency(SOS);
        m.inbox();
    });
    assert_eq!(said, ["ask emergency", "ask inbox 0"]);
    assert_eq!(rig.wakes_in(), Duration::from_millis(500));
    rig.node.fails = false;
    rig.node.open = vec![SOS];
    let said = rig.tick(Peers::None);
    assert_eq!(
        said,
        ["ask open emergencies", "emergency", "ask inbox 0", "alert 1", "told in time", "sent 1 to 1"]
    );
    assert!(rig.wakes_in() > Duration::from_secs(1), "once is enough");
}

#[test]
fn an_emergency_of_which_one_has_no_part_is_not_told() {
    let mut rig = Rig::welcomed();
    assert_eq!(rig.mail(|m| m.emergency(SOS)), ["ask emergency"]);
    rig.node.open = vec![SOS];
    assert_eq!(rig.mail(|m| m.emergency(SOS)), ["ask emergency", "emergency"]);
}

#[test]
fn emergencies_come_before_alerts_acks_and_positions() {
    let mut rig = Rig::welcomed();
    rig.node.open = vec![SOS];
    rig.node.inbox = vec![false];
    let now = rig.now();
    rig.frame(super::node::fixes(&[1], now));
    let said = rig.mail(|m| {
        m.position(super::node::BO, super::node::sealed(super::node::BO, 1));
        m.written(1, 1, crate::tracking::Recorded::default());
        m.inbox();
        m.emergency(SOS);
    });
    assert_eq!(said, ["ask emergency", "emergency", "ask inbox 0", "alert 1", "acked 1"]);
}

#[test]
fn more_emergencies_than_can_be_named_are_all_looked_at() {
    let mut rig = Rig::welcomed();
    let said = rig
        .mail(|m| (0..65_u128).for_each(|n| m.emergency(crate::id::EmergencyId(uuid::Uuid::from_u128(n)))));
    assert_eq!(said.iter().filter(|s| *s == "ask emergency").count(), 64);
    assert_eq!(said[64..], ["ask open emergencies", "ask inbox 0"]);
}

#[test]
fn what_is_told_again_says_nothing_of_how_fast_news_are() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![true];
    assert_eq!(rig.mail(|m| m.inbox()), ["ask inbox 0", "alert 1", "told in time", "sent 1 to 1"]);
    rig.pass(Duration::from_secs(1));
    let said = rig.frame(json!({"type": "resume", "cursor": 0}));
    assert_eq!(said, ["ask head 0", "ask inbox 0", "alert 1", "sent 1 to 1", "resumed true"]);
}

#[test]
fn a_raise_that_has_no_room_is_refused_by_its_id() {
    let mut rig = Rig::welcomed();
    rig.session.has_no_room(Some(SOS));
    let said = rig.tick(Peers::None);
    assert!(said.iter().any(|line| line.starts_with("error unavailable")), "{said:?}");
}
