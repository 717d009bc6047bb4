//! An alert: one thing to tell, kept in an inbox with a gapless cursor per person.

use super::text;
use crate::clock::Timestamp;
use crate::id::{AlertId, EmergencyId, GeofenceId, UserId};
use crate::tracking::{Severity, Trigger};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::openapi::schema::{
    AllOfBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, SchemaFormat, Type,
};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A person crossed the edge of a fence.
    Geofence,
    /// An emergency was raised, raised again, or goes on under duress.
    Emergency,
    /// An emergency ended, is about to end by itself, or was claimed.
    EmergencyUpdate,
    /// A trust link was asked, accepted or changed; or it is about a device of the person's own.
    Link,
    /// A check-in is to be completed.
    CheckIn,
    /// The person entered a public zone. Told to them, and to nobody else.
    Zone,
}

impl AlertKind {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Geofence => "geofence",
            Self::Emergency => "emergency",
            Self::EmergencyUpdate => "emergency_update",
            Self::Link => "link",
            Self::CheckIn => "check_in",
            Self::Zone => "zone",
        }
    }
    /// From [`AlertKind::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Geofence, Self::Emergency, Self::EmergencyUpdate, Self::Link, Self::CheckIn, Self::Zone]
            .into_iter()
            .find(|k| k.word() == word)
    }
}

/// Which queue an alert waits in; nothing routine is ever in front of an emergency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Told first and pushed at once.
    Emergency,
    /// Told when its turn comes.
    Routine,
}

impl Lane {
    /// The word it is stored as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Routine => "routine",
        }
    }
}

/// Which contacts an alert is for, by whether they hear of duress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// All of them.
    All,
    /// Those whose link is not excluded from duress.
    HearDuress,
    /// Those whose link is.
    DeafToDuress,
}

/// Who is told. Contacts are resolved in the transaction that stores the alert, so one who was unlinked a moment
/// before is not told.
#[derive(Clone, PartialEq, Debug)]
pub enum Recipients {
    /// One person.
    Person(UserId),
    /// The contacts of the alert's subject whose link is in force and has `alerts`; only these, if some are named.
    Contacts {
        /// If set, nobody else.
        only: Option<Vec<UserId>>,
        /// By whether they hear of duress.
        audience: Audience,
    },
}

/// An alert to store.
#[derive(Clone, PartialEq, Debug)]
pub struct AlertDraft {
    /// Derived from its cause, so that a repeat is the same alert.
    pub id: AlertId,
    /// What it is about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about.
    pub subject: UserId,
    /// When it happened.
    pub at: Timestamp,
    /// Which text.
    pub template: &'static str,
    /// What goes into the text.
    pub params: BTreeMap<String, String>,
    /// Its emergency.
    pub emergency: Option<EmergencyId>,
    /// Its fence.
    pub geofence: Option<GeofenceId>,
    /// What happened at the fence.
    pub transition: Option<Trigger>,
    /// It was found at a fix that came late.
    pub late: bool,
    /// Its queue.
    pub lane: Lane,
    /// Who is told.
    pub recipients: Recipients,
}

impl AlertDraft {
    /// Marked as one of many: a provider shows it in place of the one before.
    pub fn coalesced(mut self) -> Self {
        self.params.insert("coalesced".to_owned(), "true".to_owned());
        self
    }
}

/// An alert as read from an inbox.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    /// Its id; clients dedupe by it.
    pub id: AlertId,
    /// What it is about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about.
    pub subject: UserId,
    /// Their name now.
    pub subject_name: String,
    /// When it happened.
    pub at: Timestamp,
    /// Which text.
    pub template: String,
    /// What goes into the text.
    pub params: BTreeMap<String, String>,
    /// Its emergency.
    pub emergency: Option<EmergencyId>,
    /// Its fence.
    pub geofence: Option<GeofenceId>,
    /// What happened at the fence.
    pub transition: Option<Trigger>,
    /// It was found at a fix that came late.
    pub late: bool,
    /// When the person looked at it, on whatever phone.
    pub seen_at: Option<Timestamp>,
}

/// One place of an inbox; the alert in it may have been deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct Inboxed {
    /// Its place: 1, 2, 3, ... per person.
    pub cursor: i64,
    /// The alert's id.
    pub id: AlertId,
    /// The alert, unless deleted.
    pub alert: Option<Alert>,
}

/// How far an alert has come to one person; it only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Stored for them.
    Queued,
    /// A socket or provider took it.
    Sent,
    /// Their app has it.
    Received,
    /// They looked at it.
    Seen,
}

