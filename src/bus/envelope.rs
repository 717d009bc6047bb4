//! The messages between nodes: JSON with a version. A reader ignores fields it does not know, so that nodes of two
//! versions can run side by side; it counts a message of an unknown type and skips it.

use super::{Event, Sealed};
use crate::clock::Timestamp;
use crate::id::{AlertId, DeviceId, EmergencyId, SessionId, UserId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// The version that is written. One that adds fields keeps the number; one that changes a meaning takes the next.
const VERSION: u8 = 1;

/// What one node sends to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// An event for every node.
    Event(Event),
    /// A node has subscribed (again): tell it whom you watch.
    Hello,
    /// The sender watches these people.
    Watching(Vec<UserId>),
}

/// A message with its id and its sender.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The same on every connection that the message takes, so that it is handled once.
    pub(super) id: Uuid,
    /// The sender; a node skips its own messages.
    pub(super) node: Uuid,
    pub(super) event_at: Timestamp,
    /// Counts the sender's messages since it started.
    pub(super) seq: u64,
    pub(super) message: Message,
}

#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    v: u8,
    id: Uuid,
    node: Uuid,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    /// Whom it is about.
    subject: Option<UserId>,
    event_at: Timestamp,
    seq: u64,
    /// The emergency that led to it.
    cause: Option<Uuid>,
    /// Of the request that led to it, once traces cross nodes.
    trace: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    people: Vec<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alert: Option<AlertId>,
    /// When it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    /// The first fix in event order: `fixed_at` and its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<(Timestamp, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

/// Why a message cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is no envelope")]
    Form,
    #[error("its version is not known here")]
    Version,
    #[error("its type is not known here, or lacks what belongs to it")]
    Kind,
}

