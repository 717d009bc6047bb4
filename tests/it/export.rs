//! A person's data, to take away.

use crate::duress::Transcript;
use crate::harness::{Person, Raw, TestNode, raw};
use cima::client::fix;
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const PIN: &str = "1234";
const DURESS: &str = "9876";
const DAY: Duration = Duration::from_secs(86_400);

async fn send(person: &Person, fixes: &[Value]) {
    for part in fixes.chunks(1_000) {
        person.post("/v1/locations", json!({"fixes": part})).await.ok().unwrap();
    }
}

async fn export(person: &Person, format: &str) -> Raw {
    let answer = person.raw("GET", &format!("/v1/me/export?format={format}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

/// A fix a second whose place follows from its number.
fn numbered(n: i64, start: Timestamp) -> Value {
    let part = n as f64 / 100_000.0;
    let mut fix = fix(n, 48.0 + part, 16.0 - part, start + Duration::from_secs(n.unsigned_abs()));
    fix["altitude_m"] = json!(n as f64 / 10.0);
    fix
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_needs_step_up_and_an_access_token() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    assert_eq!(ada.raw("GET", "/v1/me/export", "").await.status, 200, "a fresh sign-in counts");
    node.clock.advance(Duration::from_secs(301));
    assert_eq!(ada.raw("GET", "/v1/me/export", "").await.code(), "step_up_required");
    let password = json!({"password": cima::client::password(&ada.handle)});
    assert_eq!(ada.post("/v1/sessions/step-up", password).await.status, 204);
    assert_eq!(ada.raw("GET", "/v1/me/export?format=gpx", "").await.status, 200);
    assert_eq!(ada.raw("GET", "/v1/me/export?format=csv", "").await.code(), "invalid_request");
    let distress = format!("Bearer {}", ada.session.distress);
    let refused = raw(&node.api, "GET", "/v1/me/export", &[("authorization", &distress)], "").await;
    assert_eq!(refused.code(), "forbidden");
    assert_eq!(raw(&node.api, "GET", "/v1/me/export", &[], "").await.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_has_all_fixes_in_order() {
    let node = TestNode::start_manual().await;
    let start = node.now();
    node.clock.advance(Duration::from_secs(4_000));
    let ada = node.person("Ada").await;
    let watch = ada.another_device("Watch & <Co>").await;
    let fixes: Vec<Value> = (1..=2_500).map(|n| numbered(n, start)).collect();
    send(&ada, &fixes).await;
    send(&watch, &fixes[..1_000]).await;
    let stranger = node.person("Eve").await;
    send(&stranger, &fixes[..3]).await;

    let whole = export(&ada, "json").await;
    assert_eq!(whole.header("content-type"), "application/json");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"cima-2026-11-22.json\"");
    let whole = whole.json();
    let of = |device: &str| -> Vec<Value> {
        let all = whole["fixes"].as_array().unwrap().iter().filter(|f| f["device"] == device);
        all.map(|f| {
            let mut fix = f.clone();
            for added in ["device", "received_at"] {
                assert!(fix.as_object_mut().unwrap().remove(added).is_some());
            }
            fix
        })
        .collect()
    };
    // As they are read from JSON, which costs the last bit of some numbers.
    let fixes: Vec<Value> = fixes.iter().map(|f| serde_json::from_str(&f.to_string()).unwrap()).collect();
    assert_eq!(of(&ada.session.device), fixes);
    assert_eq!(of(&watch.session.device), fixes[..1_000]);
    assert_eq!(whole["fixes"].as_array().unwrap().len(), 3_500);

    let points = export(&ada, "geojson").await;
    assert_eq!(points.header("content-type"), "application/geo+json");
    let points = points.json();
    assert_eq!(points["type"], "FeatureCollection");
    let features = points["features"].as_array().unwrap();
    assert_eq!(features.len(), 3_500);
    let hers: Vec<&Value> =
        features.iter().filter(|f| f["properties"]["device"] == ada.session.device.as_str()).collect();
    for (feature, fix) in hers.iter().zip(&fixes) {
        assert_eq!(feature["geometry"], json!({"type": "Point", "coordinates": [fix["lon"], fix["lat"]]}));
        assert_eq!(feature["properties"]["seq"], fix["seq"]);
    }

    let gpx = export(&ada, "gpx").await;
    assert_eq!(gpx.header("content-type"), "application/gpx+xml");
    assert_eq!(gpx.header("content-disposition"), "attachment; filename=\"cima-2026-11-22.gpx\"");
    let text = &gpx.text;
    assert_eq!(text.matches("<trkpt ").count(), 3_500);
    assert_eq!((text.matches("<trk>").count(), text.matches("</trkseg></trk>").count()), (2, 2));
    assert!(text.contains("<name>Watch &amp; &lt;Co&gt;</name>"), "{}", &text[..400]);
    // Both devices have the first thousand seconds, so the reader finds each second once.
    let read = cima::demo::read(text).unwrap();
    assert_eq!(read.len(), 2_500);
    for (recorded, fix) in read.iter().zip(&fixes) {
        assert_eq!(json!([recorded.point.lat(), recorded.point.lon()]), json!([fix["lat"], fix["lon"]]));
        assert_eq!(recorded.after.as_secs() as i64, fix["seq"].as_i64().unwrap() - 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_of_the_person_and_nothing_of_others() {
    let node = TestNode::start_manual().await;
    let (ada, bo, link) = node.pair(&["alerts", "emergency_location"]).await;
    node.api.link(&bo.session, &ada.session, &ada.handle, &["zones"]).await.unwrap();
    let fence = ada.fence(48.2, 16.4, 100.0, &["enter"]).await;
    let check_in =
        ada.post("/v1/check-ins", json!({"due_in_s": 600, "note": "home by ten"})).await.ok().unwrap();
    send(&ada, &[fix(1, 48.25, 16.5, node.now())]).await;
    let emergency = ada.raise().await;
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.status, 200);
    bo.post(&format!("/v1/emergencies/{emergency}/claim"), json!({})).await.ok().unwrap();
    // A removed device's fixes are hers still.
    let old = ada.another_device("Old phone").await;
    send(&old, &[fix(9, 48.3, 16.6, node.now())]).await;
    assert_eq!(ada.delete(&format!("/v1/devices/{}", old.session.device)).await.status, 204);
    let all = export(&ada, "json").await.json();
    assert_eq!(all["exported_at"], json!(node.now()));
    assert_eq!(all["profile"], ada.get("/v1/me").await.body);
    for (part, path) in [
        ("devices", "/v1/devices"),
        ("links_granted", "/v1/links?role=subject"),
        ("links_received", "/v1/links?role=contact"),
        ("geofences", "/v1/geofences"),
        ("check_ins", "/v1/check-ins"),
        ("emergencies", "/v1/emergencies?role=subject"),
        ("alerts", "/v1/alerts"),
        ("disclosures", "/v1/me/disclosures"),
    ] {
        assert_eq!(all[part], ada.get(path).await.body["items"], "{part}");
        assert!(!all[part].as_array().unwrap().is_empty(), "{part}");
    }
    assert_eq!(all["links_granted"][0]["id"], link.as_str());
    assert_eq!(all["geofences"][0]["id"], fence.as_str());
    assert_eq!(all["check_ins"][0]["id"], check_in["id"]);
    assert_eq!(all["emergencies"][0]["id"], emergency.as_str());
    let mut seqs: Vec<i64> =
        all["fixes"].as_array().unwrap().iter().map(|f| f["seq"].as_i64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 9]);
    let his = export(&bo, "json").await.json();
    assert_eq!((&his["emergencies"], &his["fixes"]), (&json!([]), &json!([])));
}

async fn stepped_up(person: &Person) -> Person {
    let person = Person { session: person.api.refresh(&person.session).await.unwrap(), ..person.clone() };
    let password = json!({"password": cima::client::password(&person.handle)});
    assert_eq!(person.post("/v1/sessions/step-up", password).await.status, 204);
    person
}

/// Ends an emergency by one PIN or the other and goes on for a month; every export on the way, made comparable.
async fn a_month(pin: &str) -> (Vec<Value>, Value) {
    let node = TestNode::start_manual().await;
    let (mut ada, mut bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
    send(&ada, &[fix(1, 48.2, 16.4, node.now())]).await;
    let raised = ada.post("/v1/emergencies", json!({"kind": "sos", "message": "help"})).await.ok().unwrap();
    let id = raised["emergency"]["id"].as_str().unwrap().to_owned();
    bo.post(&format!("/v1/emergencies/{id}/claim"), json!({})).await.ok().unwrap();
    let (mut transcript, mut exports) = (Transcript::default(), Vec::new());
    node.clock.advance(Duration::from_secs(60));
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": pin})).await.ok().unwrap();
    for day in 0..=36 {
        // So that what goes on under duress does not expire.
        send(&ada, &[fix(day + 2, 48.3, 16.5, node.now())]).await;
        bo.get(&format!("/v1/people/{}/location", ada.id())).await;
        if day % 4 == 0 || day > 34 {
            node.node.as_ref().unwrap().services.alerts.sweep().await.unwrap();
            for format in ["json", "geojson", "gpx"] {
                let file = export(&ada, format).await;
                let value = if format == "gpx" { json!(file.text) } else { file.json() };
                exports.push(transcript.rename(&value));
            }
            let path = format!("/v1/people/{}/track?from=2026-11-22T00:00:00Z", ada.id());
            exports.push(transcript.rename(&ada.get(&path).await.body));
        }
        node.clock.advance(Duration::from_secs(20 * 3_600));
        (ada, bo) = (stepped_up(&ada).await, stepped_up(&bo).await);
    }
    node.node.as_ref().unwrap().services.alerts.sweep().await.unwrap();
    let told = bo.get(&format!("/v1/emergencies/{id}")).await.body;
    (exports, json!({"state": told["state"], "message": told["message"]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_after_duress_equals_one_after_a_true_end_for_ever() {
    let (truly, forced) = tokio::join!(a_month(PIN), a_month(DURESS));
    for (n, (a, b)) in truly.0.iter().zip(&forced.0).enumerate() {
        assert_eq!(a, b, "export {n}");
    }
    assert_eq!(truly.0.len(), forced.0.len());
    assert_eq!(truly.1, json!({"state": "resolved", "message": null}), "it has had its time");
    assert_eq!(forced.1, json!({"state": "active", "message": "help"}), "it goes on");
    let first = &truly.0[0];
    assert_eq!(first["emergencies"][0]["message"], "help");
    assert_eq!(first["emergencies"][0]["claims"].as_array().unwrap().len(), 1);
    assert!(DAY * 30 < Duration::from_secs(36 * 20 * 3_600 + 3_600));
}
