//! What is handed to a provider, in no provider's words.

use crate::clock::Timestamp;
use crate::id::AlertId;
use std::time::Duration;

/// How much of a hurry a notification is in; each has workers and clients of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Urgency {
    /// At once, and loud.
    Emergency,
    /// After the app had its chance to take it from a socket, and as the phone's settings say.
    Routine,
}

impl Urgency {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Emergency, Self::Routine];

    /// The word it is stored and counted as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Routine => "routine",
        }
    }
    /// From [`Urgency::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|u| u.word() == word)
    }
}

/// What a notification is about, as far as a provider may know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Matter {
    /// Somebody needs help.
    Emergency,
    /// Something changed in an emergency.
    EmergencyUpdate,
    /// Something happened at a fence.
    Geofence,
    /// Something changed between people.
    Link,
    /// A check-in is to be completed.
    CheckIn,
    /// They entered a public zone.
    Zone,
    /// A kind of alert that this program does not know yet; it is told all the same.
    Other,
}

impl Matter {
    /// From the word of an alert's kind.
    pub fn of(kind: &str) -> Self {
        [Self::Emergency, Self::EmergencyUpdate, Self::Geofence, Self::Link, Self::CheckIn, Self::Zone]
            .into_iter()
            .find(|m| m.word() == kind)
            .unwrap_or(Self::Other)
    }
    /// The word in a payload.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::EmergencyUpdate => "emergency_update",
            Self::Geofence => "geofence",
            Self::Link => "link",
            Self::CheckIn => "check_in",
            Self::Zone => "zone",
            Self::Other => "other",
        }
    }
    /// How long it is worth telling. An emergency lasts a day without a sign of it.
    pub const fn lifetime(self) -> Duration {
        const HOUR: u64 = 3_600;
        Duration::from_secs(match self {
            Self::Emergency | Self::EmergencyUpdate => 24 * HOUR,
            Self::CheckIn => HOUR,
            Self::Geofence | Self::Zone => 4 * HOUR,
            Self::Link | Self::Other => 72 * HOUR,
        })
    }
}

/// Something to tell through a provider: an opaque id, and what a generic text is chosen by.
#[derive(Clone, PartialEq, Debug)]
pub struct Notification {
    /// The alert; the app fetches it. Providers collapse repeats by it.
    pub alert: AlertId,
    /// What it is about.
    pub matter: Matter,
    /// How much of a hurry it is in.
    pub urgency: Urgency,
    /// The language of the person, a BCP 47 tag.
    pub locale: String,
    /// When it is not worth telling any more.
    pub until: Timestamp,
}

impl Notification {
    /// Seconds for which a provider keeps it for a device that is not there.
    pub fn ttl_s(&self, now: Timestamp) -> u64 {
        self.until.since(now).as_secs()
    }
}
