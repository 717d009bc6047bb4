//! Text as people type it: passwords, PINs and names from any keyboard.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// A pattern of dots without a dot: it is drawn, and nothing is seen of it.
const BLANK: char = '\u{2800}';

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// The value of a decimal digit of any script.
fn digit(c: char) -> Option<u32> {
    let is_digit = |c: char| category(c) == GeneralCategory::DecimalNumber;
    if !is_digit(c) {
        return c.to_digit(10);
    }
    // Digits stand in runs from 0 to 9, and such runs behind each other (The Unicode Standard, 4.6).
    let before = (1..).take_while(|n| char::from_u32(c as u32 - n).is_some_and(is_digit)).count();
    u32::try_from(before % 10).ok()
}

/// The text with every decimal digit as one of ASCII, and without space around it: a PIN is the same on any keyboard.
pub fn in_ascii_digits(text: &str) -> String {
    let ascii = |c| digit(c).and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c);
    text.trim().chars().map(ascii).collect()
}

/// A password in its one spelling (RFC 8265, the profile `OpaqueString`): composed, and every space as one of ASCII. So it is
/// the same from a system that writes an accent behind its letter.
pub fn password(text: &str) -> String {
    let space = |c| if category(c) == GeneralCategory::SpaceSeparator { ' ' } else { c };
    let spaced: String = text.chars().map(space).collect();
    ComposingNormalizerBorrowed::new_nfc().normalize(&spaced).into_owned()
}

/// Whether a character changes the direction of the text around it.
fn directs(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether something of the text can be seen.
fn is_visible(text: &str) -> bool {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    text.chars().any(|c| {
        let is_drawn = !matches!(
            category(c),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::SpaceSeparator
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::Unassigned
                | GeneralCategory::Surrogate
        );
        is_drawn && !ignorable.contains(c) && c != BLANK
    })
}

/// What a name of `low` to `high` characters may not be, if it is that.
pub fn fault_of_name(name: &str, low: usize, high: usize) -> Option<String> {
    if !(low..=high).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Some(format!("{low} to {high} characters, none of them a control character"));
    }
    if !is_visible(name) {
        return Some("a name that can be seen".to_owned());
    }
    name.chars().any(directs).then(|| "a name without characters that turn the text around it".to_owned())
}

/// A name from before names were looked at, so that it changes nothing of the text around it.
pub fn contained(name: &str) -> String {
    name.chars().filter(|c| !directs(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_the_same_on_any_keyboard() {
        for typed in ["1234", "١٢٣٤", "۱۲۳۴", "１２３４", " 1234\u{a0}", "१२३४", "𝟏𝟐𝟑𝟒", "𝟣𝟤𝟥𝟦"]
        {
            assert_eq!(in_ascii_digits(typed), "1234", "{typed}");
        }
        assert_eq!(in_ascii_digits("0a٩"), "0a9");
    }

    #[test]
    fn a_password_is_the_same_from_any_system() {
        assert_eq!(password("Gru\u{308}ße"), "Grüße");
        assert_eq!(password("\u{1107}\u{1175}"), "비");
        assert_eq!(password("two\u{a0}words "), "two words ");
        assert_ne!(password("Word"), password("word"));
    }

    #[test]
    fn a_name_can_be_seen_and_turns_nothing() {
        for good in ["Ada", "فاطمة", "👩‍👩‍👧‍👦", "{name}", "<b>", "Zoë 2"] {
            assert_eq!(fault_of_name(good, 1, 64), None, "{good}");
        }
        for bad in ["", "   ", "\u{3164}", "\u{200b}", "\u{2800}", "Ada\u{2067}", "home\u{202e}", "a\nb"] {
            assert!(fault_of_name(bad, 1, 64).is_some(), "{}", bad.escape_unicode());
        }
        assert!(fault_of_name(&"x".repeat(65), 1, 64).is_some());
        assert_eq!(contained("Ada\u{2067}"), "Ada");
    }
}
