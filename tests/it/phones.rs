//! Phones as they are: values that are not known, clocks that are wrong or set, keyboards of other scripts, bodies that other
//! libraries write, two phones of one person. What a contact can see is what is judged.

use crate::harness::{Person, TestNode, next_frame, raw, send_acked};
use cima::client::fix;
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const HOME: (f64, f64) = (48.2, 16.37);
const ROAD: (f64, f64) = (48.3, 16.5);
const SCOPES: [&str; 2] = ["alerts", "emergency_location"];

async fn seen(contact: &Person, person: &Person) -> Value {
    contact.get(&format!("/v1/people/{}/location", person.id())).await.body
}

async fn place(contact: &Person, person: &Person) -> (f64, f64) {
    let seen = seen(contact, person).await;
    let degrees = |name: &str| seen["fix"][name].as_f64().unwrap_or(f64::NAN);
    (degrees("lat"), degrees("lon"))
}

fn at_road(members: Value) -> Value {
    let mut fix = json!({"lat": ROAD.0, "lon": ROAD.1});
    fix.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    fix
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_beside_the_place_costs_itself_alone_and_is_named_once() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let mut socket = ada.stream().await;
    let odd = |seq: i64| {
        let mut odd = fix(seq, HOME.0, HOME.1, node.now());
        odd["battery"] = json!(-1);
        odd["provider"] = json!("gps");
        odd
    };
    socket.send(&cima::client::fixes(&[odd(1), odd(2)])).await.unwrap();
    let said = next_frame(&mut socket).await;
    assert_eq!((&said["type"], &said["seq"]), (&json!("notes"), &json!(1)));
    let named =
        json!([{"field": "provider", "code": "unknown"}, {"field": "battery", "code": "out_of_range"}]);
    assert_eq!(said["notes"], named);
    let acked = next_frame(&mut socket).await;
    assert_eq!(acked, json!({"type": "acked", "seq": 2, "ranges": [[1, 2]]}), "it is said once");

    let posted = ada.post("/v1/locations", json!({"fixes": [odd(3), odd(4)]})).await.ok().unwrap();
    assert_eq!((&posted["accepted"], &posted["rejected"]), (&json!(2), &json!([])));
    assert_eq!(posted["notes"], json!([{"seq": 3, "notes": named}]));
    let track = ada.get(&format!("/v1/people/{}/track", ada.id())).await.body;
    assert_eq!(track["features"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_keeps_its_place_whatever_else_is_wrong() {
    let node = TestNode::start().await;
    let in_ms = |ms: i64| Timestamp::from_unix_ms(node.now().unix_ms() + ms).to_string();
    for wrong in [
        json!({}),
        json!({"seq": 1, "fixed_at": in_ms(180_000)}),
        json!({"seq": 1, "fixed_at": in_ms(-4 * 86_400_000)}),
        json!({"seq": 1, "fixed_at": in_ms(-1_024 * 7 * 86_400_000)}),
        json!({"seq": 1, "fixed_at": "2569-11-22T12:00:00Z"}),
        json!({"seq": 1, "fixed_at": "2026-11-22T12:00:00"}),
        json!({"seq": 1, "fixed_at": node.now().unix_ms()}),
        json!({"seq": 0, "fixed_at": in_ms(-2_000)}),
        json!({"seq": -1, "fixed_at": in_ms(-2_000)}),
        json!({"seq": 1_784_803_200_000_000_000_i64, "fixed_at": in_ms(-2_000)}),
        json!({"course_deg": 361, "altitude_m": -20_000, "battery": "full", "accuracy_m": -1}),
    ] {
        let (ada, bo, _) = node.pair(&SCOPES).await;
        let raised = ada.post("/v1/emergencies", json!({"fix": at_road(wrong.clone())})).await;
        assert_eq!(raised.status, 201, "{wrong}");
        assert_eq!(place(&bo, &ada).await, ROAD, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_emergency_is_open_no_time_refuses_a_place() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let ahead = |seq: i64, lat: f64| fix(seq, lat, ROAD.1, node.now() + Duration::from_secs(600));
    let mut socket = ada.stream().await;
    socket.send(&cima::client::fixes(&[ahead(1, 48.3)])).await.unwrap();
    assert_eq!(next_frame(&mut socket).await["code"], "in_future");

    let id = cima::id::fresh(&node.clock);
    socket.send(&json!({"type": "emergency", "id": id, "kind": "sos"})).await.unwrap();
    socket.wait("accepted").await.unwrap();
    send_acked(&mut socket, &[ahead(2, 48.4)]).await;
    assert_eq!(place(&bo, &ada).await, (48.4, ROAD.1));
    // It comes again with the time of its second arrival, and is the same fix.
    let again = ada.post("/v1/locations", json!({"fixes": [ahead(2, 48.4), ahead(3, 48.5)]})).await.body;
    assert_eq!(
        (&again["accepted"], &again["duplicates"], &again["rejected"]),
        (&json!(1), &json!(1), &json!([]))
    );
    assert_eq!(place(&bo, &ada).await, (48.5, ROAD.1));

    // Whatever PIN ends it, what the phone is told does not change.
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await.ok().unwrap();
    send_acked(&mut socket, &[ahead(4, 48.6)]).await;
    let mut fresh = ada.stream().await;
    send_acked(&mut fresh, &[ahead(5, 48.7)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_stops_no_position() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.2, ROAD.1, node.now())]).await;
    ada.raise().await;
    let mut watching = bo.stream().await;
    watching.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    assert_eq!(watching.wait("position").await.unwrap()["fix"]["lat"], 48.2);
    let hour_ago = node.now() - Duration::from_secs(3_600);
    send_acked(&mut phone, &[fix(2, 48.4, ROAD.1, hour_ago)]).await;
    assert_eq!(watching.wait("position").await.unwrap()["fix"]["lat"], 48.4);
    assert_eq!(place(&bo, &ada).await, (48.4, ROAD.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_that_raised_is_where_the_person_is() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location", "live_location"]).await;
    let tablet = ada.another_device("tablet").await;
    let mut at_home = tablet.stream().await;
    send_acked(&mut at_home, &[fix(1, HOME.0, HOME.1, node.now())]).await;
    assert_eq!(place(&bo, &ada).await, HOME, "the only one that ever streamed is tracked");

    let five_min_ago = node.now() - Duration::from_secs(300);
    let raise = json!({"fix": fix(1, ROAD.0, ROAD.1, five_min_ago)});
    let raised = ada.post("/v1/emergencies", raise).await.ok().unwrap();
    assert_eq!(raised["emergency"]["device"], ada.session.device);
    let mut watching = bo.stream().await;
    watching.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    let first = watching.wait("position").await.unwrap();
    assert_eq!((&first["device"], &first["raised"]), (&json!(ada.session.device), &json!(true)));
    send_acked(&mut at_home, &[fix(2, HOME.0, HOME.1, node.now())]).await;
    let second = watching.wait("position").await.unwrap();
    assert_eq!((&second["device"], &second["raised"]), (&json!(tablet.session.device), &json!(false)));
    let seen = seen(&bo, &ada).await;
    assert_eq!((&seen["device"], &seen["basis"]), (&json!(ada.session.device), &json!("emergency")));

    // She goes on with the tablet, and raises there.
    let again = json!({"fix": fix(3, 48.9, 16.9, node.now())});
    let again = tablet.post("/v1/emergencies", again).await.ok().unwrap();
    assert_eq!(again["emergency"]["device"], tablet.session.device);
    assert_eq!(place(&bo, &ada).await, (48.9, 16.9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_phone_is_the_persons_when_they_say_so_or_raise_with_it() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["live_location"]).await;
    let mut old = ada.stream().await;
    send_acked(&mut old, &[fix(1, HOME.0, HOME.1, node.now())]).await;

    let device = json!({"name": "new phone", "platform": "ios", "is_my_phone": true});
    let given =
        json!({"handle": ada.handle, "password": cima::client::password(&ada.handle), "device": device});
    let signed_in = node.api.call("POST", "/v1/sessions", None, Some(&given)).await.unwrap().ok().unwrap();
    let access = signed_in["access_token"].as_str().unwrap();
    let mut new = node.api.stream(access).await.unwrap();
    new.wait("welcome").await.unwrap();
    send_acked(&mut new, &[fix(1, ROAD.0, ROAD.1, node.now())]).await;
    assert_eq!(place(&bo, &ada).await, ROAD);

    ada.raise().await;
    send_acked(&mut old, &[fix(2, HOME.0, HOME.1, node.now())]).await;
    for _ in 0..100 {
        if place(&bo, &ada).await == HOME {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the phone that raised is the tracked one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_goes_on_counting_behind_what_it_uploaded() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let fixes: Vec<Value> = (1..=5).map(|n| fix(n, HOME.0, HOME.1, node.now())).collect();
    ada.post("/v1/locations", json!({"fixes": fixes})).await.ok().unwrap();
    let mut socket = node.api.stream(&ada.session.access).await.unwrap();
    assert_eq!(socket.wait("welcome").await.unwrap()["last_seq"], 5);
    // The newest first, and the backlog behind it: each ack says what is on disk.
    socket.send(&cima::client::fixes(&[fix(101, HOME.0, HOME.1, node.now())])).await.unwrap();
    assert_eq!(socket.wait("acked").await.unwrap()["ranges"], json!([[101, 101]]));
    let backlog: Vec<Value> = [6, 7, 9].map(|n| fix(n, HOME.0, HOME.1, node.now())).into();
    socket.send(&cima::client::fixes(&backlog)).await.unwrap();
    let acked = socket.wait("acked").await.unwrap();
    assert_eq!((&acked["seq"], &acked["ranges"]), (&json!(101), &json!([[6, 7], [9, 9]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_names_are_read_as_people_type_them() {
    let node = TestNode::start().await;
    let (ada, bo) = (node.person("Ada").await, node.person("Bo").await);
    ada.call("PATCH", "/v1/me", json!({"pin": "1234", "duress_pin": " ٩٨٧٦ "})).await.ok().unwrap();
    let id = ada.raise().await;
    let ended = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": "١٢٣٤"})).await;
    assert_eq!(ended.status, 200, "{:?}", ended.body);
    let id = ada.raise().await;
    assert_eq!(ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({"pin": "9876"})).await.status, 200);

    let link = json!({"contact": format!(" {} ", bo.handle), "scopes": ["alerts"]});
    assert_eq!(ada.post("/v1/links", link).await.status, 201);
    let account = |password: &str, name: &str, zone: &str| {
        let handle = crate::harness::handle("typed");
        (
            handle.clone(),
            json!({"handle": handle, "password": password, "display_name": name, "time_zone": zone}),
        )
    };
    let sign_up = async |account: &Value| {
        node.api.call("POST", "/v1/accounts", None, Some(account)).await.unwrap().status
    };
    let (handle, korean) = account("비밀번호가 길다", "Ada", "europe/vienna");
    assert_eq!(sign_up(&korean).await, 201);
    let as_letters = "\u{1107}\u{1175}\u{1106}\u{1175}\u{11af}\u{1107}\u{1165}\u{11ab}\u{1112}\u{1169}\u{1100}\u{1161} \u{1100}\u{1175}\u{11af}\u{1103}\u{1161}";
    let device = json!({"name": "phone", "platform": "ios"});
    let given = json!({"handle": format!("{handle} "), "password": as_letters, "device": device});
    assert_eq!(node.api.call("POST", "/v1/sessions", None, Some(&given)).await.unwrap().status, 201);
    for (name, zone) in [("   ", "UTC"), ("\u{3164}", "UTC"), ("Ada\u{2067}", "UTC"), ("Ada", "Mars/Olympus")]
    {
        assert_eq!(
            sign_up(&account("correct horse", name, zone).1).await,
            400,
            "{} {zone}",
            name.escape_unicode()
        );
    }
    let fence = json!({"name": "   ", "triggers": ["enter"], "shape": {"type": "Circle", "center": [16.0, 48.0], "radius_m": 100}});
    assert_eq!(ada.post("/v1/geofences", fence).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_as_other_libraries_write_them() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let token = format!("Bearer {}", ada.session.access);
    let send = async |path: &str, coding: &str, body: Vec<u8>| {
        let headers = [("authorization", token.as_str()), ("content-encoding", coding)];
        raw(&node.api, "POST", path, &headers, body).await
    };
    let fixes =
        json!({"fixes": [fix(1, 48.208_174_123_456_786, 16.373_819_987_654_322, node.now())]}).to_string();
    let marked = format!("\u{feff}{fixes}");
    assert_eq!(ada.raw("POST", "/v1/locations", marked).await.json()["accepted"], 1);
    let gzip = |body: &str| {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(body.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    assert_eq!(send("/v1/locations", "gzip", gzip(&fixes)).await.json()["duplicates"], 1);
    let refused = send("/v1/locations", "deflate", b"x".to_vec()).await;
    assert_eq!((refused.status, refused.code().as_str()), (415, "unsupported_coding"));
    assert_eq!(refused.header("accept-encoding"), "gzip, zstd");
    // A small body that is large when it is unpacked is as large as that.
    let bomb = gzip(&" ".repeat(32 * 1024 * 1024));
    assert_eq!(send("/v1/check-ins", "gzip", bomb).await.status, 413);
    let raised = send("/v1/emergencies", "br", b"?".to_vec()).await;
    assert_eq!((raised.status, &raised.json()["notes"][0]["field"]), (201, &json!("body")));

    let whole = r#"{"due_in_s":600.0,"grace_s":6e1}"#;
    assert_eq!(ada.raw("POST", "/v1/check-ins", whole).await.status, 201);
    let back = ada.get(&format!("/v1/people/{}/location", ada.id())).await.body;
    assert_eq!(
        (&back["fix"]["lat"], &back["fix"]["lon"]),
        (&json!(48.208_174_123_456_786), &json!(16.373_819_987_654_322))
    );

    let headers = [("authorization", token.as_str()), ("accept-encoding", "gzip")];
    let packed = raw(&node.api, "GET", "/openapi.json", &headers, "").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_on_one_phone_is_known_on_the_other() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    ada.raise().await;
    let tablet = bo.another_device("tablet").await;
    let inbox = bo.get("/v1/alerts").await.body;
    let alert = inbox["items"].as_array().unwrap().iter().find(|a| a["kind"] == "emergency").unwrap().clone();
    assert_eq!(alert["seen_at"], Value::Null);
    let path = format!("/v1/alerts/{}/ack", alert["id"].as_str().unwrap());
    bo.post(&path, json!({"state": "seen"})).await.ok().unwrap();
    let inbox = tablet.get("/v1/alerts").await.body;
    let known = inbox["items"].as_array().unwrap().iter().find(|a| a["id"] == alert["id"]).unwrap().clone();
    assert!(known["seen_at"].is_string(), "{known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_of_a_phone_whose_clock_is_slow_is_seen() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let slow = |seconds: u64| node.now() - Duration::from_secs(3_600) - Duration::from_secs(seconds);
    let mut phone = ada.stream().await;
    // The day before is nobody's business, whatever the clock says.
    let day_before = node.now() - Duration::from_secs(86_000);
    send_acked(&mut phone, &[fix(1, 48.0, ROAD.1, day_before), fix(2, 48.1, ROAD.1, slow(30))]).await;
    ada.raise().await;
    send_acked(&mut phone, &[fix(3, 48.3, ROAD.1, slow(20)), fix(4, 48.4, ROAD.1, slow(10))]).await;
    let trail = bo.get(&format!("/v1/people/{}/track", ada.id())).await.body;
    let seqs: Vec<&Value> =
        trail["features"].as_array().unwrap().iter().map(|f| &f["properties"]["seq"]).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_raise_of_a_fast_clock_hides_nothing_that_comes_after_it() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&SCOPES).await;
    let ahead = |seq: i64, lat: f64| fix(seq, lat, ROAD.1, node.now() + Duration::from_secs(100));
    ada.post("/v1/emergencies", json!({"fix": ahead(1, 48.3)})).await.ok().unwrap();
    assert_eq!(place(&bo, &ada).await, (48.3, ROAD.1));
    send_acked(&mut ada.stream().await, &[ahead(1, 48.3), ahead(2, 48.4)]).await;
    assert_eq!(place(&bo, &ada).await, (48.4, ROAD.1));
}
