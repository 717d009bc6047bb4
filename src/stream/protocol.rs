//! The frames of a stream, as the contract names them.

use crate::alerts::{AlertView, DeliveryState, EmergencyView, Note, State};
use crate::clock::Timestamp;
use crate::geo::{Fix, FixRefusal, RawFix};
use crate::id::{AlertId, DeviceId, EmergencyId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// Fixes of one frame, at most.
pub(super) const MAX_FIXES: usize = 200;

/// A frame from a client.
pub enum ClientFrame {
    /// Fixes, each read or refused on its own.
    Fixes(Vec<Result<RawFix, (Option<i64>, FixRefusal)>>),
    /// A raise; never refused for its form.
    Emergency(Value),
    /// An end of one's own emergency.
    End(End),
    /// A contact is on it.
    Claim(EmergencyId),
    /// An alert has arrived, or was looked at.
    Ack(AlertId, DeliveryState),
    /// Replay the inbox after this cursor.
    Resume(i64),
    /// Positions of somebody, from now on.
    Watch(UserId),
    /// No more of them.
    Unwatch(UserId),
    /// A fresh access token.
    Token(String),
}

/// What ends an emergency.
pub struct End {
    /// Which.
    pub emergency: EmergencyId,
    /// Whether as resolved (or as cancelled).
    pub resolve: bool,
    /// The PIN, if given.
    pub pin: Option<String>,
}

/// Why a frame could not be taken; the client is told.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError {
    /// A stable word.
    pub code: &'static str,
    /// The same for a person.
    pub detail: String,
}

fn malformed(detail: impl Into<String>) -> FrameError {
    FrameError { code: "invalid_request", detail: detail.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixesFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    fixes: Vec<RawFix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LooseFixesFrame<'a> {
    #[serde(rename = "type", borrow)]
    _kind: Cow<'a, str>,
    #[serde(borrow)]
    fixes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Plain {
    Resolve { emergency: EmergencyId, pin: Option<String> },
    Cancel { emergency: EmergencyId, pin: Option<String> },
    Claim { emergency: EmergencyId },
    Ack { alert: AlertId, state: DeliveryState },
    Resume { cursor: i64 },
    Watch { user: UserId },
    Unwatch { user: UserId },
    Token { access_token: String },
}

impl ClientFrame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is no frame of the contract. A raise is one whatever else is in it.
    pub fn read(text: &str) -> Result<Self, FrameError> {
        // serde would also read a frame from an array of its fields in their order, which no contract promises.
        if !text.trim_start().starts_with('{') {
            return Err(malformed("not a frame: a JSON object"));
        }
        // The frame that comes a thousand times a second is tried first, in one pass.
        if let Ok(frame) = serde_json::from_str::<FixesFrame<'_>>(text)
            && frame.kind == "fixes"
        {
            return counted(frame.fixes.into_iter().map(Ok).collect());
        }
        let kind = match serde_json::from_str::<Kind<'_>>(text) {
            Ok(Kind { kind }) => kind,
            Err(error) => return Err(malformed(format!("not a frame: {error}"))),
        };
        match &*kind {
            "emergency" => {
                // The kind was read, so the text is JSON but for a number that no float holds.
                Ok(Self::Emergency(serde_json::from_str(text).unwrap_or(Value::Null)))
            }
            "fixes" => {
                let loose = serde_json::from_str::<LooseFixesFrame<'_>>(text);
                let loose = loose.map_err(|e| malformed(format!("fixes: {e}")))?;
                counted(loose.fixes.into_iter().map(|fix| read_fix(fix.get())).collect())
            }
            "resolve" | "cancel" | "claim" | "ack" | "resume" | "watch" | "unwatch" | "token" => {
                let plain = serde_json::from_str::<Plain>(text);
                let plain = plain.map_err(|e| malformed(format!("{kind}: {e}")))?;
                Ok(match plain {
                    Plain::Resolve { emergency, pin } => Self::End(End { emergency, resolve: true, pin }),
                    Plain::Cancel { emergency, pin } => Self::End(End { emergency, resolve: false, pin }),
                    Plain::Claim { emergency } => Self::Claim(emergency),
                    Plain::Ack { alert, state } => Self::Ack(alert, state),
                    Plain::Resume { cursor } => Self::Resume(cursor),
                    Plain::Watch { user } => Self::Watch(user),
                    Plain::Unwatch { user } => Self::Unwatch(user),
                    Plain::Token { access_token } => Self::Token(access_token),
                })
            }
            other => {
                Err(FrameError { code: "unknown_type", detail: format!("no frame is called {other:.32}") })
            }
        }
    }
}

fn counted(fixes: Vec<Result<RawFix, (Option<i64>, FixRefusal)>>) -> Result<ClientFrame, FrameError> {
    if (1..=MAX_FIXES).contains(&fixes.len()) {
        Ok(ClientFrame::Fixes(fixes))
    } else {
        Err(malformed(format!("a frame has 1 to {MAX_FIXES} fixes")))
    }
}

/// Reads one fix; a refused one still says its number, if it has one.
fn read_fix(json: &str) -> Result<RawFix, (Option<i64>, FixRefusal)> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: i64,
    }
    RawFix::read(json)
        .map_err(|refusal| (serde_json::from_str::<Numbered>(json).ok().map(|n| n.seq), refusal))
}

