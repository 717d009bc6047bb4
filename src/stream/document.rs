//! The AsyncAPI document: what the types of the frames cannot say of themselves, around what they can.

use super::examples;
use super::protocol::{FixesFrame, Plain, PlainFrame};
use crate::alerts::{AlertView, RaiseIn};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Every code that closes a socket: its name, what it means, and whether to come back.
const CLOSE_CODES: &[(u16, &str, &str, &str)] = &[
    (1000, "normal", "The client closed and the server answered.", "when wanted"),
    (1001, "going_away", "One side is leaving.", "at once, with jitter"),
    (1008, "policy", "Ten malformed frames in a minute.", "not before the client is mended"),
    (1009, "too_large", "A frame was over 64 KiB.", "at once, with smaller frames"),
    (1011, "internal", "A fault of the server.", "with backoff and jitter"),
    (
        1012,
        "restart",
        "The node stops or is not ready; `drain` came before if there was time.",
        "with jitter",
    ),
    (4401, "token", "The token is not valid, or its session ended.", "with a fresh token"),
    (4403, "device_removed", "The device was removed.", "never; sign in again"),
    (
        4408,
        "slow_consumer",
        "The client did not read in time.",
        "with backoff; `resume` from the last cursor",
    ),
    (4409, "replaced", "A newer socket of this device sends fixes.", "not while that one is open"),
];

const ABOUT: &str = "One WebSocket is a person's device: it sends fixes and emergencies, and receives alerts, \
    emergencies and positions. `send` and `receive` are the server's: it receives what a client sends.\n\n\
    Frames are JSON in text messages of at most 64 KiB. Clients ignore frames and fields that they do not know; the \
    server refuses unknown fields, except of an `emergency`, which is never refused for its form.\n\n\
    An alert without `cursor` came ahead of the inbox; the same `id` returns with one. Dedupe by `id`; only cursors \
    move the resume point, and per person they have no gaps. Fixes that were not acked are sent again.\n\n\
    The REST calls are in `/openapi.json`.";

const TOKEN: &str = "Give the token as `Authorization: Bearer <token>`, or where headers cannot be set (browsers) as \
    the subprotocol list `cima.v1.json, bearer.<token>`; no subprotocol means JSON. A bad token is refused with 401, \
    or, if it was given as a subprotocol, by closing with 4401; a node that does not serve streams refuses with 421. \
    A distress token sends fixes, raises and ends emergencies, and reads nothing. A socket outlives its token for fixes \
    and emergencies; positions need a current one, given with a `token` frame.";

/// The AsyncAPI 3.0 document of the stream.
pub fn document() -> Value {
    let frames = Frames::all();
    let names = |frames: &BTreeMap<String, Value>| -> Vec<Value> {
        frames.keys().map(|name| json!({"$ref": format!("#/channels/stream/messages/{name}")})).collect()
    };
    let (received, sent) = (names(&frames.of_client), names(&frames.of_server));
    let messages: Map<String, Value> = frames.of_client.into_iter().chain(frames.of_server).collect();
    let listed: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "cima stream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "defaultContentType": "application/json",
        "servers": {"secure": server("wss"), "plain": server("ws")},
        "channels": {"stream": {
            "address": "/v1/stream",
            "title": "A person's device",
            "description": TOKEN,
            "messages": listed,
            "bindings": {"ws": upgrade()},
            "x-close-codes": close_codes(),
        }},
        "operations": {
            "receive": {
                "action": "receive",
                "channel": {"$ref": "#/channels/stream"},
                "summary": "What a client sends.",
                "messages": received,
            },
            "send": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "summary": "What the server sends.",
                "messages": sent,
            },
        },
        "components": {
            "messages": messages,
            "schemas": frames.schemas,
            "securitySchemes": security_schemes(),
        },
    })
}

fn server(protocol: &str) -> Value {
    let schemes = ["access", "distress", "subprotocol"];
    json!({
        "host": "{host}",
        "protocol": protocol,
        "protocolVersion": "13",
        "variables": {"host": {"description": "Any node.", "default": "127.0.0.1:8080"}},
        "security": schemes.map(|s| json!({"$ref": format!("#/components/securitySchemes/{s}")})),
    })
}

/// The request that opens a socket (AsyncAPI's WebSockets binding).
fn upgrade() -> Value {
    let header = |described: &str, example: &str| json!({"type": "string", "description": described, "examples": [example]});
    json!({
        "method": "GET",
        "headers": {"type": "object", "properties": {
            "Authorization": header("An access or distress token.", "Bearer <token>"),
            "Sec-WebSocket-Protocol": header(
                "What the frames are written in, and a token if there is no `Authorization`.",
                "cima.v1.json, bearer.<token>",
            ),
        }},
        "bindingVersion": "0.1.0",
    })
}