impl DeliveryState {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Seen => "seen",
        }
    }
    /// From [`DeliveryState::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Queued, Self::Sent, Self::Received, Self::Seen].into_iter().find(|s| s.word() == word)
    }
}

/// What an app may say of an alert; the other states are the server's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckState {
    /// The app has it.
    Received,
    /// The person looked at it.
    Seen,
}

impl From<AckState> for DeliveryState {
    fn from(state: AckState) -> Self {
        match state {
            AckState::Received => Self::Received,
            AckState::Seen => Self::Seen,
        }
    }
}

/// How far an alert of an emergency has come to one contact, with the time of each step.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// To whom.
    pub recipient: UserId,
    /// Which alert.
    pub alert: AlertId,
    /// When it was stored.
    pub queued_at: Timestamp,
    /// When a socket or provider took it.
    pub sent_at: Option<Timestamp>,
    /// When their app had it.
    pub received_at: Option<Timestamp>,
    /// When they looked at it.
    pub seen_at: Option<Timestamp>,
}

impl Delivery {
    /// How far it had come at `at`, and when it got there.
    pub fn state_at(&self, at: Timestamp) -> (DeliveryState, Timestamp) {
        let steps = [
            (DeliveryState::Seen, self.seen_at),
            (DeliveryState::Received, self.received_at),
            (DeliveryState::Sent, self.sent_at),
        ];
        let reached =
            steps.into_iter().find_map(|(state, when)| when.filter(|w| *w <= at).map(|w| (state, w)));
        reached.unwrap_or((DeliveryState::Queued, self.queued_at))
    }
}

/// An alert frame: the same on a socket and in `GET /v1/alerts`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename = "alert")]
pub struct AlertView {
    /// Dedupe by it.
    pub id: AlertId,
    /// Its place in the inbox; absent if it came ahead of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<i64>,
    /// The alert was deleted; its place stays.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// What it says.
    #[serde(flatten)]
    pub content: Option<AlertContent>,
}

/// Written by hand because no derive knows that a struct writes a tag, or that content and `gone` exclude each other.
impl PartialSchema for AlertView {
    fn schema() -> RefOr<Schema> {
        let cursor = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(1))
            .description(Some("Its place in the inbox; absent if it came ahead of it."));
        let place: Object = ObjectBuilder::new()
            .property("type", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["alert"])))
            .required("type")
            .property("id", Ref::from_schema_name(AlertId::name()))
            .required("id")
            .property("cursor", cursor)
            .build();
        let content = Ref::from_schema_name(AlertContent::name());
        let there = AllOfBuilder::new().item(place.clone()).item(content);
        let gone = ObjectBuilder::from(place)
            .required("cursor")
            .property("gone", ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])))
            .required("gone")
            .description(Some("The alert was deleted; its place stays."));
        let described = "An alert frame: the same on a socket and in `GET /v1/alerts`. Dedupe by `id`.";
        OneOfBuilder::new().item(there).item(gone).description(Some(described)).into()
    }
}

impl ToSchema for AlertView {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((AlertId::name().into(), AlertId::schema()));
        schemas.push((AlertContent::name().into(), AlertContent::schema()));
        AlertContent::schemas(schemas);
    }
}

/// What an alert says.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct AlertContent {
    /// What it is about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about.
    pub subject: UserId,
    /// Their name.
    pub subject_name: String,
    /// When it happened.
    pub at: Timestamp,
    /// A line for a person.
    pub title: String,
    /// A sentence for a person.
    pub body: String,
    /// The name of the text, for an app that writes its own.
    pub template: String,
    /// What goes into the text.
    pub params: BTreeMap<String, String>,
    /// Its emergency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyId>,
    /// Its fence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geofence: Option<GeofenceId>,
    /// What happened at the fence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transition: Option<Trigger>,
    /// It was found at a fix that came late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<bool>,
    /// When its reader looked at it, on whatever of their phones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
}

impl From<Inboxed> for AlertView {
    fn from(place: Inboxed) -> Self {
        let content = place.alert.map(|a| {
            let (title, body) = text::render(&a.template, &a.subject_name, &a.params);
            AlertContent {
                kind: a.kind,
                severity: a.severity,
                subject: a.subject,
                subject_name: a.subject_name,
                at: a.at,
                title,
                body,
                template: a.template,
                params: a.params,
                emergency: a.emergency,
                geofence: a.geofence,
                transition: a.transition,
                late: a.late.then_some(true),
                seen_at: a.seen_at,
            }
        });
        Self { id: place.id, cursor: Some(place.cursor), gone: content.is_none(), content }
    }
}
