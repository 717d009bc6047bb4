//! The story that fills every table: four days of eleven people, as far as a clock that stands lets it go.

use super::cast::{Cast, handle};
use crate::harness::{Person, TestNode, send_acked};
use cima::client::{Socket, fix};
use cima::geo::{RawShape, Shape};
use cima::id::ZoneId;
use cima::tracking::{Severity, ZoneDraft};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) const PIN: &str = "1234";
const DURESS: &str = "9876";

const HOME: (f64, f64) = (48.2100, 16.3800);
const WORK: (f64, f64) = (48.2200, 16.3800);
/// In no fence and no zone.
const ROAD: (f64, f64) = (48.2150, 16.3800);
const LAKE: (f64, f64) = (48.2300, 16.3800);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What is open when the story stops, for who goes on with it.
pub(super) struct Told {
    pub(super) cast: Cast,
    /// Ids, numbers and times.
    pub(super) known: Value,
    /// Sockets that are open.
    pub(super) sockets: Vec<Socket>,
}

/// A phone that is sent along by hand.
struct Phone {
    socket: Socket,
    seq: i64,
}

impl Phone {
    async fn of(person: &Person, seq: i64) -> Self {
        Self { socket: person.stream().await, seq }
    }
    async fn is_at(&mut self, node: &TestNode, (lat, lon): (f64, f64)) {
        self.seq += 1;
        send_acked(&mut self.socket, &[fix(self.seq, lat, lon, node.now())]).await;
    }
}

