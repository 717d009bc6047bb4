//! Accounts, sessions, tokens, step-up, devices, deletion; creating once; what is not yours is not there.

use crate::harness::{Person, Raw, TestNode, handle, next_frame, raw, refused_upgrade, send_acked, settings};
use cima::client::{Answer, Heard, fix, password};
use cima::clock::Clock;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

async fn open(node: &TestNode, method: &str, path: &str, body: &Value) -> Raw {
    raw(&node.api, method, path, &[], body.to_string()).await
}

fn id(answer: &Answer) -> String {
    answer.body["id"].as_str().unwrap_or_else(|| panic!("no id: {answer:?}")).to_owned()
}

/// The uniform answer for what is not there or not the caller's.
fn not_found(answer: &Answer) -> &Value {
    assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    &answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_can_be_repeated_and_a_handle_is_given_once() {
    let node = TestNode::start().await;
    let (folded, user) = (handle("Ada"), cima::id::fresh(&node.clock).to_string());
    let account = |id: &str, handle: &str, word: &str| json!({"id": id, "handle": handle, "password": word, "display_name": "Ada"});
    let given = account(&user, &folded.to_uppercase(), "correct horse");
    let made = open(&node, "POST", "/v1/accounts", &given).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json(), json!({"user_id": user, "handle": folded, "display_name": "Ada"}));
    let again = open(&node, "POST", "/v1/accounts", &given).await;
    assert_eq!((again.status, again.json()), (200, made.json()));

    let other = cima::id::fresh(&node.clock).to_string();
    let taken = [
        account(&user, &folded, "another password"),
        account(&other, &folded, "correct horse"),
        account(&user, "somebody_else", "correct horse"),
    ];
    for given in taken {
        let answer = open(&node, "POST", "/v1/accounts", &given).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{given}");
    }
    let keyed =
        json!({"handle": handle("key"), "password": "correct horse", "display_name": "K"}).to_string();
    let key = [("idempotency-key", "one")];
    let first = raw(&node.api, "POST", "/v1/accounts", &key, keyed.clone()).await;
    let second = raw(&node.api, "POST", "/v1/accounts", &key, keyed).await;
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!(first.json(), second.json());

    let long = "a".repeat(33);
    for bad in ["", "ab", &long, "has space", "umläut", "dash-ed", "a/b", "ada\u{0}x"] {
        let answer = open(&node, "POST", "/v1/accounts", &account(&other, bad, "correct horse")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{bad}");
        assert_eq!(answer.json()["errors"][0]["field"], "handle", "{bad}");
    }
    let short = open(&node, "POST", "/v1/accounts", &account(&other, "a.b_c", "short")).await;
    assert_eq!((short.status, &short.json()["errors"][0]["field"]), (400, &json!("password")));
}

fn sign_in(handle: &str, word: &str) -> Value {
    json!({"handle": handle, "password": word, "device": {"name": "phone", "platform": "android"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_try_waits_whoever_asks() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    let shouted =
        open(&node, "POST", "/v1/sessions", &sign_in(&ada.handle.to_uppercase(), &password(&ada.handle)))
            .await;
    assert_eq!(shouted.status, 201);
    let fields: BTreeSet<String> = shouted.json().as_object().unwrap().keys().cloned().collect();
    let named = ["access_token", "device_id", "distress_token", "expires_in", "refresh_token", "user_id"];
    assert_eq!(fields, named.map(str::to_owned).into());

    // An account that is not there answers as one that is: word for word, try for try.
    let mut said = Vec::new();
    for who in [ada.handle.as_str(), "nobody.at.all"] {
        let mut answers = Vec::new();
        for _ in 0..5 {
            let answer = open(&node, "POST", "/v1/sessions", &sign_in(who, "a wrong one")).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"));
            answers.push(answer.text);
        }
        let sixth = open(&node, "POST", "/v1/sessions", &sign_in(who, &password(who))).await;
        assert_eq!((sixth.status, sixth.code().as_str()), (429, "rate_limited"));
        assert_eq!(sixth.header("retry-after"), "900");
        answers.push(sixth.text);
        said.push(answers);
    }
    assert_eq!(said[0], said[1]);
    // A wait never stands before a raise, nor before who is signed in.
    ada.raise().await;
    node.clock.advance(15 * MINUTE);
    let waited = open(&node, "POST", "/v1/sessions", &sign_in(&ada.handle, &password(&ada.handle))).await;
    assert_eq!(waited.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_half_a_minute_for_the_same_successor() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    let tablet = ada.another_device("tablet").await;
    let first = ada.session.clone();
    let second = node.api.refresh(&first).await.unwrap();
    assert_ne!(second.refresh, first.refresh);
    assert_eq!((&second.user, &second.device), (&first.user, &first.device));
    assert_eq!(node.api.get("/v1/me", &second.access).await.unwrap().status, 200);
    node.clock.advance(Duration::from_secs(29));
    assert_eq!(node.api.refresh(&first).await.unwrap().refresh, second.refresh, "the answer was lost");
    let third = node.api.refresh(&second).await.unwrap();
    assert_ne!(third.refresh, second.refresh);

    let mut socket = node.api.stream(&third.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    node.clock.advance(Duration::from_secs(31));
    let refresh = async |token: &str| {
        open(&node, "POST", "/v1/sessions/refresh", &json!({"refresh_token": token})).await
    };
    let reused = refresh(&second.refresh).await;
    assert_eq!((reused.status, reused.code().as_str()), (401, "unauthenticated"));
    assert_eq!(socket.wait_closed().await.unwrap(), 4401);
    for dead in [&first, &second, &third] {
        assert_eq!(refresh(&dead.refresh).await.status, 401, "the whole family is dead");
        assert_eq!(node.api.get("/v1/me", &dead.access).await.unwrap().status, 401);
    }
    // Another device of hers is another family, and the SOS never depends on one.
    node.api.refresh(&tablet.session).await.unwrap();
    let sos = node.api.post("/v1/emergencies", &third.distress, json!({})).await.unwrap();
    assert_eq!(sos.status, 201);
    for garbage in
        ["", "x", "a.b.c", &first.access, &first.distress, &first.refresh[..first.refresh.len() - 2]]
    {
        assert_eq!(refresh(garbage).await.status, 401, "{garbage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_family_stays_dead_over_a_restart() {
    let mut node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let tablet = ada.another_device("tablet").await;
    assert_eq!(ada.delete("/v1/sessions/current").await.status, 204);
    assert!(node.stop().await);
    node.start_again().await;
    assert_eq!(ada.on(&node).get("/v1/me").await.status, 401);
    assert_eq!(tablet.on(&node).get("/v1/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_can_check_an_access_token_with_the_published_keys() {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
        did: String,
        iat: i64,
        exp: i64,
    }
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    let jwks = raw(&node.api, "GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(jwks.status, 200);
    let keys = jwks.json()["keys"].clone();
    assert!(keys[0].get("d").is_none(), "only the public part");
    let key: Jwk = serde_json::from_value(keys[0].clone()).unwrap();
    let header = jsonwebtoken::decode_header(&ada.session.access).unwrap();
    assert_eq!((header.alg, header.kid), (Algorithm::EdDSA, key.common.key_id.clone()));
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_audience(&["cima"]);
    // The node's clock is not the system's.
    rules.validate_exp = false;
    let key = DecodingKey::from_jwk(&key).unwrap();
    let claims = jsonwebtoken::decode::<Claims>(&ada.session.access, &key, &rules).unwrap().claims;
    assert_eq!((claims.sub.as_str(), claims.did.as_str()), (ada.id(), ada.session.device.as_str()));
    assert_eq!(claims.iat, node.now().unix_s());
    assert!((600..=900).contains(&(claims.exp - claims.iat)));
    assert!(jsonwebtoken::decode::<Claims>(&ada.session.distress, &key, &rules).is_err(), "another audience");

    node.clock.advance(Duration::from_secs(15 * 60 + 59));
    assert_eq!(ada.get("/v1/me").await.status, 200, "within the skew of clocks");
    node.clock.advance(Duration::from_secs(1));
    assert_eq!((ada.get("/v1/me").await.status, ada.get("/v1/me").await.code()), (401, "unauthenticated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_a_position_needs_a_proof_of_the_last_five_minutes() {
    let node = TestNode::start_manual().await;
    let (ada, bo) = (node.person("Ada").await, node.person("Bo").await);
    let (eve, tablet) = (node.person("Eve").await, ada.another_device("tablet").await);
    let link = |contact: &Person, scope: &str| json!({"contact": contact.handle, "scopes": [scope]});
    node.clock.advance(5 * MINUTE);
    for scope in ["emergency_location", "live_location"] {
        let refused = ada.post("/v1/links", link(&bo, scope)).await;
        assert_eq!((refused.status, refused.code()), (403, "step_up_required"), "{scope}");
    }
    for (method, path, body) in
        [("PATCH", "/v1/me", json!({"pin": "1234"})), ("DELETE", "/v1/me/duress-pin", json!({}))]
    {
        let refused = ada.call(method, path, body).await;
        assert_eq!((refused.status, refused.code()), (403, "step_up_required"));
    }
    let refused = ada.delete("/v1/me").await;
    assert_eq!((refused.status, refused.code()), (403, "step_up_required"));
    // What shows no position needs none.
    let told = ada.post("/v1/links", link(&bo, "alerts")).await;
    assert_eq!(told.status, 201, "{told:?}");
    let granted =
        ada.call("PATCH", &format!("/v1/links/{}", id(&told)), json!({"scopes": ["live_location"]})).await;
    assert_eq!((granted.status, granted.code()), (403, "step_up_required"));
    assert_eq!(ada.call("PATCH", "/v1/me", json!({"locale": "de-AT"})).await.status, 200);

    let step_up = async |who: &Person, given: Value| who.post("/v1/sessions/step-up", given).await;
    let wrong = step_up(&ada, json!({"password": "a wrong one"})).await;
    assert_eq!((wrong.status, wrong.code()), (401, "unauthenticated"));
    let no_pin = step_up(&ada, json!({"pin": "1234"})).await;
    assert_eq!((no_pin.status, no_pin.code()), (403, "pin_wrong"), "none is set");
    assert_eq!(step_up(&ada, json!({})).await.status, 400);
    let word = password(&ada.handle);
    assert_eq!(step_up(&ada, json!({"password": word, "pin": "1"})).await.status, 400);
    assert_eq!(step_up(&ada, json!({"password": word})).await.status, 204);
    assert_eq!(ada.post("/v1/links", link(&eve, "live_location")).await.status, 201);
    assert_eq!(ada.call("PATCH", "/v1/me", json!({"pin": "1234", "duress_pin": "9999"})).await.status, 200);
    // It was proved on this device only.
    assert_eq!(tablet.call("PATCH", "/v1/me", json!({"pin": "4321"})).await.code(), "step_up_required");

    node.clock.advance(5 * MINUTE);
    assert_eq!(ada.call("DELETE", "/v1/me/pin", json!({})).await.code(), "step_up_required");
    let wrong = step_up(&ada, json!({"pin": "0000"})).await;
    assert_eq!((wrong.status, wrong.code()), (403, "pin_wrong"));
    assert_eq!(step_up(&ada, json!({"pin": "1234"})).await.status, 204);
    assert_eq!(ada.call("PATCH", "/v1/me", json!({"pin": null})).await.status, 200, "null is absent");
    assert_eq!(step_up(&ada, json!({"pin": "1234"})).await.status, 204);
    assert_eq!(ada.call("DELETE", "/v1/me/pin", json!({})).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_never_says_whether_a_pin_is_set() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let before = ada.raw("GET", "/v1/me", "").await;
    let fields: BTreeSet<String> = before.json().as_object().unwrap().keys().cloned().collect();
    let named = ["display_name", "handle", "locale", "retention_s", "time_zone", "user_id"];
    assert_eq!(fields, named.map(str::to_owned).into());
    let changed = ada.raw("PATCH", "/v1/me", r#"{"pin":"1234","duress_pin":"9999"}"#).await;
    assert_eq!(changed.text, before.text, "the same bytes");
    assert_eq!(ada.raw("GET", "/v1/me", "").await.text, before.text);
    for set in [true, false] {
        assert_eq!(ada.delete("/v1/me/duress-pin").await.status, 204, "{set}");
    }
    for bad in ["123", "1234567890123", "12e4", ""] {
        let refused = ada.call("PATCH", "/v1/me", json!({"pin": bad})).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (400, &json!("pin")), "{bad}");
    }
    let changed = json!({"display_name": "Ada L.", "locale": "de-AT", "time_zone": "Europe/Vienna", "retention_s": 7200});
    let profile = ada.call("PATCH", "/v1/me", changed.clone()).await.ok().unwrap();
    for (field, value) in changed.as_object().unwrap() {
        assert_eq!(&profile[field], value);
    }
    assert_eq!(ada.get("/v1/me").await.body, profile);
    let back = ada.call("PATCH", "/v1/me", json!({"retention_s": 0})).await.ok().unwrap();
    assert_eq!(back["retention_s"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_of_a_person_is_tracked() {
    let node = TestNode::start().await;
    let (ada, eve) = (node.person("Ada").await, node.person("Eve").await);
    let tablet = ada.another_device("tablet").await;
    let (phone_id, tablet_id) = (ada.session.device.clone(), tablet.session.device.clone());
    let tracked = async || -> Vec<String> {
        let devices = ada.get("/v1/devices").await.ok().unwrap();
        let items = devices["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        items.iter().filter(|d| d["tracked"] == true).map(|d| d["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tracked().await, Vec::<String>::new());
    let mut socket = tablet.stream().await;
    send_acked(&mut socket, &[fix(1, 48.2, 16.4, node.now())]).await;
    assert_eq!(tracked().await, std::slice::from_ref(&tablet_id), "the first that streams");
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    assert_eq!(tracked().await, std::slice::from_ref(&tablet_id), "and no other");
    let patch = async |who: &Person, device: &str, body: Value| {
        who.call("PATCH", &format!("/v1/devices/{device}"), body).await
    };
    let now = patch(&ada, &phone_id, json!({"tracked": true})).await.ok().unwrap();
    assert_eq!(
        (&now["id"], &now["tracked"], &now["name"]),
        (&json!(phone_id), &json!(true), &json!("phone"))
    );
    assert_eq!(tracked().await, std::slice::from_ref(&phone_id));
    assert_eq!(patch(&ada, &phone_id, json!({"tracked": false})).await.status, 200);
    assert_eq!(tracked().await, Vec::<String>::new());
    assert_eq!(patch(&ada, &phone_id, json!({"tracked": 1})).await.status, 400);
    assert_eq!(patch(&ada, &phone_id, json!({"name": "x"})).await.status, 400);
    not_found(&patch(&eve, &phone_id, json!({"tracked": true})).await);

    // Signing in again on the same device goes on as that one; nobody else can.
    let mut given = sign_in(&ada.handle, &password(&ada.handle));
    given["device"]["id"] = json!(phone_id);
    assert_eq!(open(&node, "POST", "/v1/sessions", &given).await.json()["device_id"], json!(phone_id));
    let mut given = sign_in(&eve.handle, &password(&eve.handle));
    given["device"]["id"] = json!(phone_id);
    assert_eq!(open(&node, "POST", "/v1/sessions", &given).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_closed_within_a_second_and_reads_nothing_more() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let stolen = ada.another_device("stolen").await;
    let (mut phone, mut thief) = (ada.stream().await, stolen.stream().await);
    let mut distress = node.api.stream(&stolen.session.distress).await.unwrap();
    distress.wait("welcome").await.unwrap();
    assert_eq!(ada.delete(&format!("/v1/devices/{}", stolen.session.device)).await.status, 204);
    for socket in [&mut thief, &mut distress] {
        let closed = tokio::time::timeout(Duration::from_secs(1), socket.wait_closed()).await;
        assert_eq!(closed.expect("within a second").unwrap(), 4403);
    }
    let tokens = &stolen.session;
    for token in [&tokens.access, &tokens.distress] {
        assert_eq!(node.api.get("/v1/me", token).await.unwrap().status, 401);
        assert_eq!(node.api.post("/v1/locations", token, json!({"fixes": []})).await.unwrap().status, 401);
        assert_eq!(refused_upgrade(&node.api, token).await, 401);
    }
    let refresh = json!({"refresh_token": tokens.refresh});
    assert_eq!(open(&node, "POST", "/v1/sessions/refresh", &refresh).await.status, 401);
    not_found(&ada.delete(&format!("/v1/devices/{}", tokens.device)).await);
    assert_eq!(ada.get("/v1/devices").await.body["items"].as_array().unwrap().len(), 1);
    // It does not come back under its old id, and the other device has noticed nothing.
    let mut given = sign_in(&ada.handle, &password(&ada.handle));
    given["device"]["id"] = json!(tokens.device);
    assert_eq!(open(&node, "POST", "/v1/sessions", &given).await.status, 400);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_closes_that_session_and_leaves_the_sos() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let tablet = ada.another_device("tablet").await;
    let (mut phone, mut other) = (ada.stream().await, tablet.stream().await);
    assert_eq!(ada.delete("/v1/sessions/current").await.status, 204);
    assert_eq!(phone.wait_closed().await.unwrap(), 4401);
    assert_eq!((ada.get("/v1/me").await.status, ada.get("/v1/me").await.code()), (401, "unauthenticated"));
    assert_eq!(refused_upgrade(&node.api, &ada.session.access).await, 401);
    assert!(node.api.refresh(&ada.session).await.is_err());
    send_acked(&mut other, &[fix(1, 48.2, 16.4, node.now())]).await;
    let raised = node.api.post("/v1/emergencies", &ada.session.distress, json!({})).await.unwrap();
    assert_eq!(raised.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distress_token_raises_ends_and_sends_fixes_for_half_a_year() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    ada.call("PATCH", "/v1/me", json!({"pin": "1234"})).await.ok().unwrap();
    let mut contact = bo.stream().await;
    node.clock.advance(179 * 24 * 60 * MINUTE);
    let token = ada.session.distress.as_str();
    assert_eq!(
        node.api.get("/v1/me", &ada.session.access).await.unwrap().status,
        401,
        "the session is long over"
    );

    let mut phone = node.api.stream(token).await.unwrap();
    assert_eq!(phone.wait("welcome").await.unwrap()["cursor"], 0, "it reads no inbox");
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    phone.send(&json!({"type": "emergency", "kind": "sos"})).await.unwrap();
    let accepted = phone.wait("accepted").await.unwrap();
    contact.wait_for("the alert", |f| f["type"] == "alert" && f["kind"] == "emergency").await.unwrap();
    for frame in [json!({"type": "watch", "user": ada.id()}), json!({"type": "resume", "cursor": 0})] {
        phone.send(&frame).await.unwrap();
        assert_eq!(next_frame(&mut phone).await["code"], "forbidden", "{frame}");
    }
    let sent = node
        .api
        .post("/v1/locations", token, json!({"fixes": [fix(2, 48.2, 16.4, node.now())]}))
        .await
        .unwrap();
    assert_eq!(sent.body["accepted"], 1);
    let raised = json!({"kind": "fall"});
    assert_eq!(node.api.post("/v1/emergencies", token, raised.clone()).await.unwrap().status, 200, "joins");
    let cancel = format!("/v1/emergencies/{}/cancel", accepted["emergency"].as_str().unwrap());
    let ended = async |body: Value| node.api.post(&cancel, token, body).await.unwrap();
    assert_eq!(ended(json!({})).await.code(), "pin_required");
    assert_eq!(ended(json!({"pin": "0000"})).await.code(), "pin_wrong");
    assert_eq!(ended(json!({"pin": "1234"})).await.body["state"], "cancelled");
    let opened = node.api.post("/v1/emergencies", token, raised).await.unwrap();
    let resolve = format!("/v1/emergencies/{}/resolve", opened.body["id"].as_str().unwrap());
    // Five wrong PINs wait; a raise never does.
    for _ in 0..5 {
        let wrong = node.api.post(&resolve, token, json!({"pin": "0000"})).await.unwrap();
        assert_eq!((wrong.status, wrong.code()), (403, "pin_wrong"));
    }
    let bearer = format!("Bearer {token}");
    let waits = raw(&node.api, "POST", &resolve, &[("authorization", &bearer)], r#"{"pin":"1234"}"#).await;
    assert_eq!(
        (waits.status, waits.code().as_str(), waits.header("retry-after")),
        (429, "rate_limited", "900")
    );
    assert_eq!(node.api.post("/v1/emergencies", token, json!({})).await.unwrap().status, 200);
    node.clock.advance(15 * MINUTE);
    assert_eq!(
        node.api.post(&resolve, token, json!({"pin": "1234"})).await.unwrap().body["state"],
        "resolved"
    );
    node.clock.advance(2 * 24 * 60 * MINUTE);
    assert_eq!(
        node.api.post("/v1/emergencies", token, json!({})).await.unwrap().status,
        401,
        "180 days are over"
    );
}

/// What of all that is kept has any of these bytes, and which bytes.
async fn found(node: &TestNode, needles: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bytes) in node.kept().await {
        for (what, needle) in needles {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(format!("{what} in {name}"));
            }
        }
    }
    found
}

/// How a coordinate could lie in a file.
fn traces(name: &'static str, degrees: f64) -> Vec<(&'static str, Vec<u8>)> {
    let text = degrees.to_string().into_bytes();
    vec![(name, degrees.to_be_bytes().into()), (name, degrees.to_le_bytes().into()), (name, text)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_person_is_forgotten_by_everybody_and_every_file() {
    let mut node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location", "live_location", "zones"]).await;
    ada.call("PATCH", "/v1/me", json!({"display_name": "Adaline Quux"})).await.ok().unwrap();
    let (lat, lon) = (48.208_174_39, 16.373_819_27);
    let needles: Vec<(&str, Vec<u8>)> = [
        traces("a streamed latitude", lat),
        traces("a streamed longitude", lon),
        traces("a latitude of a raise", 48.511_223_344),
        traces("a backfilled latitude", 48.377_665_544),
        traces("a latitude of a fence", 48.208_299_17),
        vec![("the handle", ada.handle.clone().into()), ("the name", b"Adaline Quux".to_vec())],
    ]
    .concat();
    ada.fence(48.208_299_17, lon, 300.0, &["enter", "exit"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    for n in 1..=300 {
        let moved = if n % 100 < 50 { lat } else { 48.9 + n as f64 * 1e-5 };
        send_acked(&mut phone, &[fix(n, moved, lon, node.now())]).await;
    }
    let backfill = json!({"fixes": [fix(301, 48.377_665_544, lon, node.now())]});
    ada.post("/v1/locations", backfill).await.ok().unwrap();
    let raise =
        json!({"kind": "sos", "fix": {"lat": 48.511_223_344, "lon": lon}, "message": "Adaline Quux here"});
    let raised = ada.post("/v1/emergencies", raise).await.ok().unwrap();
    let emergency = raised["emergency"]["id"].as_str().unwrap();
    assert_eq!(bo.post(&format!("/v1/emergencies/{emergency}/claim"), json!({})).await.status, 200);
    let before: BTreeSet<String> = found(&node, &needles)
        .await
        .into_iter()
        .map(|f| f.split(" in ").next().unwrap().to_owned())
        .collect();
    let all: BTreeSet<String> = needles.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(before, all, "the search finds what is there");

    assert_eq!(ada.delete("/v1/me").await.status, 204);
    assert_eq!(phone.wait_closed().await.unwrap(), 4403);
    phone.close().await;
    let farewell = |f: &Value| f["type"] == "alert" && f["template"] == "emergency.account_deleted";
    let told = contact.wait_for("the farewell", farewell).await.unwrap();
    assert!(told["title"].is_string() && !told.to_string().contains("Adaline"), "{told}");
    contact.wait("unavailable").await.unwrap();

    let empty = json!([]);
    assert_eq!(bo.get("/v1/links?role=contact").await.body["items"], empty);
    assert_eq!(bo.get("/v1/emergencies?role=contact").await.body["items"], empty);
    not_found(&bo.get(&format!("/v1/emergencies/{emergency}")).await);
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
    for token in [&ada.session.access, &ada.session.distress] {
        assert_eq!(node.api.post("/v1/emergencies", token, json!({})).await.unwrap().status, 401);
    }
    assert!(node.api.refresh(&ada.session).await.is_err());
    let word = password(&ada.handle);
    assert_eq!(open(&node, "POST", "/v1/sessions", &sign_in(&ada.handle, &word)).await.status, 401);
    let again = |handle: &str| json!({"handle": handle, "password": word, "display_name": "Ada"});
    let reused = open(&node, "POST", "/v1/accounts", &again(&ada.handle)).await;
    assert_eq!((reused.status, reused.code().as_str()), (409, "conflict"));
    let unknown = bo.post("/v1/links", json!({"contact": ada.handle, "scopes": ["alerts"]})).await;
    assert_eq!((unknown.status, unknown.code()), (404, "not_found"));

    // Bo's inbox has no gap: what was about Ada keeps its place.
    let inbox = bo.get("/v1/alerts?limit=1000").await.ok().unwrap();
    let cursors: Vec<i64> =
        inbox["items"].as_array().unwrap().iter().map(|a| a["cursor"].as_i64().unwrap()).collect();
    assert_eq!(cursors, (1..=told["cursor"].as_i64().unwrap().max(cursors.len() as i64)).collect::<Vec<_>>());
    assert!(!inbox.to_string().contains("Adaline"), "{inbox}");
    contact.close().await;
    assert!(node.stop().await);
    assert_eq!(found(&node, &needles).await, Vec::<String>::new());
    node.start_again().await;
    assert_eq!(bo.on(&node).get("/v1/alerts?limit=1000").await.body, inbox);
    let reused = open(&node, "POST", "/v1/accounts", &again(&ada.handle)).await;
    assert_eq!(reused.status, 409, "never again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_twice_is_made_once() {
    let node = TestNode::start().await;
    let (ada, bo, eve) = (node.person("Ada").await, node.person("Bo").await, node.person("Eve").await);
    let shape = json!({"type": "Circle", "center": [16.4, 48.2], "radius_m": 100});
    let fence = json!({"name": "home", "shape": shape, "triggers": ["enter"]});
    let link = json!({"contact": bo.handle, "scopes": ["alerts"]});
    let send = async |who: &Person, path: &str, key: &str, body: &Value| {
        let token = format!("Bearer {}", who.session.access);
        let headers = [("authorization", token.as_str()), ("idempotency-key", key)];
        raw(&who.api, "POST", path, &headers, body.to_string()).await
    };
    for (path, body) in [("/v1/geofences", &fence), ("/v1/links", &link), ("/v1/emergencies", &json!({}))] {
        let (first, second) = (send(&ada, path, "k", body).await, send(&ada, path, "k", body).await);
        assert_eq!((first.status, second.status), (201, 200), "{path}: {first:?} {second:?}");
        assert_eq!(first.json()["id"], second.json()["id"], "{path}");
        let other = send(&eve, path, "k", body).await;
        assert_eq!(other.status, 201, "another person's key is another: {path}: {other:?}");
        assert_ne!(first.json()["id"], other.json()["id"], "{path}");
    }
    assert_ne!(send(&ada, "/v1/geofences", "l", &fence).await.json()["id"], Value::Null);
    assert_eq!(send(&ada, "/v1/geofences", &"k".repeat(256), &fence).await.status, 400);
    assert_eq!(ada.get("/v1/geofences").await.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(ada.get("/v1/links?role=subject").await.body["items"].as_array().unwrap().len(), 1);

    let own = |body: &Value| {
        let mut body = body.clone();
        body["id"] = json!(cima::id::fresh(&node.clock));
        body
    };
    let (fence, link) = (own(&fence), own(&json!({"contact": ada.handle, "scopes": ["alerts"]})));
    for (path, body) in [("/v1/geofences", fence), ("/v1/links", link)] {
        let (first, second) = (bo.post(path, body.clone()).await, bo.post(path, body.clone()).await);
        assert_eq!((first.status, second.status), (201, 200), "{path}");
        assert_eq!((&first.body["id"], &second.body["id"]), (&body["id"], &body["id"]), "{path}");
        // Somebody else's id is taken, and nothing of what has it is shown.
        let taken = eve.post(path, body.clone()).await;
        assert_eq!((taken.status, taken.code()), (409, "conflict"), "{path}: {taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_in_pages() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(ada.fence(48.2, 16.4, 100.0, &["enter"]).await);
        let id = ada.raise().await;
        ada.post(&format!("/v1/emergencies/{id}/cancel"), json!({})).await.ok().unwrap();
        ada.another_device("another").await;
    }
    for (path, whole) in [("/v1/geofences?", 5), ("/v1/devices?", 6), ("/v1/emergencies?role=subject&", 5)] {
        let all = ada.get(path.trim_end_matches(['?', '&'])).await.ok().unwrap();
        assert_eq!((all["items"].as_array().unwrap().len(), &all["next"]), (whole, &Value::Null), "{path}");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = ada.get(&format!("{path}limit=2{after}")).await.ok().unwrap();
            let items = page["items"].as_array().unwrap();
            assert!((1..=2).contains(&items.len()), "{path}");
            seen.extend(items.iter().map(|i| i["id"].clone()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let order: Vec<Value> = all["items"].as_array().unwrap().iter().map(|i| i["id"].clone()).collect();
        assert_eq!(seen, order, "{path}");
    }
    let fences = ada.get("/v1/geofences").await.ok().unwrap();
    let listed: BTreeSet<String> =
        fences["items"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_persons_is_not_there() {
    let node = TestNode::start().await;
    let (ada, bo, link) = node.pair(&["alerts"]).await;
    let eve = node.person("Eve").await;
    let (fence, emergency) = (ada.fence(48.2, 16.4, 100.0, &["enter"]).await, ada.raise().await);
    let alert = bo.get("/v1/alerts").await.body["items"][0]["id"].as_str().unwrap().to_owned();
    let (device, nobody) = (ada.session.device.clone(), cima::id::fresh(&node.clock).to_string());
    let shape = json!({"type": "Circle", "center": [16.4, 48.2], "radius_m": 100});
    let replaced = json!({"name": "mine", "shape": shape, "triggers": ["enter"]});
    let calls = [
        ("GET", "/v1/geofences/{}", &fence, json!(null)),
        ("PUT", "/v1/geofences/{}", &fence, replaced),
        ("DELETE", "/v1/geofences/{}", &fence, json!(null)),
        ("POST", "/v1/links/{}/accept", &link, json!({})),
        ("PATCH", "/v1/links/{}", &link, json!({"scopes": ["alerts", "live_location"]})),
        ("PATCH", "/v1/links/{}", &link, json!({"tier": 2})),
        ("DELETE", "/v1/links/{}", &link, json!(null)),
        ("PATCH", "/v1/devices/{}", &device, json!({"tracked": true})),
        ("DELETE", "/v1/devices/{}", &device, json!(null)),
        ("GET", "/v1/emergencies/{}", &emergency, json!(null)),
        ("POST", "/v1/emergencies/{}/claim", &emergency, json!({})),
        ("POST", "/v1/emergencies/{}/unclaim", &emergency, json!({})),
        ("POST", "/v1/emergencies/{}/resolve", &emergency, json!({})),
        ("POST", "/v1/emergencies/{}/cancel", &emergency, json!({"pin": "1234"})),
        ("POST", "/v1/alerts/{}/ack", &alert, json!({"state": "seen"})),
    ];
    let mut answers = BTreeSet::new();
    for (method, path, theirs, body) in calls {
        for id in [theirs.as_str(), &nobody, "no-uuid", "%00"] {
            let answer = eve.call(method, &path.replace("{}", id), body.clone()).await;
            answers.insert(not_found(&answer).to_string());
        }
    }
    assert_eq!(answers.len(), 1, "one answer, whatever was asked for: {answers:?}");
    // A subject ends nothing of a contact's and a contact changes nothing of a subject's.
    not_found(&bo.call("PATCH", &format!("/v1/links/{link}"), json!({"tier": 2})).await);
    not_found(&ada.post(&format!("/v1/links/{link}/accept"), json!({})).await);
    not_found(&bo.post(&format!("/v1/emergencies/{emergency}/resolve"), json!({})).await);
    assert_eq!(ada.get(&format!("/v1/geofences/{fence}")).await.body["name"], "home");
    assert_eq!(ada.get("/v1/links?role=subject").await.body["items"][0]["tier"], 1);
    assert_eq!(ada.get(&format!("/v1/emergencies/{emergency}")).await.body["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_leaves_its_socket_to_fixes_and_the_sos() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    let mut phone = ada.stream().await;
    node.clock.advance(20 * MINUTE);
    assert_eq!(ada.get("/v1/me").await.status, 401);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    phone.send(&json!({"type": "emergency", "kind": "sos"})).await.unwrap();
    assert_eq!(phone.wait("accepted").await.unwrap()["state"], "active");
    phone.send(&json!({"type": "token", "access_token": ada.session.access})).await.unwrap();
    assert_eq!(phone.wait("error").await.unwrap()["code"], "unauthenticated");
    let fresh = node.api.refresh(&ada.session).await.unwrap();
    let stranger = node.person("Eve").await;
    phone.send(&json!({"type": "token", "access_token": stranger.session.access})).await.unwrap();
    assert_eq!(phone.wait("error").await.unwrap()["code"], "forbidden");
    phone.send(&json!({"type": "token", "access_token": fresh.access})).await.unwrap();
    phone.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    assert_eq!(phone.wait("position").await.unwrap()["basis"], "self");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_key_believes_no_token_of_this_one() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let folder = tempfile::TempDir::new().unwrap();
    let other = cima::app::Node::start(&settings(&folder).await, Clock::system()).await.unwrap();
    let api = cima::client::Api::new(format!("http://{}", other.addr)).unwrap();
    assert_eq!(api.get("/v1/me", &ada.session.access).await.unwrap().status, 401);
    assert_eq!(api.post("/v1/emergencies", &ada.session.distress, json!({})).await.unwrap().status, 401);
    assert!(other.stop().await);
    let mut socket = ada.stream().await;
    socket.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    assert!(matches!(socket.hear().await, Heard::Frame(_)));
}
