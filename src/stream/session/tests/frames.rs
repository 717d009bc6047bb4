//! Frames of a client: those that are none, those that a distress token may not send, and their answers.

use super::node::{ADA, SOS};
use super::rig::Rig;
use crate::identity::TokenKind;
use crate::stream::session::Input;
use crate::stream::session::frames::{FAULT_WINDOW, FAULTS};
use serde_json::json;
use std::time::Duration;

const POLICY: &str = "close 1008: too many malformed frames";
const TOO_LARGE: &str = "close 1009: a frame is at most 64 KiB";

#[test]
fn ten_malformed_frames_in_a_minute_close() {
    let mut rig = Rig::welcomed();
    for _ in 1..FAULTS {
        assert_eq!(rig.give(Input::Text("nonsense")), ["error invalid_request"]);
        rig.pass(FAULT_WINDOW / FAULTS);
    }
    assert_eq!(rig.give(Input::Binary(3)), ["error invalid_request", POLICY]);
}

#[test]
fn ten_malformed_frames_in_more_than_a_minute_do_not() {
    let mut rig = Rig::welcomed();
    for _ in 0..3 {
        for _ in 1..FAULTS {
            assert_eq!(rig.give(Input::Text(r#"{"type":"dance"}"#)), ["error unknown_type"]);
        }
        rig.pass(FAULT_WINDOW + Duration::from_millis(1));
    }
}

#[test]
fn a_frame_has_64_kib_at_most() {
    let frame = json!({"type": "unwatch", "user": ADA}).to_string();
    let padded = |bytes: usize| frame.clone() + &" ".repeat(bytes - frame.len());
    let (largest, larger) = (padded(65_536), padded(65_537));
    let mut rig = Rig::welcomed();
    assert!(rig.give(Input::Text(&largest)).is_empty());
    assert_eq!(rig.give(Input::Text(&larger)), [TOO_LARGE]);
    assert_eq!(Rig::welcomed().give(Input::Binary(65_537)), [TOO_LARGE]);
    assert_eq!(Rig::welcomed().give(Input::TooLarge), [TOO_LARGE]);
}

#[test]
fn a_distress_token_reads_nothing() {
    let mut rig = Rig::new(TokenKind::Distress);
    rig.node.inbox = vec![true];
    rig.node.open = vec![SOS];
    assert_eq!(rig.give(Input::Opened), ["ask welcome", "welcome"]);
    assert_eq!(rig.session.sent_to(), i64::MAX);
    for frame in [
        json!({"type": "resume", "cursor": 0}),
        json!({"type": "watch", "user": ADA}),
        json!({"type": "unwatch", "user": ADA}),
        json!({"type": "claim", "emergency": SOS}),
        json!({"type": "ack", "alert": SOS, "state": "seen"}),
    ] {
        assert_eq!(rig.frame(frame.clone()), ["error forbidden"], "{frame}");
    }
    let said = rig.mail(|m| {
        m.resync();
        m.inbox();
        m.emergency(SOS);
    });
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn answers_of_use_cases_become_frames() {
    let mut rig = Rig::welcomed();
    let frames = [
        (json!({"type": "emergency"}), ["raise", "accepted"].as_slice()),
        (json!({"type": "resolve", "emergency": SOS, "pin": "1234"}), &["end", "accepted"]),
        (json!({"type": "claim", "emergency": SOS}), &["ask claim", "accepted"]),
        (json!({"type": "ack", "alert": SOS, "state": "received"}), &["ask ack"]),
    ];
    for (frame, said) in &frames {
        assert_eq!(rig.frame(frame.clone()), *said, "{frame}");
    }
    rig.node.fails = true;
    for (frame, said) in &frames {
        assert_eq!(rig.frame(frame.clone()), [said[0], "error unavailable"], "{frame}");
    }
}
