//! The window of fixes.

use super::node::{SOS, fixes};
use super::rig::Rig;
use crate::geo::MAX_SEQ;
use crate::identity::TokenKind;
use crate::stream::mailbox::Mailbox;
use crate::stream::session::Input;
use crate::tracking::Recorded;
use serde_json::json;
use std::time::Duration;

/// A session that has sent fixes 1 to 4 in frames 1 to 3, which fills its window.
fn full() -> Rig {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    for frame in [[1, 2].as_slice(), &[3], &[4]] {
        rig.frame(fixes(frame, now));
    }
    assert_eq!(rig.node.handed_over, [(1, vec![1, 2]), (2, vec![3]), (3, vec![4])]);
    rig
}

#[test]
fn acks_are_cumulative_whatever_order_the_disk_has() {
    let mut rig = full();
    assert_eq!(rig.mail(|m| m.written(2, 1, Recorded::default())), ["acked 0"], "1 and 2 are not on disk");
    assert_eq!(rig.mail(|m| m.written(1, 2, Recorded::default())), ["acked 3"]);
    assert_eq!(rig.mail(|m| m.written(3, 1, Recorded::default())), ["acked 4"]);
}

#[test]
fn beyond_the_window_fixes_are_pushed_back_until_an_ack_opens_it_and_none_is_lost() {
    let mut rig = full();
    let now = rig.now();
    assert_eq!(rig.frame(fixes(&[5], now)), ["ingest 4 of 1"], "the last frame may reach beyond");
    assert_eq!(rig.frame(fixes(&[6, 7], now)), ["error rate_limited", "slow_down 4"]);
    assert!(rig.frame(fixes(&[8], now)).is_empty(), "it is told once a second");
    let all_written = |m: &Mailbox| {
        (1..=4).zip([2, 1, 1, 1]).for_each(|(n, count)| m.written(n, count, Recorded::default()))
    };
    assert_eq!(rig.mail(all_written), ["acked 5"]);
    // What comes after what was pushed back is stored and not acked, until that came again.
    assert_eq!(rig.frame(fixes(&[9], now)), ["ingest 5 of 1"]);
    assert_eq!(rig.mail(|m| m.written(5, 1, Recorded::default())), ["acked 5"]);
    assert_eq!(rig.frame(fixes(&[6, 7, 8], now)), ["ingest 6 of 3"]);
    assert_eq!(rig.mail(|m| m.written(6, 3, Recorded::default())), ["acked 9"]);
}

#[test]
fn what_is_acked_and_comes_again_too_fast_holds_up_no_ack() {
    let mut rig = full();
    let now = rig.now();
    rig.mail(|m| m.written(1, 2, Recorded::default()));
    rig.frame(fixes(&[5], now));
    rig.frame(fixes(&[6], now));
    assert_eq!(rig.frame(fixes(&[7], now)), ["ingest 6 of 1"]);
    assert_eq!(rig.frame(fixes(&[1, 2], now)), ["error rate_limited", "slow_down 4"]);
    rig.mail(|m| (2..=6).for_each(|n| m.written(n, 1, Recorded::default())));
    assert_eq!(rig.frame(fixes(&[8], now)), ["ingest 7 of 1"]);
    assert_eq!(rig.mail(|m| m.written(7, 1, Recorded::default())), ["acked 8"]);
}

#[test]
fn a_client_is_asked_for_as_many_fixes_as_came_onto_the_disk() {
    let mut rig = full();
    let now = rig.now();
    rig.frame(fixes(&[5], now));
    rig.frame(fixes(&[6], now));
    rig.pass(Duration::from_secs(2));
    rig.mail(|m| m.written(1, 2, Recorded::default()));
    rig.mail(|m| m.written(2, 1, Recorded::default()));
    rig.mail(|m| m.written(3, 1, Recorded::default()));
    rig.frame(fixes(&[6, 7, 8, 9], now));
    assert_eq!(rig.frame(fixes(&[10], now)), ["error rate_limited", "slow_down 2"]);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.frame(fixes(&[10], now)), ["error rate_limited", "slow_down 1"], "never none at all");
}

#[test]
fn what_comes_while_too_much_waits_is_not_taken_and_told() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.frame(fixes(&[1], now));
    let (fix, resume) = (fixes(&[2], now).to_string(), r#"{"type":"resume","cursor":0}"#);
    assert_eq!(rig.give(Input::Overflow(&fix)), ["error rate_limited", "slow_down 4"]);
    assert!(rig.give(Input::Overflow(resume)).is_empty());
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.give(Input::Overflow(resume)), ["error rate_limited"]);
    rig.mail(|m| m.written(1, 1, Recorded::default()));
    rig.frame(fixes(&[3], now));
    assert_eq!(rig.mail(|m| m.written(2, 1, Recorded::default())), ["acked 1"], "2 was not taken");
}

