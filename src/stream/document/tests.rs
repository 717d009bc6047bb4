//! The document against the frames that are read and written.

use super::*;
use crate::stream::protocol::ClientFrame;
use std::collections::BTreeSet;

/// Holds a value to the part of JSON Schema that the document uses; says where it differs.
fn differs(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let Some(target) = document.pointer(reference.trim_start_matches('#')) else {
            return Some(format!("{reference} leads nowhere"));
        };
        return differs(document, target, value, at);
    }
    let deeper = |part: &Value| differs(document, part, value, at);
    if let Some(one_of) = schema["oneOf"].as_array() {
        let faults: Vec<_> = one_of.iter().filter_map(deeper).collect();
        let fits = one_of.len() - faults.len();
        return (fits != 1).then(|| format!("{at}: {fits} of oneOf fit: {faults:?}"));
    }
    if let Some(fault) = schema["allOf"].as_array().and_then(|all| all.iter().find_map(deeper)) {
        return Some(fault);
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Some(format!("{at}: {value} is not of {}", schema["enum"]));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |t: &Value| t == kind || (t == "number" && kind == "integer");
    let typed = &schema["type"];
    if !typed.is_null() && !is(typed) && !typed.as_array().is_some_and(|types| types.iter().any(is)) {
        return Some(format!("{at}: {value} is not {typed}"));
    }
    let mut required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(field) = required.find(|field| value.get(field).is_none()) {
        return Some(format!("{at}: {field} is required and not written"));
    }
    let items = value.as_array().into_iter().flatten();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .filter_map(|(name, part)| differs(document, part, value.get(name)?, &format!("{at}.{name}")))
        .chain(items.filter_map(|item| differs(document, &schema["items"], item, at)))
        .next()
}

/// Every property that a schema knows of, through references and compositions.
fn known(document: &Value, schema: &Value) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let target = schema["$ref"].as_str().and_then(|r| document.pointer(r.trim_start_matches('#')));
    let parts = ["oneOf", "allOf"].into_iter().filter_map(|of| schema[of].as_array()).flatten();
    for part in parts.chain(target) {
        names.extend(known(document, part));
    }
    names
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn messages<'a>(document: &'a Value, side: &'a str) -> BTreeMap<&'a str, &'a Value> {
    let all = document["components"]["messages"].as_object().unwrap();
    all.iter().filter_map(|(name, message)| Some((name.strip_prefix(side)?, message))).collect()
}

#[test]
fn each_server_frame_is_written_as_its_schema_says() {
    let document = document();
    let messages = messages(&document, "server.");
    let mut seen = BTreeSet::new();
    for frame in examples::of_server() {
        let written = serde_json::to_value(&frame).unwrap();
        let kind = written["type"].as_str().unwrap();
        let payload = &messages[kind]["payload"];
        assert_eq!(differs(&document, payload, &written, kind), None);
        let known = known(&document, payload);
        let unknown: Vec<_> = written.as_object().unwrap().keys().filter(|k| !known.contains(*k)).collect();
        assert!(unknown.is_empty(), "{kind} writes {unknown:?}");
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen, messages.keys().map(|k| (*k).to_owned()).collect());
    let contract = "welcome acked notes rejected accepted alert emergency watching position token_expires unavailable \
        seen resumed slow_down drain error";
    assert_eq!(seen, words(contract));
}

#[test]
fn each_client_frame_is_read_as_its_schema_says() {
    let document = document();
    let messages = messages(&document, "client.");
    let mut seen = BTreeSet::new();
    for example in examples::of_client() {
        let kind = example["type"].as_str().unwrap();
        assert!(ClientFrame::read(&example.to_string()).is_ok(), "{example} is not read");
        assert_eq!(differs(&document, &messages[kind]["payload"], &example, kind), None);
        seen.insert(kind.to_owned());
        // What a schema requires is what the reader requires; a raise is taken without anything.
        for field in messages[kind]["payload"]["required"].as_array().unwrap() {
            let mut less = example.clone();
            less.as_object_mut().unwrap().remove(field.as_str().unwrap());
            assert!(ClientFrame::read(&less.to_string()).is_err(), "{kind} does without {field}");
        }
    }
    assert_eq!(seen, messages.keys().map(|k| (*k).to_owned()).collect());
    assert_eq!(seen, words("fixes emergency resolve cancel claim ack resume watch unwatch token"));
}

#[test]
fn every_code_that_closes_a_socket_is_told() {
    let document = document();
    let told = document["channels"]["stream"]["x-close-codes"].as_array().unwrap();
    let told: Vec<_> = told.iter().map(|row| (&row["code"], &row["name"], &row["reconnect"])).collect();
    assert_eq!(told.len(), CloseCode::ALL.len());
    assert!(told.contains(&(&json!(4401), &json!("token"), &json!("with a fresh token"))), "{told:?}");
    assert!(
        told.contains(&(&json!(4403), &json!("device_removed"), &json!("never; sign in again"))),
        "{told:?}"
    );
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(|v| check(document, v));
            }
            Value::Array(items) => items.iter().for_each(|v| check(document, v)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
