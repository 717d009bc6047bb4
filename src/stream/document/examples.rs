//! One example of each frame, for the document and for the test that holds the frames to it.

use crate::alerts::{AlertContent, AlertKind, AlertView, ClaimView, EmergencyKind, EmergencyView, State};
use crate::clock::Timestamp;
use crate::geo::{Fix, Note, Point};
use crate::id::{AlertId, DeviceId, EmergencyId, GeofenceId, UserId};
use crate::stream::protocol::{PlainFrame, ServerFrame};
use crate::tracking::{Severity, Trigger};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x019a_3c1e_7f40_7000_8000_0000_0000_0000 + n)
}

fn fix() -> Option<Fix> {
    Some(Fix {
        seq: 4_711,
        point: Point::new(48.208_49, 16.372_08)?,
        fixed_at: NOW,
        accuracy_m: Some(6.5),
        altitude_m: Some(171.0),
        speed_mps: Some(1.4),
        course_deg: Some(272.0),
        battery: Some(0.62),
    })
}

/// What a client sends, by the frame's type.
pub(super) fn of_client() -> Vec<Value> {
    let (emergency, user) = (id(1), id(2));
    let fix = json!(fix());
    vec![
        json!({"type": "fixes", "fixes": [fix]}),
        json!({"type": "emergency", "id": emergency, "kind": "sos", "message": "help", "fix": fix,
            "countdown_s": 0}),
        json!({"type": "resolve", "emergency": emergency, "pin": "2580"}),
        json!({"type": "cancel", "emergency": emergency}),
        json!({"type": "claim", "emergency": emergency}),
        json!({"type": "ack", "alert": id(3), "state": "seen"}),
        json!({"type": "resume", "cursor": 41}),
        json!({"type": "watch", "user": user}),
        json!({"type": "unwatch", "user": user}),
        json!({"type": "token", "access_token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln"}),
    ]
}

/// What the server sends; of an alert, also one that is gone and one that came ahead of the inbox.
pub(super) fn of_server() -> Vec<ServerFrame> {
    let (emergency, subject, device) = (EmergencyId(id(1)), UserId(id(2)), DeviceId(id(4)));
    let mut frames: Vec<ServerFrame> = [
        PlainFrame::Welcome {
            session: id(5),
            now: NOW,
            last_seq: 4_711,
            cursor: 42,
            window: 512,
            heartbeat_s: 20,
        },
        PlainFrame::Acked { seq: 4_711, ranges: vec![[4_700, 4_711]] },
        PlainFrame::Notes { seq: Some(4_711), notes: vec![Note::of("battery", "out_of_range")] },
        PlainFrame::Rejected { seq: Some(4_712), code: "in_future" },
        PlainFrame::Accepted {
            id: EmergencyId(id(6)),
            emergency,
            state: State::Active,
            copies: 1,
            copies_max: 1,
            joined: Some(vec![EmergencyId(id(6))]),
            tells: Some(2),
            notes: vec![Note::of("battery", "out_of_range")],
        },
        PlainFrame::Emergency { emergency: told(emergency, subject) },
        PlainFrame::Watching { user: subject, name: Some("Ada".to_owned()), basis: "emergency" },
        PlainFrame::TokenExpires { at: NOW },
        PlainFrame::Unavailable { user: subject },
        PlainFrame::Seen { alert: AlertId(id(3)), at: NOW },
        PlainFrame::Resumed { complete: true },
        PlainFrame::SlowDown { fixes_per_s: 5 },
        PlainFrame::Drain { after_s: 1 },
        PlainFrame::Error {
            code: "pin_required",
            detail: "a PIN is set; give it".to_owned(),
            emergency: Some(emergency),
        },
    ]
    .map(ServerFrame::from)
    .into();
    frames.extend(fix().map(|fix| {
        let (raised, basis) = (Some(true), "emergency");
        let (name, device_name) = (Some("Ada".to_owned()), Some("Ada's phone".to_owned()));
        PlainFrame::Position { user: subject, name, device, device_name, raised, doubtful: false, fix, basis }
            .into()
    }));
    let place = |cursor, content: Option<AlertContent>| {
        let gone = content.is_none();
        ServerFrame::Alert(Box::new(AlertView { id: AlertId(id(3)), cursor, gone, content }))
    };
    frames.push(place(Some(42), Some(crossing(subject))));
    frames.push(place(None, Some(crossing(subject))));
    frames.push(place(Some(42), None));
    frames
}

fn told(id: EmergencyId, subject: UserId) -> EmergencyView {
    EmergencyView {
        id,
        subject,
        subject_name: Some("Ada".to_owned()),
        device: Some(DeviceId(self::id(4))),
        device_name: Some("Ada's phone".to_owned()),
        kind: EmergencyKind::Sos,
        state: State::Active,
        message: Some("help".to_owned()),
        opened_at: NOW,
        countdown_until: None,
        ended_at: None,
        claims: vec![ClaimView { contact: UserId(self::id(7)), name: Some("Bo".to_owned()), at: NOW }],
        joined: None,
        deliveries: None,
        duress: Some(true),
    }
}

fn crossing(subject: UserId) -> AlertContent {
    AlertContent {
        kind: AlertKind::Geofence,
        severity: Severity::Info,
        subject,
        subject_name: "Ada".to_owned(),
        at: NOW,
        title: "Ada entered School".to_owned(),
        body: "Ada is now in School.".to_owned(),
        template: "geofence.enter".to_owned(),
        params: BTreeMap::from([("geofence".to_owned(), "School".to_owned())]),
        emergency: None,
        geofence: Some(GeofenceId(id(8))),
        transition: Some(Trigger::Enter),
        late: Some(true),
        seen_at: Some(NOW),
    }
}
