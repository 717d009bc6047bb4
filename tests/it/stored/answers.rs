//! Everything that the people of the story can read, as a node answers it.

use super::cast::Cast;
use crate::harness::Person;
use cima::client::Heard;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What was asked, and what was answered.
pub(super) type Answers = BTreeMap<String, Value>;

/// What each person reads of themselves and of what they are told. Reading it changes nothing.
pub(super) async fn of_everybody(cast: &Cast) -> Answers {
    let mut answers = Answers::new();
    for (name, person) in cast.iter() {
        let device = format!("/v1/devices/{}/push", person.session.device);
        let paths = [
            "/v1/me",
            "/v1/me/disclosures",
            "/v1/me/export",
            "/v1/devices",
            &device,
            "/v1/links?role=subject",
            "/v1/links?role=contact",
            "/v1/geofences",
            "/v1/emergencies?role=subject",
            "/v1/emergencies?role=contact",
            "/v1/check-ins",
            "/v1/alerts?limit=1000",
        ];
        for path in paths {
            let answer = ask(&mut answers, name, person, path).await;
            if path.starts_with("/v1/emergencies") {
                for emergency in answer["items"].as_array().unwrap() {
                    let path = format!("/v1/emergencies/{}", emergency["id"].as_str().unwrap());
                    ask(&mut answers, name, person, &path).await;
                }
            }
        }
        answers.insert(format!("{name} resumes from 0"), inbox(person).await);
    }
    answers
}

/// Where everybody is to everybody. Reading it is written down as a disclosure.
pub(super) async fn of_places(cast: &Cast) -> Answers {
    let mut answers = Answers::new();
    for (name, viewer) in cast.iter() {
        for (_, subject) in cast.iter() {
            for of in ["location", "track?from=2026-11-01T00:00:00Z&limit=1000", "zones"] {
                let path = format!("/v1/people/{}/{of}", subject.id());
                ask(&mut answers, name, viewer, &path).await;
            }
        }
    }
    answers
}

async fn ask(answers: &mut Answers, name: &str, person: &Person, path: &str) -> Value {
    let answer = person.get(path).await;
    answers.insert(format!("{name} GET {path}"), json!([answer.status, answer.body]));
    answer.body
}

/// The frames that a new socket is sent when it asks for the whole inbox. What is sent unasked has no order.
async fn inbox(person: &Person) -> Value {
    let mut socket = person.api.stream(&person.session.access).await.unwrap();
    let mut welcome = socket.wait("welcome").await.unwrap();
    welcome.as_object_mut().unwrap().remove("session");
    socket.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    let mut frames = Vec::new();
    loop {
        match socket.hear().await {
            Heard::Frame(frame) if frame["type"] == "resumed" => {
                frames.push(frame);
                break;
            }
            Heard::Frame(frame) => frames.push(frame),
            ended => panic!("{ended:?}"),
        }
    }
    socket.close().await;
    frames.sort_by_key(|frame| (frame["cursor"].as_i64(), frame.to_string()));
    frames.insert(0, welcome);
    json!(frames)
}

/// What is said now, without the members that objects have gained: a server may add some.
fn as_far_as(is: &Value, was: &Value) -> Value {
    match (is, was) {
        (Value::Object(is), Value::Object(was)) => {
            let known = is.iter().filter_map(|(name, value)| Some((name, value, was.get(name)?)));
            known.map(|(name, value, was)| (name.clone(), as_far_as(value, was))).collect()
        }
        (Value::Array(is), Value::Array(was)) if is.len() == was.len() => {
            is.iter().zip(was).map(|(is, was)| as_far_as(is, was)).collect()
        }
        _ => is.clone(),
    }
}

/// What was said, without what is shown no more: whether a contact hears of duress.
fn still_shown(was: &Value) -> Value {
    match was {
        Value::Object(was) => {
            let is_link = was.contains_key("scopes") && was.contains_key("tier");
            let shown = was.iter().filter(|(name, _)| !(is_link && *name == "duress"));
            shown.map(|(name, value)| (name.clone(), still_shown(value))).collect()
        }
        Value::Array(was) => was.iter().map(still_shown).collect(),
        _ => was.clone(),
    }
}

/// Compares, and says where they differ rather than all of both.
pub(super) fn assert_same(before: &BTreeMap<String, Value>, now: &Answers) {
    for (asked, was) in before {
        let is = now.get(asked).unwrap_or_else(|| panic!("{asked} was answered before, and not asked now"));
        let was = still_shown(was);
        assert_eq!(as_far_as(is, &was), was, "{asked} is answered in another way than before");
    }
    let new: Vec<&String> = now.keys().filter(|asked| !before.contains_key(*asked)).collect();
    assert!(new.is_empty(), "asked now and not before: {new:?}");
}