/// Asks until it is so.
async fn until(what: &str, person: &Person, path: &str, so: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let answer = person.get(path).await.ok().unwrap();
            if so(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(cima::client::DEADLINE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Whether an inbox has an alert of this template.
fn has(template: &str) -> impl Fn(&Value) -> bool {
    move |page: &Value| page["items"].as_array().unwrap().iter().any(|alert| alert["template"] == template)
}

async fn until_told(person: &Person, template: &str) -> Value {
    let page = until(template, person, "/v1/alerts?limit=1000", has(template)).await;
    let alerts = page["items"].as_array().unwrap();
    alerts.iter().find(|alert| alert["template"] == template).unwrap().clone()
}

fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

async fn done(person: &Person, method: &str, path: &str, body: Value) -> Value {
    person.call(method, path, body).await.ok().unwrap_or_else(|e| panic!("{method} {path}: {e:#}"))
}

async fn raise(person: &Person, body: Value) -> String {
    id_of(&done(person, "POST", "/v1/emergencies", body).await["emergency"])
}

/// Plays it.
pub(super) async fn play(node: &TestNode) -> Told {
    let names = ["Ada", "Bo", "Cy", "Dan", "Eve", "Flo", "Gus", "Hal", "Ida", "Jon", "Kim"];
    let mut cast = Cast::sign_up(node, &names).await;
    links(node, &cast).await;
    let mut ended = belongings(node, &cast).await;
    let seq = first_day(node, &cast).await;
    ended.push(forgotten(node, &mut cast).await);
    days_pass(node, &mut cast).await;
    let (mut known, sockets) = last_hour(node, &cast, seq).await;
    known["ended"] = json!(ended);
    Told { cast, known, sockets }
}

async fn links(node: &TestNode, cast: &Cast) {
    let link = async |subject: &str, contact: &str, scopes: &[&str]| {
        let (subject, contact) = (cast.get(subject), cast.get(contact));
        node.api.link(&subject.session, &contact.session, &contact.handle, scopes).await.unwrap()
    };
    link("Ada", "Bo", &["alerts", "emergency_location", "live_location", "zones"]).await;
    let to_cy = link("Ada", "Cy", &["alerts", "emergency_location"]).await;
    for subject in ["Flo", "Gus", "Hal", "Ida", "Jon", "Kim"] {
        link(subject, "Bo", &["alerts", "emergency_location"]).await;
    }
    link("Gus", "Ada", &["alerts", "live_location"]).await;
    let ada = cast.get("Ada");
    done(ada, "PATCH", &format!("/v1/links/{to_cy}"), json!({"duress": false, "tier": 2})).await;
    // One that nobody accepts, and one that ends by itself.
    done(ada, "POST", "/v1/links", json!({"contact": handle("Dan"), "scopes": ["alerts"]})).await;
    let until = json!({"contact": handle("Eve"), "scopes": ["alerts"], "expires_at": node.now() + HOUR});
    let ends = id_of(&done(ada, "POST", "/v1/links", until).await);
    done(cast.get("Eve"), "POST", &format!("/v1/links/{ends}/accept"), json!({})).await;
}

/// PINs, devices, endpoints, fences and zones. The refresh tokens of devices and sessions that are no more.
async fn belongings(node: &TestNode, cast: &Cast) -> Vec<String> {
    let (ada, bo) = (cast.get("Ada"), cast.get("Bo"));
    done(ada, "PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS, "locale": "de-AT"})).await;
    done(cast.get("Gus"), "PATCH", "/v1/me", json!({"pin": PIN, "retention_s": 172_800})).await;
    let (tablet, browser) = (ada.another_device("tablet").await, ada.another_device("browser").await);
    assert_eq!(ada.delete(&format!("/v1/devices/{}", tablet.session.device)).await.status, 204);
    assert_eq!(browser.delete("/v1/sessions/current").await.status, 204);
    for (person, channel, endpoint) in [
        (bo, "fcm", json!({"token": "fcm-registration-token-of-bo"})),
        (bo, "email", json!({"address": "bo@mail.example"})),
        (ada, "webhook", json!({"url": "https://hooks.example/ada"})),
    ] {
        let path = format!("/v1/devices/{}/push/{channel}", person.session.device);
        done(person, "PUT", &path, endpoint).await;
    }
    let circle = json!({"type": "Circle", "center": [HOME.1, HOME.0], "radius_m": 150});
    let home = json!({"name": "home", "shape": circle, "triggers": ["enter", "exit"], "cooldown_s": 60});
    done(ada, "POST", "/v1/geofences", home).await;
    let corners = [(-0.002, -0.002), (0.002, -0.002), (0.002, 0.002), (-0.002, 0.002), (-0.002, -0.002)];
    let ring: Vec<Value> = corners.iter().map(|(x, y)| json!([WORK.1 + x, WORK.0 + y])).collect();
    let work = json!({
        "name": "work", "shape": {"type": "Polygon", "coordinates": [ring]}, "dwell_s": 900,
        "triggers": ["enter", "exit", "dwell", "cross"], "severity": "warning", "notify": [bo.id()],
    });
    done(ada, "POST", "/v1/geofences", work).await;
    let zone = |number: u128, name: &str, (lat, lon): (f64, f64), radius_m| ZoneDraft {
        id: ZoneId(uuid::Uuid::from_u128(number)),
        name: name.into(),
        shape: Arc::new(Shape::try_from(RawShape::Circle { center: vec![lon, lat], radius_m }).unwrap()),
        severity: Severity::Warning,
    };
    let zones = [zone(1, "the lake", LAKE, 200.0), zone(2, "the quarry", (47.0, 15.0), 900.0)];
    node.node.as_ref().unwrap().stores().zones.put_zones(&zones, node.now()).await.unwrap();
    vec![tablet.session.refresh, browser.session.refresh]
}

/// Fences, a zone, an emergency that ends truly, one that nobody ends, check-ins. The number of Ada's newest fix.
async fn first_day(node: &TestNode, cast: &Cast) -> i64 {
    let (ada, bo, cy) = (cast.get("Ada"), cast.get("Bo"), cast.get("Cy"));
    let mut phone = Phone::of(ada, 0).await;
    for place in [ROAD, HOME, HOME, ROAD, WORK, ROAD, LAKE, ROAD] {
        phone.is_at(node, place).await;
        node.clock.advance(MINUTE);
    }
    until_told(ada, "zone.enter").await;
    let exits = |page: &Value| {
        let exits = page["items"].as_array().unwrap().iter().filter(|a| a["transition"] == "exit");
        exits.count() == 2
    };
    until("both exits", bo, "/v1/alerts?limit=1000", exits).await;

    let opening = fix(100, ROAD.0, ROAD.1, node.now());
    let sos = raise(ada, json!({"kind": "sos", "message": "on the road", "fix": opening})).await;
    until_told(bo, "emergency.raised").await;
    done(bo, "POST", &format!("/v1/emergencies/{sos}/claim"), json!({})).await;
    done(cy, "POST", &format!("/v1/emergencies/{sos}/claim"), json!({})).await;
    done(cy, "POST", &format!("/v1/emergencies/{sos}/unclaim"), json!({})).await;
    phone.seq = 100;
    for _ in 0..3 {
        node.clock.advance(MINUTE);
        phone.is_at(node, ROAD).await;
    }
    let seen = bo.get(&format!("/v1/people/{}/location", ada.id())).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    done(ada, "POST", &format!("/v1/emergencies/{sos}/resolve"), json!({"pin": PIN})).await;
    phone.socket.close().await;

    raise(cast.get("Ida"), json!({"kind": "fall"})).await;
    let kim = cast.get("Kim");
    let soon = raise(kim, json!({"kind": "silent", "countdown_s": 60})).await;
    done(kim, "POST", &format!("/v1/emergencies/{soon}/cancel"), json!({})).await;
    let note = json!({"due_in_s": 600, "grace_s": 60, "note": "to the lake"});
    done(cast.get("Jon"), "POST", "/v1/check-ins", note).await;
    let gus = cast.get("Gus");
    let kept = id_of(&done(gus, "POST", "/v1/check-ins", json!({"due_in_s": 600})).await);
    done(gus, "POST", &format!("/v1/check-ins/{kept}/complete"), json!({})).await;
    phone.seq
}

/// Somebody deletes their account: marks of it stay. Their refresh token.
async fn forgotten(node: &TestNode, cast: &mut Cast) -> String {
    cast.step_up().await;
    let flo = cast.take("Flo");
    Phone::of(&flo, 0).await.is_at(node, ROAD).await;
    assert_eq!(flo.delete("/v1/me").await.status, 204);
    let gone = async {
        while flo.get("/v1/me").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(cima::client::DEADLINE, gone).await.expect("she is forgotten");
    flo.session.refresh
}

/// A check-in is missed, an emergency expires, a link ends, fixes have had their time.
async fn days_pass(node: &TestNode, cast: &mut Cast) {
    node.clock.advance(11 * MINUTE);
    cast.refresh().await;
    let missed = until_told(cast.get("Bo"), "emergency.check_in_missed").await;
    let missed = missed["emergency"].as_str().unwrap();
    done(cast.get("Jon"), "POST", &format!("/v1/emergencies/{missed}/resolve"), json!({})).await;
    for step in [20 * HOUR, 3 * HOUR + 40 * MINUTE, 2 * HOUR] {
        node.clock.advance(step);
        cast.refresh().await;
    }
    let expired = |page: &Value| page["items"][0]["state"] == "expired";
    until("it expires", cast.get("Ida"), "/v1/emergencies?role=subject", expired).await;
    node.clock.advance(3 * DAY);
    cast.refresh().await;
    node.node.as_ref().unwrap().services.alerts.sweep().await.unwrap();
}

/// What is open at the end: an emergency under duress, one that is active, one in its countdown, a check-in that waits, a
/// dwell that is not over.
async fn last_hour(node: &TestNode, cast: &Cast, seq: i64) -> (Value, Vec<Socket>) {
    let (ada, bo, gus) = (cast.get("Ada"), cast.get("Bo"), cast.get("Gus"));
    let mut phone = Phone::of(ada, seq).await;
    for place in [ROAD, LAKE] {
        phone.is_at(node, place).await;
        node.clock.advance(MINUTE);
    }
    let forced = raise(ada, json!({"kind": "sos", "message": "again"})).await;
    node.clock.advance(MINUTE);
    phone.is_at(node, ROAD).await;
    done(ada, "POST", &format!("/v1/emergencies/{forced}/resolve"), json!({"pin": DURESS})).await;
    until_told(bo, "emergency.duress").await;
    phone.is_at(node, WORK).await;

    let mut other = Phone::of(gus, 0).await;
    other.is_at(node, ROAD).await;
    let open = raise(gus, json!({"kind": "other"})).await;
    let joined = uuid::Uuid::from_u128(7).to_string();
    let answer = done(gus, "POST", "/v1/emergencies", json!({"id": joined, "kind": "fall"})).await;
    assert_eq!(id_of(&answer["emergency"]), open);
    done(bo, "POST", &format!("/v1/emergencies/{open}/claim"), json!({})).await;
    other.is_at(node, HOME).await;
    let counting = raise(cast.get("Hal"), json!({"kind": "sos", "countdown_s": 60})).await;
    let waits = json!({"due_in_s": 3_600, "note": "at night", "repeat_s": 86_400});
    let waits = id_of(&done(ada, "POST", "/v1/check-ins", waits).await);
    let enters = |page: &Value| {
        let items = page["items"].as_array().unwrap();
        items.iter().filter(|alert| alert["transition"] == "enter").count() == 3
    };
    until("at work again", bo, "/v1/alerts?limit=1000", enters).await;
    let alerts = bo.get("/v1/alerts?limit=1000").await.ok().unwrap();
    for (alert, state) in alerts["items"].as_array().unwrap().iter().zip(["seen", "received", "seen"]) {
        let path = format!("/v1/alerts/{}/ack", id_of(alert));
        assert!((200..300).contains(&bo.post(&path, json!({"state": state})).await.status));
    }
    let known = json!({
        "forced": forced, "open": open, "joined": joined, "counting": counting, "waits": waits,
    });
    (known, vec![phone.socket, other.socket])
}
