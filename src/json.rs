//! JSON as clients write it: what stands before it, whole numbers with a point, and what can be read of a text that a
//! stricter reader refuses.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// The largest whole number that a double holds exactly, like all below it.
const EXACT: f64 = 9_007_199_254_740_991.0;
/// Objects inside objects that [`loose`] reads.
const DEEP: usize = 8;

/// The text after a byte order mark, which some clients write before it.
pub fn unmarked(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}

/// The whole number that a JSON number is: `5`, `5.0` and `5e0` are one (JSON Schema 2020-12). Beyond what a double holds
/// exactly nothing is.
pub fn whole(number: &str) -> Option<i64> {
    if let Ok(whole) = number.parse() {
        return Some(whole);
    }
    let double: f64 = serde_json::from_str(number).ok()?;
    let is_whole =
        double.fract() == 0.0 && double.abs() <= EXACT && !(double == 0.0 && double.is_sign_negative());
    is_whole.then_some(double as i64)
}

/// The text with every whole number written as one: a reader of integers then takes `600.0` too.
pub fn whole_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
    while let Some(&c) = json.get(at) {
        match c {
            b'"' => at = end_of_string(json, at),
            b'-' | b'0'..=b'9' => {
                let of_number = |c: &&u8| matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + json[at..].iter().take_while(of_number).count();
                let token = &json[at..end];
                if token.iter().any(|c| matches!(c, b'.' | b'e' | b'E'))
                    && let Some(whole) = str::from_utf8(token).ok().and_then(whole)
                {
                    out.extend_from_slice(&json[copied..at]);
                    out.extend_from_slice(whole.to_string().as_bytes());
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.extend_from_slice(&json[copied..]);
    Cow::Owned(out)
}

/// Behind the string that begins here.
fn end_of_string(json: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(&c) = json.get(at) {
        match c {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// The members of an object, each as it is written; a name may be there twice.
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object; `None` if it is none.
    pub fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Every member in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (&**name, value.get()))
    }

    /// How a member is written that is there once and not null.
    ///
    /// # Errors
    /// [`Twice`] if it is there more than once.
    pub fn get(&self, name: &str) -> Result<Option<&'a str>, Twice> {
        let mut found = self.iter().filter(|(other, _)| *other == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(Twice);
        }
        Ok(first.map(|(_, value)| value).filter(|value| *value != "null"))
    }
}

/// A member is there more than once: which one is meant cannot be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Twice;

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    members.push((name.0, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(All)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// As much of an object as can be read: a member that cannot (a number that no double holds, half a character) is `false`,
/// which nothing takes for a value, and everything else stays. Null if it is no object.
pub fn loose(json: &str) -> Value {
    read_loosely(json, DEEP)
}

fn read_loosely(json: &str, deep: usize) -> Value {
    if let Ok(value) = serde_json::from_str(json) {
        return value;
    }
    let Some(members) = Members::read(json).filter(|_| deep > 0) else { return Value::Null };
    let member = |(name, value): (&str, &str)| match read_loosely(value, deep - 1) {
        Value::Null if value != "null" => (name.to_owned(), Value::Bool(false)),
        read => (name.to_owned(), read),
    };
    Value::Object(members.iter().map(member).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_whole_numbers(json: &str) -> String {
        String::from_utf8(whole_numbers(json.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (written, number) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("5e0", Some(5)),
            ("0.5e1", Some(5)),
            ("-3.000", Some(-3)),
            ("9007199254740991.0", Some(9_007_199_254_740_991)),
            ("9007199254740993.0", None),
            ("5.5", None),
            ("-0.0", None),
            ("1.", None),
            ("1e999", None),
        ] {
            assert_eq!(whole(written), number, "{written}");
        }
        assert_eq!(
            with_whole_numbers(r#"{"a":600.0,"b":[1e3,2.5,-1.0E1],"c":"7.0 \"8.0","d":7}"#),
            r#"{"a":600,"b":[1000,2.5,-10],"c":"7.0 \"8.0","d":7}"#
        );
        assert!(matches!(whole_numbers(br#"{"a":1,"b":2.5}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn what_cannot_be_read_costs_itself_alone() {
        let read = loose(r#"{"kind":"fall","fix":{"lat":48.2,"lon":16.4,"speed_mps":1e999},"x":[1e999]}"#);
        let fix = serde_json::json!({"lat": 48.2, "lon": 16.4, "speed_mps": false});
        assert_eq!(read, serde_json::json!({"kind": "fall", "fix": fix, "x": false}));
        assert_eq!((loose("[1e999]"), loose("nonsense")), (Value::Null, Value::Null));
    }

    #[test]
    fn a_member_that_is_there_twice_is_not_guessed() {
        let members = Members::read(r#"{"a":1,"b":null,"a":2,"c":"x"}"#).unwrap();
        assert_eq!((members.get("a"), members.get("b")), (Err(Twice), Ok(None)));
        assert_eq!((members.get("c"), members.get("d")), (Ok(Some("\"x\"")), Ok(None)));
    }

    proptest! {
        #[test]
        fn any_text_keeps_what_it_says(text in "\\PC{0,200}") {
            let read = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
            let (before, after) = (read(text.as_bytes()), read(&whole_numbers(text.as_bytes())));
            prop_assert_eq!(before.is_some(), after.is_some());
            loose(&text);
        }
    }
}
