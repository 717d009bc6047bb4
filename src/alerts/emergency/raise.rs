//! Reading a raise. It is never refused for its form: what cannot be read is left out and named in a note.

use super::EmergencyKind;
use crate::clock::Timestamp;
use crate::geo::{Fix, Note, RawFix, salvage};
use crate::id::EmergencyId;
use serde_json::Value;
use std::time::Duration;

/// A countdown longer than this is cut to it.
const MAX_COUNTDOWN_S: f64 = 300.0;
/// A message longer than this is cut.
const MAX_MESSAGE: usize = 1_000;

/// What a phone gives to raise; every field may be left out, and unknown ones are ignored. It documents what
/// [`Raise::read`] reads field by field.
#[derive(utoipa::ToSchema)]
pub struct RaiseIn {
    /// Made by the phone, so that a repeat is the same emergency.
    pub id: Option<EmergencyId>,
    /// `sos` if absent, `other` if unknown.
    pub kind: Option<EmergencyKind>,
    /// In the person's own words; cut at 1,000 characters.
    pub message: Option<String>,
    /// Where. The place is kept whatever else is wrong, at `now` if its time cannot be used; what was left out or replaced is
    /// named in `notes`.
    pub fix: Option<RawFix>,
    /// Contacts are told after so long, seconds; at most 300.
    #[schema(minimum = 0, maximum = 300)]
    pub countdown_s: Option<f64>,
}

/// A raise as far as it could be read.
#[derive(Clone, PartialEq, Debug)]
pub struct Raise {
    /// The phone's id for it.
    pub id: Option<EmergencyId>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// In the person's own words.
    pub message: Option<String>,
    /// Where.
    pub fix: Option<Fix>,
    /// Whether the fix has a number of its own and belongs into the track.
    pub fix_is_numbered: bool,
    /// How long contacts are not told yet.
    pub countdown: Duration,
    /// What could not be used.
    pub notes: Vec<Note>,
}

impl Raise {
    /// Reads what can be read.
    pub fn read(body: &Value, now: Timestamp, retention: Duration) -> Self {
        let mut notes = Vec::new();
        if !body.is_object() {
            notes.push(Note::of("body", "unreadable"));
        }
        let mut note = |field, code| notes.push(Note::of(field, code));
        let id = present(body, "id").and_then(|id| {
            let read = id.as_str().and_then(|text| text.parse().ok());
            if read.is_none() {
                note("id", "not_a_uuid");
            }
            read
        });
        let kind = present(body, "kind").map_or(EmergencyKind::Sos, |kind| {
            kind.as_str().and_then(EmergencyKind::from_word).unwrap_or_else(|| {
                note("kind", "unknown");
                EmergencyKind::Other
            })
        });
        let message = present(body, "message").and_then(|message| match message.as_str() {
            Some(text) => {
                // Not every store keeps a NUL, and none may refuse a raise for it.
                let kept: String = text.chars().filter(|c| *c != '\0').take(MAX_MESSAGE).collect();
                if kept != text {
                    note("message", "cut");
                }
                Some(kept)
            }
            None => {
                note("message", "not_text");
                None
            }
        });
        let countdown_s = present(body, "countdown_s").map_or(0.0, |given| match given.as_f64() {
            Some(s) if (0.0..=MAX_COUNTDOWN_S).contains(&s) => s,
            Some(s) if s > MAX_COUNTDOWN_S => {
                note("countdown_s", "cut");
                MAX_COUNTDOWN_S
            }
            _ => {
                note("countdown_s", "ignored");
                0.0
            }
        });
        let mut fix_is_numbered = false;
        let given = present(body, "fix").map(|fix| salvage(&fix.to_string(), now, retention));
        let fix = given.and_then(|read| match read {
            Ok(read) => {
                fix_is_numbered = read.numbered;
                notes.extend(read.notes);
                // Whatever the device sends afterwards is newer than one that has no number.
                let seq = if read.numbered { read.fix.seq } else { 1 };
                Some(Fix { seq, ..read.fix })
            }
            Err(refusal) => {
                notes.push(Note::of("fix", refusal.code()));
                None
            }
        });
        Self {
            id,
            kind,
            message,
            fix,
            fix_is_numbered,
            countdown: Duration::from_secs_f64(countdown_s),
            notes,
        }
    }
}

fn present<'a>(body: &'a Value, field: &str) -> Option<&'a Value> {
    body.get(field).filter(|v| !v.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

    fn read(body: Value) -> Raise {
        Raise::read(&body, NOW, Duration::from_secs(86_400))
    }
    fn notes(body: Value) -> Vec<(String, &'static str)> {
        read(body).notes.into_iter().map(|n| (n.field.into_owned(), n.code)).collect()
    }
    fn named<const N: usize>(notes: [(&str, &'static str); N]) -> Vec<(String, &'static str)> {
        notes.map(|(field, code)| (field.to_owned(), code)).into()
    }

    #[test]
    fn garbage_is_left_out_and_named() {
        assert_eq!(notes(json!({"kind": "sos", "surprise": 1})), named([]));
        assert_eq!(notes(json!(null)), named([("body", "unreadable")]));
        let all =
            json!({"id": 5, "kind": "dragon", "message": 7, "countdown_s": "x", "fix": {"lat": "north"}});
        let expected = named([
            ("id", "not_a_uuid"),
            ("kind", "unknown"),
            ("message", "not_text"),
            ("countdown_s", "ignored"),
            ("fix", "invalid_fix"),
        ]);
        assert_eq!(notes(all), expected);
        assert_eq!(notes(json!({"fix": {"lat": 91, "lon": 1}})), named([("fix", "out_of_range")]));
        let from_2099 = json!({"fix": {"seq": 1, "lat": 1, "lon": 1, "fixed_at": "2099-01-01T00:00:00Z"}});
        assert_eq!(notes(from_2099.clone()), named([("fixed_at", "in_future")]));
        assert_eq!(read(from_2099).fix.map(|fix| fix.fixed_at), Some(NOW));
        let with_nul = json!({"message": "he\0lp"});
        assert_eq!(notes(with_nul.clone()), named([("message", "cut")]));
        assert_eq!(read(with_nul).message.as_deref(), Some("help"));
    }

    #[test]
    fn a_fix_without_number_and_time_is_one_of_now() {
        let raise = read(json!({"fix": {"lat": 1, "lon": 2, "whatever": []}}));
        assert_eq!(raise.fix.map(|f| f.fixed_at), Some(NOW));
        assert!(!raise.fix_is_numbered);
    }

    proptest! {
        #[test]
        fn no_text_is_refused(text in "\\PC{0,200}") {
            let value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let raise = read(value);
            prop_assert!(raise.countdown <= Duration::from_secs(300));
        }
    }
}
