//! The AsyncAPI document: what the types of the frames cannot say of themselves, around what they can.

mod examples;
#[cfg(test)]
mod tests;

use super::close::CloseCode;
use super::protocol::{FixesFrame, Plain, PlainFrame};
use crate::alerts::{AlertView, RaiseIn};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

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
    let row = |code: &CloseCode| {
        json!({
            "code": code.number(),
            "name": code.name(),
            "meaning": code.meaning(),
            "reconnect": code.reconnect(),
        })
    };
    CloseCode::ALL.iter().map(row).collect()
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