fn security_schemes() -> Value {
    let bearer = |described: &str| json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": described});
    json!({
        "access": bearer("The access token of a session; 15 minutes."),
        "distress": bearer("The distress token of a device; 180 days. Reads nothing."),
        "subprotocol": {
            "type": "httpApiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": "`cima.v1.json, bearer.<token>` with either token.",
        },
    })
}

fn close_codes() -> Vec<Value> {
    let row = |(code, name, meaning, reconnect): &(u16, &str, &str, &str)| json!({"code": code, "name": name, "meaning": meaning, "reconnect": reconnect});
    CLOSE_CODES.iter().map(row).collect()
}

/// The messages of both directions, by name, and the schemas they refer to.
#[derive(Default)]
struct Frames {
    of_client: BTreeMap<String, Value>,
    of_server: BTreeMap<String, Value>,
    schemas: BTreeMap<String, Value>,
}

impl Frames {
    fn all() -> Self {
        let mut all = Self::default();
        let fixes = tagged("fixes", all.schema::<FixesFrame<'_>>());
        let raise = tagged("emergency", all.schema::<RaiseIn>());
        let plain = variants(all.schema::<Plain>());
        let client = [("fixes".to_owned(), fixes), ("emergency".to_owned(), raise)];
        let examples = by_type(examples::of_client());
        for (kind, payload) in client.into_iter().chain(plain) {
            all.of_client.insert(format!("client.{kind}"), message(&kind, payload, &examples));
        }
        let plain = variants(all.schema::<PlainFrame>());
        let alert = ("alert".to_owned(), all.schema::<AlertView>());
        let written = examples::of_server().into_iter().map(|f| json!(f));
        let examples = by_type(written.collect());
        for (kind, payload) in plain.into_iter().chain([alert]) {
            all.of_server.insert(format!("server.{kind}"), message(&kind, payload, &examples));
        }
        all
    }

    /// The schema of a type; what it refers to is kept.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut referred: Vec<(String, RefOr<Schema>)> = Vec::new();
        T::schemas(&mut referred);
        self.schemas.extend(referred.into_iter().map(|(name, schema)| (name, json!(schema))));
        json!(<T as PartialSchema>::schema())
    }
}

/// The variants of a tagged enum, by tag.
fn variants(mut schema: Value) -> Vec<(String, Value)> {
    let Value::Array(variants) = schema["oneOf"].take() else { return Vec::new() };
    let tag = |variant: &Value| variant["properties"]["type"]["enum"][0].as_str().map(str::to_owned);
    variants.into_iter().filter_map(|variant| Some((tag(&variant)?, variant))).collect()
}

/// The schema of a struct with the tag that tells its frame from others.
fn tagged(kind: &str, mut schema: Value) -> Value {
    schema["properties"]["type"] = json!({"type": "string", "enum": [kind]});
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let others = required.into_iter().filter(|field| field != "type");
    schema["required"] = others.chain([json!("type")]).collect();
    schema
}

fn by_type(examples: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut sorted = BTreeMap::<String, Vec<Value>>::new();
    for example in examples {
        let kind = example["type"].as_str().unwrap_or_default().to_owned();
        sorted.entry(kind).or_default().push(json!({"payload": example}));
    }
    sorted
}

fn message(kind: &str, payload: Value, examples: &BTreeMap<String, Vec<Value>>) -> Value {
    json!({
        "name": kind,
        "title": kind,
        "summary": payload["description"],
        "payload": payload,
        "examples": examples.get(kind),
    })
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ClientFrame;
    use super::*;
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
            let unknown: Vec<_> =
                written.as_object().unwrap().keys().filter(|k| !known.contains(*k)).collect();
            assert!(unknown.is_empty(), "{kind} writes {unknown:?}");
            seen.insert(kind.to_owned());
        }
        assert_eq!(seen, messages.keys().map(|k| (*k).to_owned()).collect());
        let contract = "welcome acked rejected accepted alert emergency position unavailable resumed slow_down drain \
            error";
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
        let sources = [include_str!("actor.rs"), include_str!("upgrade.rs")].concat();
        let after = |start: &str| -> Vec<u16> {
            let rest = sources.split(start).skip(1);
            rest.filter_map(|r| r.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
        };
        let used = [after("Ended::Close("), after("CloseFrame { code: ")].concat();
        assert!(used.len() >= 8, "{used:?}");
        for code in used {
            assert!(CLOSE_CODES.iter().any(|(c, ..)| *c == code), "{code} is not in the document");
        }
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
}
