//! What comes out of a session, each output in a few words.

use crate::id::UserId;
use crate::stream::close::Close;
use crate::stream::session::{Ask, Effect, Output, Urgent};
use axum::extract::ws::Message;
use serde_json::Value;

fn short(user: UserId) -> String {
    format!("{:x}", user.0.as_u128())
}

pub(super) fn shown(output: &Output) -> String {
    match output {
        Output::Send(frame) => shown_frame(&serde_json::to_value(frame).unwrap()),
        Output::Ping => "ping".to_owned(),
        Output::Ingest { frame, fixes } => format!("ingest {frame} of {}", fixes.len()),
        Output::Begin(Urgent::Raise(_)) => "raise".to_owned(),
        Output::Begin(Urgent::End(_)) => "end".to_owned(),
        Output::Ask(ask) => format!("ask {}", shown_ask(ask)),
        Output::Do(effect) => shown_effect(*effect),
        Output::Close(close) => shown_close(*close),
        Output::Abandon => "gone".to_owned(),
    }
}

fn shown_frame(frame: &Value) -> String {
    let user = || short(UserId(frame["user"].as_str().unwrap().parse().unwrap()));
    let kind = frame["type"].as_str().unwrap();
    match kind {
        "acked" => format!("acked {}", frame["seq"]),
        "rejected" => format!("rejected {} {}", frame["seq"], frame["code"].as_str().unwrap()),
        "error" => format!("error {}", frame["code"].as_str().unwrap()),
        "alert" => format!("alert {}", frame["cursor"]),
        "resumed" => format!("resumed {}", frame["complete"]),
        "slow_down" => format!("slow_down {}", frame["fixes_per_s"]),
        "drain" => format!("drain {}", frame["after_s"]),
        "unavailable" => format!("unavailable {}", user()),
        "watching" => format!("watching {} {}", user(), frame["basis"].as_str().unwrap()),
        "position" => {
            format!("position {} {} {}", user(), frame["fix"]["seq"], frame["basis"].as_str().unwrap())
        }
        _ => kind.to_owned(),
    }
}

fn shown_effect(effect: Effect) -> String {
    match effect {
        Effect::Overtake => "overtake".to_owned(),
        Effect::Sent { from, to } => format!("sent {from} to {to}"),
        Effect::Told(_) => "told in time".to_owned(),
        Effect::ContinueInbox => "continue inbox".to_owned(),
        Effect::Listen(subject) => format!("listen {}", short(subject)),
        Effect::Unlisten(subject) => format!("unlisten {}", short(subject)),
    }
}

fn shown_close(close: Close) -> String {
    let Message::Close(Some(frame)) = Message::from(close) else { panic!("no close frame") };
    format!("close {}: {}", frame.code, frame.reason.as_str())
}

fn shown_ask(ask: &Ask) -> String {
    match ask {
        Ask::Welcome { .. } => "welcome".to_owned(),
        Ask::OpenEmergencies => "open emergencies".to_owned(),
        Ask::Emergency(_) => "emergency".to_owned(),
        Ask::Inbox { after } => format!("inbox {after}"),
        Ask::Place => "place".to_owned(),
        Ask::Head { resume } => format!("head {resume}"),
        Ask::Ack(..) => "ack".to_owned(),
        Ask::Claim(_) => "claim".to_owned(),
        Ask::Authenticate(_) => "authenticate".to_owned(),
        Ask::Move(session) => format!("move {}", session.0.as_u128()),
        Ask::OpenWayIn(given) => format!("way in for {}", given.len()),
        Ask::Visibility { subject, .. } => format!("grant {}", short(*subject)),
        Ask::Names(subject) => format!("names of {}", short(*subject)),
        Ask::Newest { grant, .. } => format!("newest {}", short(grant.subject())),
        Ask::Disclose { newest, .. } => format!("disclose {}", newest.fix.seq),
    }
}
