//! An emergency: what it is made of.
//!
//! `machine` says how it changes, `life` when it ends by itself (and `model` proves it), `raise` reads what a phone sends, `view`
//! is what people see, `notices` makes alerts of what is to be told, `service` is the use cases. Its store is a part of
//! [`AlertsStore`](super::AlertsStore).

mod life;
mod machine;
#[cfg(test)]
mod model;
mod notices;
mod raise;
#[cfg(test)]
mod sample;
mod service;
mod view;

pub use life::LIFETIME;
pub use machine::{Command, Next, Notice};
pub(super) use notices::{drafts, word_as_missed};
pub use raise::{Raise, RaiseIn};
pub(super) use service::change_event;
pub use service::{Accepted, OPENINGS_AN_HOUR};
pub use view::{ClaimView, DeliveryView, EmergencyView, contact_view, subject_view};

use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, EmergencyId, UserId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is the matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmergencyKind {
    /// The button.
    Sos,
    /// The button, without a sound on the phone.
    Silent,
    /// A check-in was missed.
    CheckIn,
    /// The phone felt a fall.
    Fall,
    /// Anything else.
    Other,
}

impl EmergencyKind {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sos => "sos",
            Self::Silent => "silent",
            Self::CheckIn => "check_in",
            Self::Fall => "fall",
            Self::Other => "other",
        }
    }
    /// From [`EmergencyKind::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Sos, Self::Silent, Self::CheckIn, Self::Fall, Self::Other]
            .into_iter()
            .find(|k| k.word() == word)
    }
}

/// Where an emergency stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Raised; contacts are told when the countdown is over.
    Countdown,
    /// Contacts are told and see the position.
    Active,
    /// Ended: the person is safe.
    Resolved,
    /// Ended: it was no emergency.
    Cancelled,
    /// Ended: no sign of it for a day.
    Expired,
}

impl State {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Countdown => "countdown",
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
    /// From [`State::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Countdown, Self::Active, Self::Resolved, Self::Cancelled, Self::Expired]
            .into_iter()
            .find(|s| s.word() == word)
    }
    /// Whether it can still change.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Countdown | Self::Active)
    }
}

/// A contact who said "I am on it".
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Claim {
    /// Who.
    pub contact: UserId,
    /// When.
    pub at: Timestamp,
    /// When they took it back, or the subject voided it.
    pub dropped_at: Option<Timestamp>,
}

/// An end, true or apparent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ended {
    /// As what.
    pub state: State,
    /// When.
    pub at: Timestamp,
}

/// An emergency as it truly stands. Nothing of it leaves the server but through [`subject_view`] and
/// [`contact_view`].
#[derive(Clone, PartialEq, Debug)]
pub struct Emergency {
    /// The raising phone's id for it, unless somebody else had used that.
    pub id: EmergencyId,
    /// Who is in it.
    pub subject: UserId,
    /// What raised it; none for a check-in.
    pub device: Option<DeviceId>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// In the person's own words.
    pub message: Option<String>,
    /// Where it truly stands.
    pub state: State,
    /// When it was raised.
    pub opened_at: Timestamp,
    /// The oldest fix that contacts see: 10 minutes before the opening; if a missed check-in raised it, when that was
    /// set.
    pub trail_from: Timestamp,
    /// When contacts were told.
    pub active_at: Option<Timestamp>,
    /// When the countdown is over.
    pub countdown_until: Option<Timestamp>,
    /// When it truly ended.
    pub ended_at: Option<Timestamp>,
    /// The end that the subject's tokens see, if it was under duress.
    pub apparent: Option<Ended>,
    /// All claims, dropped ones too.
    pub claims: Vec<Claim>,
    /// The newest hundred ids of further raises that joined it.
    pub joined: Vec<EmergencyId>,
    /// The fix that came with the raise.
    pub opening_fix: Option<Fix>,
    /// Grows with every change; a change names the version it was made from.
    pub version: i64,
    /// When a timer looks at it next.
    pub due_at: Option<Timestamp>,
    /// Its end by time was announced.
    pub warned: bool,
    /// The end that the subject sees is so long ago that they see no more than that it was.
    pub erased: bool,
}

/// What a new emergency is made of.
pub struct Opening {
    /// Its id.
    pub id: EmergencyId,
    /// Who.
    pub subject: UserId,
    /// On what.
    pub device: Option<DeviceId>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// In the person's own words.
    pub message: Option<String>,
    /// The fix that came with it.
    pub fix: Option<Fix>,
    /// How long contacts are not told yet.
    pub countdown: Duration,
}

/// How an end was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// By the person.
    True,
    /// With the duress PIN.
    Duress,
}

/// What a person ends an emergency as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndWith {
    /// Safe.
    Resolve,
    /// A false alarm.
    Cancel,
}
