//! What of a client's word could not be used, and was left out.

use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;

/// Characters of an unknown name that are repeated to the client.
const SHOWN: usize = 40;
/// Notes that are remembered as said; beyond, nothing more is said.
const REMEMBERED: usize = 64;

/// Something that could not be used.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, utoipa::ToSchema)]
pub struct Note {
    /// Which field.
    #[schema(value_type = String)]
    pub field: Cow<'static, str>,
    /// A stable word for what was wrong with it.
    pub code: &'static str,
}

impl Note {
    /// A field of the contract's.
    pub const fn of(field: &'static str, code: &'static str) -> Self {
        Self { field: Cow::Borrowed(field), code }
    }

    /// A member that the contract does not know.
    pub(super) fn unknown(name: &str) -> Self {
        Self { field: Cow::Owned(name.chars().take(SHOWN).collect()), code: "unknown" }
    }
}

/// Notes that were said already: each is said once.
#[derive(Default)]
pub struct Noted(HashSet<Note>);

impl Noted {
    /// Those that were not said before.
    pub fn news(&mut self, notes: Vec<Note>) -> Vec<Note> {
        let mut news = notes;
        news.retain(|note| self.0.len() < REMEMBERED && self.0.insert(note.clone()));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_and_not_without_end() {
        let mut noted = Noted::default();
        let battery = || Note::of("battery", "out_of_range");
        assert_eq!(noted.news(vec![battery(), battery()]), [battery()]);
        assert_eq!(noted.news(vec![battery(), Note::of("battery", "twice")]), [Note::of("battery", "twice")]);
        let many = (0..1_000).map(|n| Note::unknown(&format!("x{n}"))).collect();
        assert_eq!(noted.news(many).len(), REMEMBERED - 2);
    }
}
