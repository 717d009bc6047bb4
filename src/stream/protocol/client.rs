//! What a client sends.

use crate::alerts::AckState;
use crate::geo::{FixRefusal, RawFix};
use crate::id::{AlertId, EmergencyId, UserId};
use crate::json;
use crate::problem::Code;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Fixes of one frame, at most.
pub(in crate::stream) const MAX_FIXES: usize = 200;

/// A fix as it was given: read, or not.
pub(in crate::stream) type GivenFix = Result<RawFix, Box<UnreadFix>>;

/// A fix that could not be read. While its person's emergency is open its place is looked for all the same.
pub struct UnreadFix {
    /// Its number, if it has one.
    pub(in crate::stream) seq: Option<i64>,
    /// Why.
    pub(in crate::stream) refusal: FixRefusal,
    /// As it was written.
    pub(in crate::stream) text: String,
}

/// A frame from a client.
pub enum ClientFrame {
    /// Fixes, each read or refused on its own.
    Fixes(Vec<GivenFix>),
    /// A raise; never refused for its form.
    Emergency(Value),
    /// An end of one's own emergency.
    End(End),
    /// A contact is on it.
    Claim(EmergencyId),
    /// An alert has arrived, or was looked at.
    Ack(AlertId, AckState),
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
    FrameError { code: Code::InvalidRequest.word(), detail: detail.into() }
}

/// Fixes to store, each taken or refused on its own; answered by `acked` and `rejected`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stream) struct FixesFrame<'a> {
    #[serde(rename = "type", borrow)]
    #[schema(value_type = String)]
    kind: Cow<'a, str>,
    /// 1 to 200, in a frame of at most 64 KiB.
    #[schema(min_items = 1, max_items = 200)]
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

/// The frames of a client that are read strictly.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::stream) enum Plain {
    /// The subject is safe; answered by `accepted`.
    Resolve {
        /// Which: any id it was raised with.
        emergency: EmergencyId,
        /// Needed if one is set.
        pin: Option<String>,
    },
    /// It was no emergency; answered by `accepted`.
    Cancel {
        /// Which: any id it was raised with.
        emergency: EmergencyId,
        /// Needed if one is set.
        pin: Option<String>,
    },
    /// A contact is on it; answered by `accepted`, and everybody with part in it gets its next `emergency` frame.
    Claim {
        /// Which.
        emergency: EmergencyId,
        /// Not needed for a claim.
        #[serde(default, rename = "pin")]
        #[schema(value_type = Option<String>)]
        _pin: Option<serde::de::IgnoredAny>,
    },
    /// An alert has arrived, or was looked at.
    Ack {
        /// Which.
        alert: AlertId,
        /// `received`: the app has it. `seen`: the person looked at it.
        state: AckState,
    },
    /// Replay my inbox after a cursor: its alerts follow, then `resumed`.
    Resume {
        /// The highest cursor this client has kept; 0 for all.
        #[schema(minimum = 0)]
        cursor: i64,
    },
    /// Positions of somebody whose grant allows it: the newest at once, then each as it comes. At most 100 people; a
    /// watch that is refused (`unavailable`) is forgotten.
    Watch {
        /// Whom.
        user: UserId,
    },
    /// No more positions of somebody.
    Unwatch {
        /// Whom.
        user: UserId,
    },
    /// A fresh access token of the same person and device: positions need a current one.
    Token {
        /// From `POST /v1/sessions/refresh`.
        access_token: String,
    },
}

impl ClientFrame {
    /// Whether a text can be a raise or an end, seen without reading it. One whose type is written with escapes is read in
    /// its turn.
    pub(in crate::stream) fn may_be_urgent(text: &str) -> bool {
        ["\"emergency\"", "\"resolve\"", "\"cancel\""].iter().any(|word| text.contains(word))
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is no frame of the contract. A raise is one whatever else is in it.
    pub fn read(text: &str) -> Result<Self, FrameError> {
        let text = text.trim_start_matches('\u{feff}');
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
                Ok(Self::Emergency(json::loose(text)))
            }
            "fixes" => {
                let loose = serde_json::from_str::<LooseFixesFrame<'_>>(text);
                let loose = loose.map_err(|e| malformed(format!("fixes: {e}")))?;
                counted(loose.fixes.into_iter().map(|fix| read_fix(fix.get())).collect())
            }
            "resolve" | "cancel" | "claim" | "ack" | "resume" | "watch" | "unwatch" | "token" => {
                let plain = serde_json::from_slice::<Plain>(&json::whole_numbers(text.as_bytes()));
                let plain = plain.map_err(|e| malformed(format!("{kind}: {e}")))?;
                Ok(match plain {
                    Plain::Resolve { emergency, pin } => Self::End(End { emergency, resolve: true, pin }),
                    Plain::Cancel { emergency, pin } => Self::End(End { emergency, resolve: false, pin }),
                    Plain::Claim { emergency, _pin } => Self::Claim(emergency),
                    Plain::Ack { alert, state } => Self::Ack(alert, state),
                    Plain::Resume { cursor } => Self::Resume(cursor),
                    Plain::Watch { user } => Self::Watch(user),
                    Plain::Unwatch { user } => Self::Unwatch(user),
                    Plain::Token { access_token } => Self::Token(access_token),
                })
            }
            other => Err(FrameError {
                code: Code::UnknownType.word(),
                detail: format!("no frame is called {other:.32}"),
            }),
        }
    }
}

fn counted(fixes: Vec<GivenFix>) -> Result<ClientFrame, FrameError> {
    if (1..=MAX_FIXES).contains(&fixes.len()) {
        Ok(ClientFrame::Fixes(fixes))
    } else {
        Err(malformed(format!("a frame has 1 to {MAX_FIXES} fixes")))
    }
}

/// Reads one fix; a refused one still says its number, if it has one.
fn read_fix(json: &str) -> GivenFix {
    RawFix::read(json).map_err(|refusal| {
        Box::new(UnreadFix { seq: RawFix::number_in(json), refusal, text: json.to_owned() })
    })
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
            r#"{"type":"ack","alert":"01890000-0000-7000-8000-000000000000","state":"sent"}"#,
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
        let codes: Vec<_> = fixes
            .iter()
            .map(|f| f.as_ref().err().map(|unread| (unread.seq, unread.refusal.code())))
            .collect();
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
