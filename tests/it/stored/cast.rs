//! The people of the story, and how they are written down beside what the node stored of them.

use crate::harness::{Person, TestNode};
use cima::client::{Api, Session};
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Under which handle somebody of the story signs up. No count of a test's is in it, so it is the same at every making.
pub(super) fn handle(name: &str) -> String {
    format!("{}.of.the.story", name.to_lowercase())
}

/// Everybody who can sign in, by name.
pub(crate) struct Cast(BTreeMap<String, Person>);

impl Cast {
    /// Signs everybody up.
    pub(super) async fn sign_up(node: &TestNode, names: &[&str]) -> Self {
        let mut cast = BTreeMap::new();
        for name in names {
            let handle = handle(name);
            let session = node.api.sign_up(&handle, name).await.unwrap();
            cast.insert((*name).to_owned(), Person { handle, session, api: node.api.clone() });
        }
        Self(cast)
    }
    /// Somebody.
    pub(super) fn get(&self, name: &str) -> &Person {
        self.0.get(name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }
    /// Everybody with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Person)> {
        self.0.iter().map(|(name, person)| (name.as_str(), person))
    }
    /// Takes somebody out.
    pub(super) fn take(&mut self, name: &str) -> Person {
        self.0.remove(name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }
    /// Time has passed: everybody gets tokens of now.
    pub(super) async fn refresh(&mut self) {
        for person in self.0.values_mut() {
            person.session = person.api.refresh(&person.session).await.unwrap();
        }
    }
    /// For five minutes everybody may do what needs it.
    pub(super) async fn step_up(&self) {
        for person in self.0.values() {
            let password = json!({"password": cima::client::password(&person.handle)});
            assert_eq!(person.post("/v1/sessions/step-up", password).await.status, 204);
        }
    }
    /// As it is written down.
    pub(super) fn write(&self) -> Value {
        let one = |person: &Person| {
            let Session { user, device, access, refresh, distress } = &person.session;
            json!({
                "handle": person.handle, "user": user, "device": device,
                "access": access, "refresh": refresh, "distress": distress,
            })
        };
        self.0.iter().map(|(name, person)| (name.clone(), one(person))).collect()
    }
    /// As it was written down; they speak to this server.
    pub(super) fn read(written: &Value, api: &Api) -> Self {
        let one = |of: &Value| {
            let text = |field: &str| of[field].as_str().unwrap().to_owned();
            let session = Session {
                user: text("user"),
                device: text("device"),
                access: text("access"),
                refresh: text("refresh"),
                distress: text("distress"),
            };
            Person { handle: text("handle"), session, api: api.clone() }
        };
        Self(written.as_object().unwrap().iter().map(|(name, of)| (name.clone(), one(of))).collect())
    }
}

/// What is written down beside the data: when it was, who was there, what a node answered then, and what the rest of the
/// story needs to know.
pub(super) struct Notes {
    pub(super) now: Timestamp,
    pub(super) cast: Value,
    pub(super) answers: BTreeMap<String, Value>,
    pub(super) known: Value,
}

impl Notes {
    pub(super) fn write(&self) -> String {
        let Self { now, cast, answers, known } = self;
        let all = json!({"now": now, "cast": cast, "known": known, "answers": answers});
        serde_json::to_string_pretty(&all).unwrap()
    }
    pub(super) fn read(text: &str) -> Self {
        let all: Value = serde_json::from_str(text).unwrap();
        let answers = all["answers"].as_object().unwrap();
        Self {
            now: Timestamp::parse(all["now"].as_str().unwrap()).unwrap(),
            cast: all["cast"].clone(),
            answers: answers.iter().map(|(asked, answer)| (asked.clone(), answer.clone())).collect(),
            known: all["known"].clone(),
        }
    }
}