/// A frame to a client.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ServerFrame {
    /// All but alerts, which carry their own type.
    Plain(Box<PlainFrame>),
    /// An alert.
    Alert(Box<AlertView>),
}

impl From<PlainFrame> for ServerFrame {
    fn from(frame: PlainFrame) -> Self {
        Self::Plain(Box::new(frame))
    }
}

/// A frame to a client, but for alerts.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PlainFrame {
    /// First of all.
    Welcome {
        /// This socket's name in logs.
        session: Uuid,
        /// The server's time.
        now: Timestamp,
        /// Newest durable streamed fix of this device.
        last_seq: i64,
        /// Head of the inbox.
        cursor: i64,
        /// Unacked fixes allowed.
        window: usize,
        /// Seconds between pings.
        heartbeat_s: u64,
    },
    /// Every fix sent with `seq <= n` is on disk or was rejected.
    Acked {
        /// Up to.
        seq: i64,
    },
    /// A fix that was refused.
    Rejected {
        /// Its number, if it could be read.
        seq: Option<i64>,
        /// Why.
        code: &'static str,
    },
    /// Answers every emergency frame.
    Accepted {
        /// The id it was raised with.
        id: EmergencyId,
        /// The emergency it is, or joined.
        emergency: EmergencyId,
        /// Where that stands.
        state: State,
        /// Durable copies now.
        copies: u8,
        /// Durable copies there can be.
        copies_max: u8,
        /// Raises that joined the open one.
        #[serde(skip_serializing_if = "Option::is_none")]
        joined: Option<Vec<EmergencyId>>,
        /// What could not be used.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        notes: Vec<Note>,
    },
    /// An emergency changed.
    Emergency {
        /// As the person of this socket sees it.
        emergency: EmergencyView,
    },
    /// Where somebody is.
    Position {
        /// Who.
        user: UserId,
        /// Which of their devices.
        device: DeviceId,
        /// Where and when.
        fix: Fix,
        /// Why it may be seen.
        basis: &'static str,
    },
    /// The grant ended or never was.
    Unavailable {
        /// Whose.
        user: UserId,
    },
    /// The replay is over.
    Resumed {
        /// Whether nothing is missing.
        complete: bool,
    },
    /// The node is stopping.
    Drain {
        /// Reconnect after so many seconds.
        after_s: u64,
    },
    /// A frame could not be taken.
    Error {
        /// A stable word.
        code: &'static str,
        /// The same for a person.
        detail: String,
        /// The emergency it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        emergency: Option<EmergencyId>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(text: &str) -> &'static str {
        ClientFrame::read(text).err().map_or("taken", |e| e.code)
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#"{"type":5}"#,
            r#"{"type":"fixes","fixes":[]}"#,
            r#"{"type":"fixes"}"#,
            r#"{"type":"fixes","fixes":[],"x":1}"#,
            r#"{"type":"watch"}"#,
            r#"{"type":"watch","user":"me"}"#,
            r#"{"type":"resume","cursor":1,"x":1}"#,
            r#"{"type":"fixes","fixes":[{"lat":NaN}]}"#,
        ] {
            assert_eq!(code(text), "invalid_request", "{text}");
        }
        assert_eq!(code(r#"{"type":"dance"}"#), "unknown_type");
        assert_eq!(code(r#"{"type":"resume","cursor":1}"#), "taken");
    }

    #[test]
    fn a_raise_is_taken_whatever_is_in_it() {
        for text in [r#"{"type":"emergency"}"#, r#"{"id":[],"type":"emergency","fix":1e999,"zz":{}}"#] {
            assert!(matches!(ClientFrame::read(text), Ok(ClientFrame::Emergency(_))), "{text}");
        }
    }

    #[test]
    fn a_bad_fix_does_not_spoil_its_frame() {
        let text = r#"{"type":"fixes","fixes":[{"seq":1,"lat":1,"lon":1,"fixed_at":"2026-01-01T00:00:00Z"},
            {"seq":2,"lat":"x"},{"seq":3,"lat":1e999,"lon":1,"fixed_at":"2026-01-01T00:00:00Z"},7]}"#;
        let Ok(ClientFrame::Fixes(fixes)) = ClientFrame::read(text) else { panic!("not taken") };
        let codes: Vec<_> = fixes.iter().map(|f| f.as_ref().err().map(|(seq, r)| (*seq, r.code()))).collect();
        let expected = [
            None,
            Some((Some(2), "invalid_fix")),
            Some((Some(3), "not_finite")),
            Some((None, "invalid_fix")),
        ];
        assert_eq!(codes, expected);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,300}") {
            let _ = ClientFrame::read(&text);
        }
        #[test]
        fn no_bent_frame_is_a_panic(at in 0..120_usize, byte in any::<char>()) {
            let frame = r#"{"type":"fixes","fixes":[{"seq":1,"lat":48.2,"lon":16.3,"fixed_at":"2026-01-01T00:00:00Z","battery":0.5}]}"#;
            let mut chars: Vec<char> = frame.chars().collect();
            let at = at.min(chars.len() - 1);
            chars[at] = byte;
            let _ = ClientFrame::read(&chars.into_iter().collect::<String>());
        }
    }
}