impl Envelope {
    /// The message as bytes.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut fields = Fields {
            v: VERSION,
            id: self.id,
            node: self.node,
            kind: Cow::Borrowed(""),
            subject: None,
            event_at: self.event_at,
            seq: self.seq,
            cause: None,
            trace: None,
            people: Vec::new(),
            device: None,
            claim: None,
            session: None,
            alert: None,
            at: None,
            from: None,
            sealed: None,
        };
        let kind = match &self.message {
            Message::Event(Event::Inbox(people)) => {
                fields.people = people.to_vec();
                "inbox"
            }
            Message::Event(Event::Seen { user, alert, at }) => {
                (fields.subject, fields.alert, fields.at) = (Some(*user), Some(*alert), Some(*at));
                "seen"
            }
            Message::Event(Event::Emergency { id, people }) => {
                (fields.cause, fields.people) = (Some(id.0), people.to_vec());
                "emergency"
            }
            Message::Event(Event::Visibility { subject }) => {
                fields.subject = Some(*subject);
                "visibility"
            }
            Message::Event(Event::DeviceRemoved(device)) => {
                fields.device = Some(*device);
                "device_removed"
            }
            Message::Event(Event::Streams { user, device, claim }) => {
                fields.subject = Some(*user);
                (fields.device, fields.claim) = (Some(*device), Some(*claim));
                "streams"
            }
            Message::Event(Event::SessionEnded(session)) => {
                fields.session = Some(*session);
                "session_ended"
            }
            Message::Event(Event::Position { subject, sealed }) => {
                fields.subject = Some(*subject);
                fields.sealed = Some(STANDARD_NO_PAD.encode(sealed.bytes()));
                "position"
            }
            Message::Event(Event::FencesChanged { owner }) => {
                fields.subject = Some(*owner);
                "fences_changed"
            }
            Message::Event(Event::TrackedChanged { user }) => {
                fields.subject = Some(*user);
                "tracked_changed"
            }
            Message::Event(Event::FixesRecorded { user, device, from }) => {
                (fields.subject, fields.device, fields.from) = (Some(*user), Some(*device), Some(*from));
                "fixes_recorded"
            }
            Message::Event(Event::Rescheduled) => "rescheduled",
            Message::Event(Event::Resync) => "resync",
            Message::Hello => "hello",
            Message::Watching(people) => {
                fields.people.clone_from(people);
                "watching"
            }
        };
        fields.kind = Cow::Borrowed(kind);
        // Nothing in it can fail to be JSON; were it so, an empty message is unreadable and counted over there.
        serde_json::to_vec(&fields).unwrap_or_default()
    }

    /// Reads a message.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fields: Fields<'_> = serde_json::from_slice(bytes).map_err(|_| Unreadable::Form)?;
        if fields.v != VERSION {
            return Err(Unreadable::Version);
        }
        let message = match fields.kind.as_ref() {
            "inbox" => Message::Event(Event::Inbox(fields.people.into())),
            "seen" => Message::Event(Event::Seen {
                user: fields.subject.ok_or(Unreadable::Kind)?,
                alert: fields.alert.ok_or(Unreadable::Kind)?,
                at: fields.at.ok_or(Unreadable::Kind)?,
            }),
            "emergency" => {
                let id = EmergencyId(fields.cause.ok_or(Unreadable::Kind)?);
                Message::Event(Event::Emergency { id, people: fields.people.into() })
            }
            "visibility" => {
                Message::Event(Event::Visibility { subject: fields.subject.ok_or(Unreadable::Kind)? })
            }
            "device_removed" => Message::Event(Event::DeviceRemoved(fields.device.ok_or(Unreadable::Kind)?)),
            "streams" => {
                let user = fields.subject.ok_or(Unreadable::Kind)?;
                let device = fields.device.ok_or(Unreadable::Kind)?;
                let claim = fields.claim.ok_or(Unreadable::Kind)?;
                Message::Event(Event::Streams { user, device, claim })
            }
            "session_ended" => Message::Event(Event::SessionEnded(fields.session.ok_or(Unreadable::Kind)?)),
            "position" => {
                let subject = fields.subject.ok_or(Unreadable::Kind)?;
                let sealed = fields.sealed.ok_or(Unreadable::Kind)?;
                let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| Unreadable::Kind)?;
                Message::Event(Event::Position { subject, sealed: Sealed::new(sealed) })
            }
            "fences_changed" => {
                Message::Event(Event::FencesChanged { owner: fields.subject.ok_or(Unreadable::Kind)? })
            }
            "tracked_changed" => {
                Message::Event(Event::TrackedChanged { user: fields.subject.ok_or(Unreadable::Kind)? })
            }
            "fixes_recorded" => Message::Event(Event::FixesRecorded {
                user: fields.subject.ok_or(Unreadable::Kind)?,
                device: fields.device.ok_or(Unreadable::Kind)?,
                from: fields.from.ok_or(Unreadable::Kind)?,
            }),
            "rescheduled" => Message::Event(Event::Rescheduled),
            "resync" => Message::Event(Event::Resync),
            "hello" => Message::Hello,
            "watching" => Message::Watching(fields.people),
            _ => return Err(Unreadable::Kind),
        };
        Ok(Self { id: fields.id, node: fields.node, event_at: fields.event_at, seq: fields.seq, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: UserId = UserId(Uuid::from_u128(0xada));
    const BO: UserId = UserId(Uuid::from_u128(0xb0));

    fn event(event: Event) -> Message {
        Message::Event(event)
    }

    /// Every type as version 1 wrote it. These files never change: nodes that wrote them are still running somewhere.
    fn golden_v1() -> Vec<(Message, &'static str)> {
        macro_rules! golden {
            ($name:literal) => {
                include_str!(concat!("../../tests/golden/bus/v1/", $name, ".json"))
            };
        }
        let people = || [ADA, BO].into();
        vec![
            (event(Event::Inbox(people())), golden!("inbox")),
            (
                event(Event::Seen {
                    user: ADA,
                    alert: AlertId(Uuid::from_u128(0xa1)),
                    at: Timestamp::from_unix_ms(1_764_000_000_000),
                }),
                golden!("seen"),
            ),
            (
                event(Event::Emergency { id: EmergencyId(Uuid::from_u128(0xe)), people: people() }),
                golden!("emergency"),
            ),
            (event(Event::Visibility { subject: ADA }), golden!("visibility")),
            (event(Event::DeviceRemoved(DeviceId(Uuid::from_u128(0xd)))), golden!("device_removed")),
            (
                event(Event::Streams { user: ADA, device: DeviceId(Uuid::from_u128(0xd)), claim: 9 }),
                golden!("streams"),
            ),
            (event(Event::SessionEnded(SessionId(Uuid::from_u128(0x5)))), golden!("session_ended")),
            (
                event(Event::Position { subject: ADA, sealed: Sealed::new(b"opaque to the bus".to_vec()) }),
                golden!("position"),
            ),
            (event(Event::FencesChanged { owner: ADA }), golden!("fences_changed")),
            (event(Event::TrackedChanged { user: ADA }), golden!("tracked_changed")),
            (
                event(Event::FixesRecorded {
                    user: ADA,
                    device: DeviceId(Uuid::from_u128(0xd)),
                    from: (Timestamp::from_unix_ms(1_764_000_000_000), 9),
                }),
                golden!("fixes_recorded"),
            ),
            (event(Event::Rescheduled), golden!("rescheduled")),
            (event(Event::Resync), golden!("resync")),
            (Message::Hello, golden!("hello")),
            (Message::Watching(vec![ADA, BO]), golden!("watching")),
        ]
    }

    fn envelope(message: Message) -> Envelope {
        let event_at = Timestamp::from_unix_ms(1_764_000_000_123);
        Envelope { id: Uuid::from_u128(7), node: Uuid::from_u128(0xa), event_at, seq: 42, message }
    }

    #[test]
    fn what_version_1_wrote_is_read() {
        for (message, golden) in golden_v1() {
            let read = Envelope::read(golden.trim_end().as_bytes()).unwrap();
            let expected = envelope(message);
            assert_eq!(
                (read.message, read.id, read.node),
                (expected.message, expected.id, expected.node),
                "{golden}"
            );
            assert_eq!((read.event_at, read.seq), (expected.event_at, expected.seq));
        }
    }

    #[test]
    fn version_1_is_written_as_it_was() {
        for (message, golden) in golden_v1() {
            assert_eq!(String::from_utf8(envelope(message).write()).unwrap(), golden.trim_end());
        }
    }

    #[test]
    fn unknown_fields_are_left_and_unknown_types_named() {
        let text = String::from_utf8(envelope(Message::Hello).write()).unwrap();
        let more = text.replacen('{', r#"{"mood":{"good":[1,2]},"#, 1);
        assert_eq!(Envelope::read(more.as_bytes()).unwrap().message, Message::Hello);
        let newer = text.replacen(r#""v":1"#, r#""v":2"#, 1);
        assert_eq!(Envelope::read(newer.as_bytes()).unwrap_err(), Unreadable::Version);
        let other = text.replacen("hello", "goodbye", 1);
        assert_eq!(Envelope::read(other.as_bytes()).unwrap_err(), Unreadable::Kind);
        let lacking = text.replacen("hello", "position", 1);
        assert_eq!(Envelope::read(lacking.as_bytes()).unwrap_err(), Unreadable::Kind);
        assert_eq!(Envelope::read(b"").unwrap_err(), Unreadable::Form);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_bring_a_reader_down(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
            let _ = Envelope::read(&bytes);
        }
    }
}
