//! An emergency is told whatever the store refuses of it.
//!
//! A change that is refused for good is stored again with less: first its alerts without the words of people, then without
//! alerts. What is left is the state itself: contacts see it when they look, and every event is published.

use super::{AlertDraft, Alerts, Change, Committed, Emergency, Raised};
use crate::error::Stored;
use crate::id::EmergencyId;
use crate::runtime::{Refusal, SetAside, attempt, tried};

/// The one parameter that no person wrote.
const KIND: &str = "kind";

/// How much of a change is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Words {
    /// All of it.
    All,
    /// Alerts say what happened, and nothing that somebody wrote.
    Plain,
    /// There are no alerts.
    None,
}

impl Words {
    const EVER_LESS: [Self; 3] = [Self::All, Self::Plain, Self::None];

    fn of(self, told: &impl Fn() -> Vec<AlertDraft>) -> Result<Vec<AlertDraft>, Refusal> {
        if self == Self::None {
            return Ok(Vec::new());
        }
        let mut told = attempt(told)?;
        if self == Self::Plain {
            told.iter_mut().for_each(|draft| draft.params.retain(|name, _| name == KIND));
        }
        Ok(told)
    }
}

/// What alerts set aside.
#[derive(Clone, Copy)]
pub(super) struct Aside {
    pub(super) emergency: SetAside,
    pub(super) check_in: SetAside,
    pub(super) retention: SetAside,
}

impl Default for Aside {
    fn default() -> Self {
        Self {
            emergency: SetAside::of("emergency"),
            check_in: SetAside::of("check_in"),
            retention: SetAside::of("retention"),
        }
    }
}

impl Alerts {
    /// [`super::AlertsStore::change`], with as much of what is told as the store takes.
    pub(super) async fn change(
        &self,
        emergency: &Emergency,
        joined: Option<EmergencyId>,
        told: impl Fn() -> Vec<AlertDraft>,
    ) -> Stored<Option<Committed>> {
        let mut refused = None;
        for words in Words::EVER_LESS {
            let done = match words.of(&told) {
                Ok(alerts) => tried(self.store.change(Change { emergency, joined, alerts: &alerts })).await,
                Err(refusal) => Err(refusal),
            };
            match done {
                Ok(done) => return Ok(done),
                Err(Refusal::Passing(error)) => return Err(error),
                Err(refusal) => refused = Some(self.say_less(emergency, refused, refusal)),
            }
        }
        self.nothing_left(refused)
    }

    /// [`super::AlertsStore::raise`], with as much of the emergency as the store takes: in the end without its message and
    /// its fix. What was stored.
    pub(super) async fn open(
        &self,
        emergency: &Emergency,
        client_id: EmergencyId,
        told: impl Fn() -> Vec<AlertDraft>,
    ) -> Stored<(Raised, Emergency)> {
        let bare = Emergency { message: None, opening_fix: None, ..emergency.clone() };
        let mut refused = None;
        for emergency in [emergency, &bare] {
            for words in Words::EVER_LESS {
                let done = match words.of(&told) {
                    Ok(alerts) => tried(self.store.raise(emergency, client_id, &alerts)).await,
                    Err(refusal) => Err(refusal),
                };
                match done {
                    Ok(raised) => return Ok((raised, emergency.clone())),
                    Err(Refusal::Passing(error)) => return Err(error),
                    Err(refusal) => refused = Some(self.say_less(emergency, refused, refusal)),
                }
            }
        }
        self.nothing_left(refused)
    }

    /// It is told once, with the first reason.
    fn say_less(&self, emergency: &Emergency, before: Option<Refusal>, now: Refusal) -> Refusal {
        if before.is_none() {
            self.aside.emergency.note(emergency.id, &now);
        }
        now
    }

    fn nothing_left<T>(&self, refused: Option<Refusal>) -> Stored<T> {
        let refused = refused.unwrap_or(Refusal::Lasting("nothing was tried".to_owned()));
        Err(refused.into())
    }
}