#[test]
fn only_a_raise_and_an_end_pass_by_what_waits() {
    let mut rig = full();
    let now = rig.now();
    let mut passes = |frame: serde_json::Value| {
        let moment = rig.moment();
        rig.session.urgent(&frame.to_string(), &moment).is_some()
    };
    assert!(passes(json!({"type": "emergency"})));
    assert!(passes(json!({"type": "emergency", "id": SOS, "fix": {"lat": "emergency"}})));
    assert!(
        passes(json!({"type": "resolve", "emergency": SOS}))
            && passes(json!({"type": "cancel", "emergency": SOS}))
    );
    assert!(!passes(json!({"type": "claim", "emergency": SOS})));
    assert!(!passes(json!({"type": "cancel"})), "what is no frame is told in its turn");
    assert!(!passes(fixes(&[5], now)));
    assert!(
        !passes(json!({"type": "emergency", "message": "x".repeat(70_000)})),
        "too large a frame closes in its turn"
    );
}

#[test]
fn an_emergency_is_asked_before_all_that_waits_whatever_the_window_holds() {
    let mut rig = full();
    let now = rig.now();
    let moment = rig.moment();
    // Other work is queued, and the window is full and gets fuller.
    let (more, sos) = (fixes(&[5, 6], now).to_string(), json!({"type": "emergency", "id": SOS}).to_string());
    rig.session.take(Input::Text(&more), &moment);
    rig.session.take(Input::Text(r#"{"type":"resume","cursor":0}"#), &moment);
    assert_eq!(rig.give(Input::Text(&sos))[..2], ["raise", "accepted"]);
}

#[test]
fn the_way_in_is_no_condition_of_an_emergency() {
    let mut rig = Rig::new(TokenKind::Distress);
    rig.give(Input::Opened);
    let raise = json!({"type": "emergency", "id": SOS, "fix": {"lat": 48.2}});
    assert_eq!(rig.frame(raise), ["raise", "accepted"]);
    assert_eq!(rig.frame(json!({"type": "cancel", "emergency": SOS})), ["end", "accepted"]);
    assert!(rig.node.handed_over.is_empty());
}

#[test]
fn each_fix_is_refused_on_its_own_and_a_refused_one_holds_no_ack_up() {
    let mut rig = Rig::welcomed();
    let (now, long_ago) = (rig.now(), rig.now() - Duration::from_secs(90_000));
    let mut frame = fixes(&[1], now);
    let good = frame["fixes"][0].clone();
    let too_old = fixes(&[2], long_ago)["fixes"][0].clone();
    frame["fixes"] = json!([good, too_old, {"seq": 3}]);
    let said = rig.frame(frame);
    assert_eq!(said[2..], ["rejected 2 too_old", "rejected 3 invalid_fix", "ingest 1 of 1"]);
    assert_eq!(rig.mail(|m| m.written(1, 1, Recorded::default())), ["acked 3"]);
    let said = rig.frame(json!({"type": "fixes", "fixes": [{"seq": 4}]}));
    assert_eq!(said, ["rejected 4 invalid_fix", "acked 4"]);
    // A number that no fix can have swallows no ack.
    let said = rig.frame(json!({"type": "fixes", "fixes": [{"seq": MAX_SEQ + 1}]}));
    assert_eq!(said.last().unwrap(), "acked 4");
}

#[test]
fn a_conflict_is_told_before_the_ack_that_covers_it() {
    let mut rig = full();
    let recorded = Recorded { duplicates: vec![1], conflicts: vec![2] };
    assert_eq!(rig.mail(|m| m.written(1, 2, recorded)), ["rejected 2 seq_conflict", "acked 2"]);
}

#[test]
fn a_store_that_does_not_answer_opens_no_way_in_and_the_next_frame_asks_again() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.node.fails = true;
    assert_eq!(rig.frame(fixes(&[1], now)), ["ask way in for 1", "error unavailable"]);
    rig.node.fails = false;
    assert_eq!(rig.frame(fixes(&[1], now)), ["ask way in for 1", "overtake", "ingest 1 of 1"]);
}

#[test]
fn what_was_not_taken_is_not_acked_by_what_came_after_it() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.node.fails = true;
    rig.frame(fixes(&[1, 2, 3], now));
    rig.node.fails = false;
    rig.frame(fixes(&[4], now));
    assert!(rig.mail(|m| m.written(1, 1, Recorded::default())).iter().all(|said| said == "acked 0"));
    rig.frame(fixes(&[1, 2], now));
    assert_eq!(rig.mail(|m| m.written(2, 2, Recorded::default())), ["acked 2"]);
    rig.frame(fixes(&[3], now));
    assert_eq!(rig.mail(|m| m.written(3, 1, Recorded::default())), ["acked 4"]);
}

#[test]
fn what_a_stopping_node_does_not_take_is_never_acked() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.node.stopping = true;
    assert_eq!(rig.frame(fixes(&[1], now)).last().unwrap(), "error unavailable");
    assert_eq!(rig.frame(json!({"type": "fixes", "fixes": [{"seq": 2}]})), ["rejected 2 invalid_fix"]);
}
