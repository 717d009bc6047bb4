//! A trust link: what a subject lets a contact know.

use crate::clock::Timestamp;
use crate::id::{LinkId, UserId};
use serde::{Deserialize, Serialize};

/// One thing a link allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Is told: alerts of fences and emergencies.
    Alerts,
    /// Sees the position while an emergency is active, and the trail from ten minutes before it.
    EmergencyLocation,
    /// Sees the position always.
    LiveLocation,
    /// Sees the names of the fences the person is in.
    Zones,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alerts, Self::EmergencyLocation, Self::LiveLocation, Self::Zones];
    const fn bit(self) -> u8 {
        match self {
            Self::Alerts => 1,
            Self::EmergencyLocation => 2,
            Self::LiveLocation => 4,
            Self::Zones => 8,
        }
    }
}

/// A set of scopes; written as a list of words.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Scopes(u8);

impl Scopes {
    /// From the number it is stored as; unknown bits are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 15)
    }
    /// The number it is stored as: alerts 1, emergency_location 2, live_location 4, zones 8.
    pub const fn bits(self) -> u8 {
        self.0
    }
    /// Whether `scope` is in it.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
    /// Whether any of it shows a position.
    pub const fn grants_position(self) -> bool {
        self.has(Scope::EmergencyLocation) || self.has(Scope::LiveLocation)
    }
    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, s| bits | s.bit()))
    }
}
impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(Scope::ALL.into_iter().filter(|scope| self.has(*scope)))
    }
}
impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(d)?.into_iter().collect())
    }
}
impl utoipa::PartialSchema for Scopes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new().items(Scope::schema()).into()
    }
}
impl utoipa::ToSchema for Scopes {}

/// Where a link stands; an ended one is not there at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Asked; the contact has not accepted.
    Pending,
    /// In force.
    Active,
}

/// Which end of a link a person is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
// The published name of the schema.
#[schema(as = Role)]
pub enum LinkRole {
    /// The one whose position it is about.
    Subject,
    /// The one who is trusted.
    Contact,
}

/// A trust link as both of its people see it.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct TrustLink {
    /// Its id.
    pub id: LinkId,
    /// Who grants.
    pub subject: UserId,
    /// Who is trusted.
    pub contact: UserId,
    /// The subject's name and the contact's, for a list to show.
    pub subject_name: String,
    /// The contact's display name.
    pub contact_name: String,
    /// What it allows.
    pub scopes: Scopes,
    /// 1 is told first.
    pub tier: u8,
    /// Whether the contact is told when the subject was forced to end an emergency. Nobody is shown it: whoever forces the
    /// subject could read it on their phone.
    #[serde(skip)]
    pub hears_duress: bool,
    /// Where it stands.
    pub state: LinkState,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it came into force.
    pub accepted_at: Option<Timestamp>,
    /// Since when it allows these scopes: what was before is not shown by them.
    #[serde(skip)]
    pub scopes_since: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl TrustLink {
    /// Whether it is in force at `now`.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.state == LinkState::Active && self.expires_at.is_none_or(|end| now < end)
    }
    /// Whether it is in force at `now` and allows `scope`.
    pub fn allows(&self, scope: Scope, now: Timestamp) -> bool {
        self.in_force(now) && self.scopes.has(scope)
    }
    /// Whether the contact is told that an emergency, which seems to be over since then, goes on: whoever became a contact
    /// after it seems to be over sees one that is.
    pub fn hears_what_goes_on_since(&self, seems_over: Timestamp) -> bool {
        self.hears_duress && self.accepted_at.is_some_and(|accepted| accepted < seems_over)
    }
}

/// A link to store.
pub struct NewLink {
    /// Its id.
    pub id: LinkId,
    /// Who grants.
    pub subject: UserId,
    /// Who is trusted.
    pub contact: UserId,
    /// What it allows.
    pub scopes: Scopes,
    /// 1 is told first.
    pub tier: u8,
    /// Whether the contact hears of duress.
    pub duress: bool,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Now.
    pub created_at: Timestamp,
}

/// Changes to a link; `None` leaves a field as it is.
#[derive(Clone, Default)]
pub struct LinkPatch {
    /// What it allows.
    pub scopes: Option<Scopes>,
    /// 1 is told first.
    pub tier: Option<u8>,
    /// Whether the contact hears of duress.
    pub duress: Option<bool>,
}
