//! Every bad input gets its documented answer, and a well-behaved neighbour notices nothing.

use crate::harness::{
    Person, TestNode, frames_until, next_frame, raw, refused_upgrade, send_acked, stream_by_subprotocol,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cima::client::{Api, Heard, Session, Socket, fix, fixes};
use cima::clock::Clock;
use cima::identity::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Somebody else on the same node, whose phone streams all the while.
struct Neighbour {
    socket: Socket,
    clock: Clock,
    sent: i64,
    heard: Vec<Value>,
}

impl Neighbour {
    async fn on(node: &TestNode) -> Self {
        let person = node.person("Neighbour").await;
        let mut socket = person.api.stream(&person.session.access).await.unwrap();
        let heard = vec![next_frame(&mut socket).await];
        Self { socket, clock: node.clock.clone(), sent: 0, heard }
    }
    async fn send(&mut self) {
        self.sent += 1;
        let fix = fix(self.sent, 48.3 + self.sent as f64 * 1e-6, 16.3, self.clock.now());
        self.socket.send(&fixes(&[fix])).await.unwrap();
    }
    async fn listen(&mut self) {
        self.heard.push(next_frame(&mut self.socket).await);
    }
    /// Sends a fix before the abuse and one after it; each has to be acked.
    async fn beside<T>(&mut self, abuse: impl Future<Output = T>) -> T {
        self.send().await;
        let out = abuse.await;
        self.listen().await;
        self.send().await;
        self.listen().await;
        out
    }
    /// Nothing but the welcome and an ack for each fix, in order.
    fn noticed_nothing(&self) {
        assert_eq!(self.heard[0]["type"], "welcome");
        let acks: Vec<Value> =
            (1..=self.sent).map(|seq| json!({"type": "acked", "seq": seq, "ranges": [[seq, seq]]})).collect();
        assert!(self.sent > 0);
        assert_eq!(self.heard[1..], acks);
    }
}

/// A fix as text, so that it can be anything; `at` is when.
fn written(seq: &str, lat: &str, lon: &str, at: &str, more: &str) -> String {
    format!(r#"{{"seq":{seq},"lat":{lat},"lon":{lon},"fixed_at":"{at}"{more}}}"#)
}

/// (a fix that cannot be used, the `seq` the phone is told, the code).
fn bad_fixes(clock: &Clock) -> Vec<(String, Value, &'static str)> {
    let (now, ahead) = (clock.now().to_string(), (clock.now() + Duration::from_secs(180)).to_string());
    let fix = |seq: &str, lat: &str, lon: &str| written(seq, lat, lon, &now, "");
    let with = |seq: &str, more: &str| written(seq, "48.2", "16.4", &now, more);
    let at = |seq: &str, at: &str| written(seq, "48.2", "16.4", at, "");
    vec![
        (fix("1001", "91", "16.4"), json!(1001), "out_of_range"),
        (fix("1002", "-90.0001", "16.4"), json!(1002), "out_of_range"),
        (fix("1003", "48.2", "180.5"), json!(1003), "out_of_range"),
        (with("1005", r#","accuracy_m":-1"#), json!(1005), "out_of_range"),
        (at("1006", "2099-01-01T00:00:00Z"), json!(1006), "in_future"),
        (at("1007", &ahead), json!(1007), "in_future"),
        (at("1008", "2020-01-01T00:00:00Z"), json!(1008), "too_old"),
        (fix("1009", "1e999", "16.4"), json!(1009), "not_finite"),
        (fix("1010", "48.2", "-1e999"), json!(1010), "not_finite"),
        (fix("1011", r#""48.2""#, "16.4"), json!(1011), "invalid_fix"),
        (fix("1012", "null", "16.4"), json!(1012), "invalid_fix"),
        (at("1014", "yesterday"), json!(1014), "invalid_fix"),
        (r#"{"seq":1015,"lat":48.2}"#.into(), json!(1015), "invalid_fix"),
        (with("0", ""), json!(0), "out_of_range"),
        (with("-1", ""), json!(-1), "out_of_range"),
        (with("9007199254740992", ""), json!(9_007_199_254_740_992_i64), "out_of_range"),
        (with(r#""7""#, ""), json!(null), "invalid_fix"),
        (with("1.5", ""), json!(null), "invalid_fix"),
        ("7".into(), json!(null), "invalid_fix"),
        ("null".into(), json!(null), "invalid_fix"),
        (format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)), json!(null), "invalid_fix"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_that_cannot_be_true_is_refused_by_number_and_costs_no_other() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let mut phone = ada.stream().await;
    let first = fix(1, 48.2, 16.4, node.now() - Duration::from_secs(60));
    send_acked(&mut phone, std::slice::from_ref(&first)).await;
    let mut bad = bad_fixes(&node.clock);
    bad.push((fix(1, 48.2, 16.4, node.now()).to_string(), json!(1), "seq_conflict"));

    // On the stream each bad fix shares its frame with a good one, which is acked.
    let mut good = 2_000;
    for (text, seq, code) in &bad {
        good += 1;
        let frame = format!(
            r#"{{"type":"fixes","fixes":[{text},{}]}}"#,
            written(&good.to_string(), "48.2", "16.4", &node.now().to_string(), "")
        );
        let abuse = async {
            phone.send_text(frame).await.unwrap();
            let last = |f: &Value| f["type"] == "acked" && f["seq"].as_i64() >= Some(good);
            frames_until(&mut phone, last).await
        };
        let heard = neighbour.beside(abuse).await;
        let rejected = json!({"type": "rejected", "seq": seq, "code": code});
        assert_eq!(
            heard,
            [rejected, json!({"type": "acked", "seq": good, "ranges": [[good, good]]})],
            "{text:.100}"
        );
    }
    // Alone in its frame it is told, and acked as far as its number goes.
    phone.send_text(format!(r#"{{"type":"fixes","fixes":[{}]}}"#, bad[0].0)).await.unwrap();
    let alone = frames_until(&mut phone, |f| f["type"] == "acked").await;
    assert_eq!(alone[0]["type"], "rejected");

    // Over REST the same fixes get the same codes.
    let texts: Vec<&str> = bad.iter().map(|(text, _, _)| text.as_str()).collect();
    let body = format!(r#"{{"fixes":[{first},{}]}}"#, texts.join(","));
    let answer = neighbour.beside(ada.raw("POST", "/v1/locations", body)).await;
    let rejected: Vec<Value> = bad.iter().map(|(_, seq, code)| json!({"seq": seq, "code": code})).collect();
    // The last of them has the number of the first fix of all, which is a duplicate itself.
    assert_eq!(
        answer.json(),
        json!({"accepted": 0, "duplicates": 1, "rejected": rejected}),
        "{}",
        answer.text
    );

    let track = ada.get(&format!("/v1/people/{}/track", ada.id())).await.ok().unwrap();
    let stored: Vec<i64> = track["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["properties"]["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(stored, std::iter::once(1).chain(2_001..=good).collect::<Vec<_>>());
    assert_eq!(track["features"][0]["properties"]["fixed_at"], first["fixed_at"], "the first time stands");
    neighbour.noticed_nothing();
}

/// What a socket says to one frame.
async fn said_to(socket: &mut Socket, text: String) -> Vec<Value> {
    socket.send_text(text).await.unwrap();
    // An empty inbox is replayed with one frame.
    socket.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    let mut frames = frames_until(socket, |f| f["type"] == "resumed").await;
    frames.pop();
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_frame_is_answered_and_ten_close_the_socket() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let many =
        |n: i64| fixes(&(1..=n).map(|seq| fix(seq, 48.2, 16.4, node.now())).collect::<Vec<_>>()).to_string();
    let whole = many(1);
    let frames = [
        (whole[..whole.len() - 9].to_owned(), "invalid_request"),
        (whole.replace("48.2", "NaN"), "invalid_request"),
        (whole.replace("48.2", "Infinity"), "invalid_request"),
        (whole.replacen('{', r#"{"surprise":1,"#, 1), "invalid_request"),
        (many(0), "invalid_request"),
        (many(201), "invalid_request"),
        (String::new(), "invalid_request"),
        ("[]".into(), "invalid_request"),
        (format!(r#"["fixes",[{}]]"#, fix(1, 48.2, 16.4, node.now())), "invalid_request"),
        (r#"["emergency"]"#.into(), "invalid_request"),
        ("[".repeat(60_000), "invalid_request"),
        (r#"{"fixes":[]}"#.into(), "invalid_request"),
        (r#"{"type":"watch","user":"somebody"}"#.into(), "invalid_request"),
        (r#"{"type":"ack","alert":7,"state":"read"}"#.into(), "invalid_request"),
        (r#"{"type":"resume","cursor":"0"}"#.into(), "invalid_request"),
        (r#"{"type":"claim","emergency":"x"}"#.into(), "invalid_request"),
        (r#"{"type":"dance"}"#.into(), "unknown_type"),
    ];
    for (text, code) in frames {
        let mut socket = ada.stream().await;
        let heard = neighbour.beside(said_to(&mut socket, text.clone())).await;
        let codes: Vec<(&str, &str)> = heard
            .iter()
            .map(|f| (f["type"].as_str().unwrap(), f["code"].as_str().unwrap_or_default()))
            .collect();
        assert_eq!(codes, [("error", code)], "{text:.100}");
        assert!(heard[0]["detail"].is_string());
    }

    let mut socket = ada.stream().await;
    socket.send_bytes(vec![0, 159, 146, 150, 255]).await.unwrap();
    assert_eq!(neighbour.beside(next_frame(&mut socket)).await["type"], "error", "a binary frame");
    let ten = async {
        let mut answers = Vec::new();
        for n in 1..10 {
            socket.send_text(format!("nonsense {n}")).await.unwrap();
            answers.push(next_frame(&mut socket).await["code"].clone());
        }
        (answers, socket.wait_closed().await.unwrap())
    };
    assert_eq!(neighbour.beside(ten).await, (vec![json!("invalid_request"); 9], 1008));

    // What was refused left nothing behind.
    let track = ada.get(&format!("/v1/people/{}/track", ada.id())).await.ok().unwrap();
    assert_eq!(track["features"], json!([]));
    neighbour.noticed_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_64_kib_closes_with_1009() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let padded = |bytes: usize| {
        let frame = r#"{"type":"resume","cursor":0}"#;
        frame.to_owned() + &" ".repeat(bytes - frame.len())
    };
    let mut socket = ada.stream().await;
    socket.send_text(padded(64 * 1024)).await.unwrap();
    socket.wait("resumed").await.unwrap();
    socket.send_text(padded(64 * 1024 + 1)).await.unwrap();
    assert_eq!(neighbour.beside(socket.wait_closed()).await.unwrap(), 1009);
    for megabyte in [padded(1_000_000), "x".repeat(1_000_000)] {
        let mut socket = ada.stream().await;
        socket.send_text(megabyte).await.unwrap();
        assert_eq!(neighbour.beside(socket.wait_closed()).await.unwrap(), 1009);
    }
    let mut socket = ada.stream().await;
    socket.send_bytes(vec![7; 1_000_000]).await.unwrap();
    assert_eq!(neighbour.beside(socket.wait_closed()).await.unwrap(), 1009);
    neighbour.noticed_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_http_cost_only_their_own_connection() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let addr = node.node.as_ref().unwrap().addr;
    let upgrade = "GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n";
    for bytes in
        [b"\x16\x03\x01\x02\x00garbage\r\n\r\n".as_slice(), b"GET / HTTP/9.9\r\n\r\n", upgrade.as_bytes()]
    {
        let abuse = async {
            let mut tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
            tcp.write_all(bytes).await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // The server may break off, which is an answer too.
            let _ = tokio::time::timeout(cima::client::DEADLINE, tcp.read_to_end(&mut answer)).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = neighbour.beside(abuse).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    neighbour.noticed_nothing();
}

fn polygon(ring: &Value) -> String {
    let shape = json!({"type": "Polygon", "coordinates": [ring]});
    json!({"name": "home", "shape": shape, "triggers": ["enter"]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_or_query_is_refused_with_the_field_named() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let square = json!([[16, 48], [17, 48], [17, 49], [16, 49], [16, 48]]);
    let good = polygon(&square);
    let vertex = |n: usize| {
        let (sin, cos) = (n as f64 / 99_999.0 * std::f64::consts::TAU).sin_cos();
        json!([10.0 + cos, 10.0 + sin])
    };
    let mut huge: Vec<Value> = (0..99_999).map(vertex).collect();
    huge.push(huge[0].clone());
    let fence = "/v1/geofences";
    let me = ("PATCH", "/v1/me");
    // (method, path, body, the field that is named, its code)
    let cases: Vec<(&str, &str, String, &str, &str)> = vec![
        ("POST", fence, good[..good.len() - 7].into(), "", ""),
        ("POST", fence, String::new(), "", ""),
        ("POST", fence, "[".repeat(20_000) + &"]".repeat(20_000), "body", ""),
        (
            "POST",
            fence,
            r#"{"shape":{"type":"Polygon","coordinates":"#.to_owned() + &"[".repeat(20_000),
            "",
            "",
        ),
        ("POST", "/v1/links", r#"["bo",["alerts"]]"#.into(), "body", ""),
        ("POST", "/v1/links", r#"{"contact":"bo""#.into(), "", ""),
        ("POST", "/v1/locations", r#"{"fixes":[{"#.into(), "", ""),
        ("POST", "/v1/accounts", "\u{0}".into(), "", ""),
        ("POST", fence, good.replacen('{', r#"{"surprise":1,"#, 1), "surprise", ""),
        ("POST", fence, good.replacen(r#""type""#, r#""colour":1,"type""#, 1), "shape.colour", ""),
        ("POST", "/v1/locations", r#"{"fixes":[],"surprise":1}"#.into(), "surprise", ""),
        ("POST", "/v1/links", r#"{"contact":"bo","scopes":["alerts"],"surprise":1}"#.into(), "surprise", ""),
        ("POST", "/v1/links", r#"{"contact":"bo","scopes":["everything"]}"#.into(), "scopes[0]", ""),
        ("POST", "/v1/links", r#"{"contact":"bo","scopes":[]}"#.into(), "scopes", ""),
        (me.0, me.1, r#"{"handle":"other"}"#.into(), "handle", ""),
        (me.0, me.1, r#"{"display_name":""}"#.into(), "display_name", ""),
        (me.0, me.1, r#"{"retention_s":1}"#.into(), "retention_s", ""),
        (me.0, me.1, r#"{"pin":"12"}"#.into(), "pin", ""),
        ("POST", fence, good.replace("enter", "levitate"), "triggers[0]", ""),
        ("POST", fence, good.replace(r#""name":"home","#, ""), "name", ""),
        ("POST", fence, polygon(&json!(huge)), "shape.coordinates", "too_many_vertices"),
        (
            "POST",
            fence,
            polygon(&json!([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]])),
            "shape.coordinates[0][0]",
            "self_crossing",
        ),
        (
            "POST",
            fence,
            polygon(&json!([[0, 0], [181, 0], [1, 1], [0, 0]])),
            "shape.coordinates[0][1]",
            "out_of_range",
        ),
        (
            "POST",
            fence,
            polygon(&json!([[0, 0], [1, 0], [1, 1], [0, 1]])),
            "shape.coordinates[0][3]",
            "unclosed",
        ),
        ("POST", fence, polygon(&json!([])), "shape.coordinates", "empty"),
        (
            "POST",
            fence,
            polygon(&json!([[-170, 0], [170, 0], [170, 1], [-170, 0]])),
            "shape.coordinates[0][0]",
            "edge_too_long",
        ),
        ("GET", "/v1/geofences?limit=0", String::new(), "limit", ""),
        ("GET", "/v1/geofences?limit=1001", String::new(), "limit", ""),
        ("GET", "/v1/geofences?limit=many", String::new(), "limit", ""),
        ("GET", "/v1/geofences?after=nowhere", String::new(), "after", ""),
        ("GET", "/v1/geofences?surprise=1", String::new(), "surprise", ""),
        ("GET", "/v1/links?role=stranger", String::new(), "role", ""),
        ("GET", "/v1/alerts?after=x", String::new(), "after", ""),
    ];
    for (method, path, body, field, code) in cases {
        let shown = format!("{method} {path} {body:.100}");
        let answer = neighbour.beside(ada.raw(method, path, body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{shown}: {answer:?}");
        let first = &answer.json()["errors"][0];
        assert_eq!(first["field"].as_str().unwrap_or_default(), field, "{shown}: {answer:?}");
        assert_eq!(first["code"].as_str().unwrap_or_default(), code, "{shown}: {answer:?}");
        assert!(field.is_empty() || first["detail"].as_str().is_some_and(|d| !d.is_empty()), "{answer:?}");
    }
    let not_utf8 = neighbour.beside(ada.raw("POST", fence, b"{\"name\":\"\xff\"}".to_vec())).await;
    assert_eq!((not_utf8.status, not_utf8.code().as_str()), (400, "invalid_request"));
    let large = neighbour.beside(ada.raw("POST", fence, vec![b' '; 9 * 1024 * 1024])).await;
    assert_eq!((large.status, large.code().as_str()), (413, "too_large"));
    let one = fix(1, 48.2, 16.4, node.now());
    let many = json!({"fixes": vec![one; 10_001]}).to_string();
    let many = neighbour.beside(ada.raw("POST", "/v1/locations", many)).await;
    assert_eq!((many.status, many.code().as_str()), (413, "too_large"));
    assert_eq!(ada.get(fence).await.body["items"], json!([]), "nothing was made");
    neighbour.noticed_nothing();
}

fn part(token: &str, n: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|l| !l.starts_with('-')).collect::<String>()).unwrap()
}

/// Tokens that say they are `session`, each false in its own way.
async fn false_tokens(node: &TestNode, session: &Session) -> Vec<(&'static str, String)> {
    let truth = session.access.as_str();
    let (header, claims) = (part(truth, 0), part(truth, 1));
    let sections: Vec<&str> = truth.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with = |typ: &str, algorithm| Header {
        typ: Some(typ.into()),
        kid: header["kid"].as_str().map(str::to_owned),
        ..Header::new(algorithm)
    };
    let sign = |header: &Header, claims: &Value, key: &EncodingKey| {
        jsonwebtoken::encode(header, claims, key).unwrap()
    };
    let other = EncodingKey::from_ed_der(&der(&SigningKey::generate_pem().unwrap()));
    let pem = std::fs::read_to_string(node.folder.path().join("signing-key.pem")).unwrap();
    let own = EncodingKey::from_ed_der(&der(&pem));
    assert_eq!(sign(&with("at+jwt", Algorithm::EdDSA), &claims, &own).split('.').count(), 3);
    let jwks = raw(&node.api, "GET", "/.well-known/jwks.json", &[], "").await.json();
    let public = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
    let changed = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    let access = with("at+jwt", Algorithm::EdDSA);
    let none = |alg: &str| encode(&json!({"alg": alg, "typ": "at+jwt", "kid": header["kid"]}));
    vec![
        ("another key", sign(&access, &claims, &other)),
        ("alg none", format!("{}.{}.", none("none"), sections[1])),
        ("alg none with a signature", format!("{}.{}.{}", none("nOnE"), sections[1], sections[2])),
        (
            "the public key as a secret",
            sign(&with("at+jwt", Algorithm::HS256), &claims, &EncodingKey::from_secret(&public)),
        ),
        (
            "other claims",
            format!("{}.{}.{}", sections[0], encode(&changed("did", claims["sub"].clone())), sections[2]),
        ),
        ("no signature", format!("{}.{}.", sections[0], sections[1])),
        ("two sections", format!("{}.{}", sections[0], sections[1])),
        ("another audience", sign(&access, &changed("aud", json!("other")), &own)),
        ("another issuer", sign(&access, &changed("iss", json!("other")), &own)),
        ("a distress token's audience", sign(&access, &changed("aud", json!("cima-distress")), &own)),
        ("another type", sign(&with("JWT", Algorithm::EdDSA), &claims, &own)),
        ("no end", sign(&access, &changed("exp", json!(null)), &own)),
        ("a refresh token", session.refresh.clone()),
        ("garbage", "garbage".into()),
        ("dots", "..".into()),
    ]
}

async fn is_refused_everywhere(api: &Api, what: &str, token: &str) {
    let bearer = format!("Bearer {token}");
    for (method, path) in
        [("GET", "/v1/me"), ("POST", "/v1/emergencies"), ("POST", "/v1/locations"), ("DELETE", "/v1/me")]
    {
        let answer = raw(api, method, path, &[("authorization", &bearer)], r#"{"fixes":[]}"#).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "unauthenticated"),
            "{what}: {method} {path}"
        );
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}: {method} {path}");
    }
    assert_eq!(refused_upgrade(api, token).await, 401, "{what}");
    let mut socket = stream_by_subprotocol(api, token).await;
    match tokio::time::timeout(cima::client::DEADLINE, socket.hear()).await.unwrap() {
        Heard::Closed(code) => assert_eq!(code, 4401, "{what}"),
        heard => panic!("{what}: {heard:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_token_opens_nothing() {
    let node = TestNode::start_manual().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    for (what, token) in false_tokens(&node, &ada.session).await {
        Box::pin(neighbour.beside(is_refused_everywhere(&node.api, what, &token))).await;
    }
    for headers in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "Bearer")]] {
        let answer = neighbour.beside(raw(&node.api, "GET", "/v1/me", headers, "")).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"));
    }
    assert_eq!(refused_upgrade(&node.api, "").await, 401);

    let tablet = ada.another_device("tablet").await;
    assert_eq!(ada.delete(&format!("/v1/devices/{}", tablet.session.device)).await.status, 204);
    for (what, token) in
        [("removed, access", &tablet.session.access), ("removed, distress", &tablet.session.distress)]
    {
        Box::pin(neighbour.beside(is_refused_everywhere(&node.api, what, token))).await;
    }

    // The true one was good all the while, until it expires.
    assert_eq!(ada.get("/v1/me").await.status, 200);
    let mut welcomed = stream_by_subprotocol(&node.api, &ada.session.access).await;
    assert_eq!(next_frame(&mut welcomed).await["type"], "welcome");
    node.clock.advance(Duration::from_secs(17 * 60));
    Box::pin(neighbour.beside(is_refused_everywhere(&node.api, "expired", &ada.session.access))).await;
    neighbour.noticed_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distress_token_is_forbidden_wherever_something_is_read() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let (id, bearer) = (ada.raise().await, format!("Bearer {}", ada.session.distress));
    let person = format!("/v1/people/{}", ada.id());
    let device = format!("/v1/devices/{}", ada.session.device);
    let routes = [
        ("GET", "/v1/me".to_owned()),
        ("PATCH", "/v1/me".into()),
        ("DELETE", "/v1/me".into()),
        ("GET", "/v1/me/disclosures".into()),
        ("GET", "/v1/devices".into()),
        ("PATCH", device.clone()),
        ("DELETE", device),
        ("GET", "/v1/links?role=subject".into()),
        ("POST", "/v1/links".into()),
        ("GET", "/v1/geofences".into()),
        ("POST", "/v1/geofences".into()),
        ("GET", format!("{person}/location")),
        ("GET", format!("{person}/track")),
        ("GET", format!("{person}/zones")),
        ("GET", "/v1/emergencies".into()),
        ("GET", format!("/v1/emergencies/{id}")),
        ("POST", format!("/v1/emergencies/{id}/claim")),
        ("GET", "/v1/check-ins".into()),
        ("POST", "/v1/check-ins".into()),
        ("POST", format!("/v1/check-ins/{id}/complete")),
        ("DELETE", format!("/v1/check-ins/{id}")),
        ("GET", "/v1/alerts".into()),
        ("POST", format!("/v1/alerts/{id}/ack")),
        ("POST", "/v1/sessions/step-up".into()),
        ("DELETE", "/v1/sessions/current".into()),
    ];
    for (method, path) in routes {
        let headers = [("authorization", bearer.as_str())];
        let answer = neighbour.beside(raw(&node.api, method, &path, &headers, "{}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "forbidden"),
            "{method} {path}: {answer:?}"
        );
    }
    neighbour.noticed_nothing();
}

fn noted(answer: &Value) -> Vec<(String, String)> {
    let text = |note: &Value, member: &str| note[member].as_str().unwrap().to_owned();
    let notes = answer["notes"].as_array().into_iter().flatten();
    notes.map(|n| (text(n, "field"), text(n, "code"))).collect()
}

fn notes(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(field, code)| ((*field).to_owned(), (*code).to_owned())).collect()
}

/// Bodies that are no good raise, and what of them is named.
/// A body, and the (field, code) of every note it is answered with.
type BadRaise = (Vec<u8>, Vec<(String, String)>);

fn bad_raises() -> Vec<BadRaise> {
    let garbage = json!({"id": 5, "kind": "dragon", "message": ["x"], "countdown_s": "soon",
        "fix": {"lat": "north"}, "surprise": {"a": [1]}});
    let from_2099 = json!({"fix": {"seq": 1, "lat": 1, "lon": 1, "fixed_at": "2099-01-01T00:00:00Z"}});
    let long = json!({"kind": "fall", "message": "x".repeat(100 * 1024)});
    let unreadable = notes(&[("body", "unreadable")]);
    vec![
        (
            garbage.to_string().into(),
            notes(&[
                ("id", "not_a_uuid"),
                ("kind", "unknown"),
                ("message", "not_text"),
                ("countdown_s", "ignored"),
                ("fix", "invalid_fix"),
            ]),
        ),
        (json!({"fix": {"lat": 91, "lon": 0}}).to_string().into(), notes(&[("fix", "out_of_range")])),
        (from_2099.to_string().into(), notes(&[("fixed_at", "in_future")])),
        (br#"{"kind":"sos","fix":{"lat":1e999,"lon":0}}"#.to_vec(), notes(&[("fix", "invalid_fix")])),
        (br#"{"id":"0193","kind":"so"#.to_vec(), unreadable.clone()),
        (b"\xff\xfe\x00".to_vec(), unreadable.clone()),
        (Vec::new(), unreadable.clone()),
        (b"[1,2,3]".to_vec(), unreadable.clone()),
        ("[".repeat(50_000).into(), unreadable),
        (long.to_string().into(), notes(&[("message", "cut"), ("body", "too_large")])),
        (vec![b'x'; 100 * 1024], notes(&[("body", "too_large")])),
        (vec![b'x'; 2 * 1024 * 1024], notes(&[("body", "too_large")])),
        (json!({"unknown": true}).to_string().into(), Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_over_rest_is_taken_whatever_is_in_it() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let raises = bad_raises();
    let count = raises.len();
    for (body, named) in raises {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = neighbour.beside(ada.raw("POST", "/v1/emergencies", body)).await;
        let view = answer.json();
        assert_eq!((answer.status, noted(&view)), (201, named), "{shown}: {answer:?}");
        assert_eq!(view["state"], "active", "{shown}");
        let id = view["emergency"]["id"].as_str().unwrap();
        assert_eq!(view["id"], id, "the server made an id: {shown}");
        ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await.ok().unwrap();
    }
    let told = bo.get("/v1/alerts").await.ok().unwrap();
    let raised =
        told["items"].as_array().unwrap().iter().filter(|a| a["template"] == "emergency.raised").count();
    assert_eq!(raised, count, "the contact was told of each");
    neighbour.noticed_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_on_the_stream_is_taken_whatever_is_in_it() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let ada = node.person("Ada").await;
    let mut phone = ada.stream().await;
    let garbage = r#"{"type":"emergency","id":[],"kind":"dragon","fix":{"lat":"north"},"surprise":{},"countdown_s":-1}"#;
    let named =
        [("id", "not_a_uuid"), ("kind", "unknown"), ("countdown_s", "ignored"), ("fix", "invalid_fix")];
    let raises = [
        (garbage.to_owned(), notes(&named)),
        (r#"{"type":"emergency"}"#.into(), Vec::new()),
        (r#"{"type":"emergency","fix":{"lat":1e999,"lon":0}}"#.into(), notes(&[("fix", "invalid_fix")])),
        (r#"{"type":"emergency","message":"\ud800"}"#.into(), notes(&[("message", "not_text")])),
        (r#"{"surprise":1,"type":"emergency","fix":7}"#.into(), notes(&[("fix", "invalid_fix")])),
    ];
    for (text, named) in raises {
        phone.send_text(text.clone()).await.unwrap();
        let accepted = neighbour.beside(phone.wait("accepted")).await.unwrap();
        assert_eq!((noted(&accepted), &accepted["state"]), (named, &json!("active")), "{text}");
        let end = json!({"type": "cancel", "emergency": accepted["id"]});
        phone.send(&end).await.unwrap();
        assert_eq!(phone.wait("accepted").await.unwrap()["state"], "cancelled");
    }
    neighbour.noticed_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_frames_are_answered_as_if_nothing_were_there() {
    let node = TestNode::start().await;
    let mut neighbour = Neighbour::on(&node).await;
    let (ada, eve): (Person, Person) = (node.person("Ada").await, node.person("Eve").await);
    let id = ada.raise().await;
    let nobody = cima::id::fresh(&node.clock).to_string();
    for kind in ["resolve", "cancel", "claim"] {
        let mut answers = Vec::new();
        for emergency in [&id, &nobody] {
            let mut socket = eve.stream().await;
            socket.send(&json!({"type": kind, "emergency": emergency})).await.unwrap();
            let mut answer = neighbour.beside(next_frame(&mut socket)).await;
            assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("not_found")), "{kind}");
            assert_eq!(answer["emergency"], **emergency);
            answer["emergency"] = Value::Null;
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1], "{kind}");
    }
    assert_eq!(ada.get(&format!("/v1/emergencies/{id}")).await.body["state"], "active");
    neighbour.noticed_nothing();
}
