//! Who sees what: every link state, set of scopes and emergency state, against every endpoint and frame that could
//! show something. What is expected comes from a rule of the test's own.

use crate::harness::{Person, TestNode, send_acked};
use cima::client::fix;
use serde_json::json;
use std::time::Duration;

const SCOPES: [&str; 4] = ["alerts", "emergency_location", "live_location", "zones"];
const PIN: &str = "1234";
const DURESS: &str = "9876";

#[derive(Clone, Copy, PartialEq, Debug)]
enum Link {
    None,
    Pending,
    Active,
    Ended,
    Expired,
    /// The contact trusts the subject, which never works the other way.
    Reverse,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Danger {
    None,
    Countdown,
    CancelledInCountdown,
    Active,
    Resolved,
    Cancelled,
    Duress,
    DuressExcluded,
}

struct Contact {
    person: Person,
    link: Link,
    scopes: Vec<&'static str>,
}

impl Contact {
    fn has(&self, scope: &str) -> bool {
        self.link == Link::Active && self.scopes.contains(&scope)
    }
    fn sees_position(&self, danger: Danger) -> bool {
        let open = matches!(danger, Danger::Active | Danger::Duress);
        self.has("live_location") || (self.has("emergency_location") && open)
    }
    fn sees_emergency(&self, danger: Danger) -> bool {
        let told = !matches!(danger, Danger::None | Danger::Countdown | Danger::CancelledInCountdown);
        told && (self.has("alerts") || self.has("emergency_location"))
    }
}

async fn befriend(
    node: &TestNode,
    ada: &Person,
    link: Link,
    scopes: &[&'static str],
    hears: bool,
) -> Contact {
    let bo = node.person("Bo").await;
    let asked = |expires: bool| {
        let mut body = json!({"contact": bo.handle, "scopes": scopes, "duress": hears});
        if expires {
            body["expires_at"] = json!(node.now() + Duration::from_secs(60));
        }
        body
    };
    let ask = async |expires: bool| {
        let made = ada.post("/v1/links", asked(expires)).await.ok().unwrap();
        made["id"].as_str().unwrap().to_owned()
    };
    let accept = async |id: &str| bo.post(&format!("/v1/links/{id}/accept"), json!({})).await.ok().unwrap();
    match link {
        Link::None => {}
        Link::Pending => {
            ask(false).await;
        }
        Link::Active => {
            accept(&ask(false).await).await;
        }
        Link::Expired => {
            accept(&ask(true).await).await;
        }
        Link::Ended => {
            let id = ask(false).await;
            accept(&id).await;
            assert_eq!(bo.delete(&format!("/v1/links/{id}")).await.status, 204);
        }
        Link::Reverse => {
            node.api.link(&bo.session, &ada.session, &ada.handle, scopes).await.unwrap();
        }
    }
    Contact { person: bo, link, scopes: scopes.to_vec() }
}

/// Every set of scopes on an active link, and all scopes on every other.
async fn contacts(node: &TestNode, ada: &Person, hears: bool) -> Vec<Contact> {
    let mut all = Vec::new();
    for bits in 1..16_u8 {
        let scopes: Vec<&str> = (0..4).filter(|n| bits & (1 << n) != 0).map(|n| SCOPES[n]).collect();
        all.push(befriend(node, ada, Link::Active, &scopes, hears).await);
    }
    for link in [Link::None, Link::Pending, Link::Ended, Link::Expired, Link::Reverse] {
        all.push(befriend(node, ada, link, &SCOPES, hears).await);
    }
    all
}

async fn bring_about(ada: &Person, danger: Danger) -> Option<String> {
    let countdown = matches!(danger, Danger::Countdown | Danger::CancelledInCountdown);
    if danger == Danger::None {
        return None;
    }
    let raised = ada
        .post("/v1/emergencies", json!({"countdown_s": if countdown { 300 } else { 0 }}))
        .await
        .ok()
        .unwrap();
    let id = raised["emergency"]["id"].as_str().unwrap().to_owned();
    let end = match danger {
        Danger::None | Danger::Countdown | Danger::Active => None,
        Danger::CancelledInCountdown | Danger::Cancelled => Some(("cancel", PIN)),
        Danger::Resolved => Some(("resolve", PIN)),
        Danger::Duress | Danger::DuressExcluded => Some(("resolve", DURESS)),
    };
    if let Some((how, pin)) = end {
        ada.post(&format!("/v1/emergencies/{id}/{how}"), json!({"pin": pin})).await.ok().unwrap();
    }
    Some(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_not_theirs_to_see() {
    let states = [
        Danger::None,
        Danger::Countdown,
        Danger::CancelledInCountdown,
        Danger::Active,
        Danger::Resolved,
        Danger::Cancelled,
        Danger::Duress,
        Danger::DuressExcluded,
    ];
    let (mut cases, mut wrong) = (0, Vec::new());
    for danger in states {
        let node = TestNode::start_manual().await;
        let ada = node.person("Ada").await;
        ada.call("PATCH", "/v1/me", json!({"pin": PIN, "duress_pin": DURESS})).await.ok().unwrap();
        let contacts = contacts(&node, &ada, danger != Danger::DuressExcluded).await;
        ada.fence(48.2, 16.4, 500.0, &["enter"]).await;
        let mut phone = ada.stream().await;
        send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
        node.node.as_ref().unwrap().services.tracking.settled().await;
        wait_until_in_zone(&ada).await;
        node.clock.advance(Duration::from_secs(120));
        let emergency = bring_about(&ada, danger).await;
        let mut refusal = None;
        for contact in &contacts {
            let mut check = |what: &str, seen: bool, must: bool| {
                cases += 1;
                if seen != must {
                    wrong.push(format!("{danger:?} {:?} {:?} {what}: {seen}", contact.link, contact.scopes));
                }
            };
            let bo = &contact.person;
            let position = contact.sees_position(danger);
            let location = bo.get(&format!("/v1/people/{}/location", ada.id())).await;
            check("location", location.status == 200, position);
            if location.status != 200 {
                assert_eq!(refusal.get_or_insert(location.clone()), &location, "one answer for every reason");
            }
            let track = bo.get(&format!("/v1/people/{}/track", ada.id())).await;
            check("track", track.status == 200, position);
            let zones = bo.get(&format!("/v1/people/{}/zones", ada.id())).await;
            check("zones", zones.body["items"][0]["name"] == "home", contact.has("zones"));
            let mut socket = bo.stream().await;
            socket.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
            let answer = |f: &serde_json::Value| f["type"] == "position" || f["type"] == "unavailable";
            let watched = socket.wait_for("an answer", answer).await.unwrap();
            check("watch", watched["type"] == "position", position);
            if let Some(id) = &emergency {
                let seen = bo.get(&format!("/v1/emergencies/{id}")).await;
                check("emergency", seen.status == 200, contact.sees_emergency(danger));
                if danger == Danger::DuressExcluded {
                    assert_ne!(seen.body["state"], "active");
                }
                let listed = bo.get("/v1/emergencies?role=contact").await.ok().unwrap();
                let listed = !listed["items"].as_array().unwrap().is_empty();
                check("list", listed, contact.sees_emergency(danger));
            }
        }
    }
    println!("{cases} cases, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases >= 500);
}

/// The tracker is built beside the stream; the person's own zones say when it has evaluated the fix.
async fn wait_until_in_zone(ada: &Person) {
    let path = format!("/v1/people/{}/zones", ada.id());
    let seen = async {
        while ada.get(&path).await.body["items"].as_array().is_none_or(Vec::is_empty) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(cima::client::DEADLINE, seen).await.expect("in the zone");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_location_ends_with_its_scope_and_its_link() {
    let node = TestNode::start().await;
    let (ada, bo, link) = node.pair(&["live_location"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    assert_eq!(contact.wait("position").await.unwrap()["basis"], "live_location");
    let narrower = json!({"scopes": ["alerts"]});
    ada.call("PATCH", &format!("/v1/links/{link}"), narrower).await.ok().unwrap();
    contact.wait("unavailable").await.unwrap();
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_expires_ends_the_positions_by_itself() {
    let node = TestNode::start_manual().await;
    let (ada, bo) = (node.person("Ada").await, node.person("Bo").await);
    let body = json!({"contact": bo.handle, "scopes": ["live_location"], "expires_at": node.now() + Duration::from_secs(30)});
    let made = ada.post("/v1/links", body).await.ok().unwrap();
    bo.post(&format!("/v1/links/{}/accept", made["id"].as_str().unwrap()), json!({})).await.ok().unwrap();
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    contact.wait("position").await.unwrap();
    node.clock.advance(Duration::from_secs(31));
    contact.wait("unavailable").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_need_a_current_token_and_go_on_with_a_fresh_one() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["live_location"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    contact.wait("position").await.unwrap();
    node.clock.advance(Duration::from_secs(17 * 60));
    send_acked(&mut phone, &[fix(2, 48.3, 16.4, node.now())]).await;
    let next =
        contact.wait_for("an answer", |f| f["type"] == "error" || f["type"] == "position").await.unwrap();
    assert_eq!(next["code"], "token_expired");
    let fresh = node.api.refresh(&bo.session).await.unwrap();
    contact.send(&json!({"type": "token", "access_token": fresh.access})).await.unwrap();
    contact.send(&json!({"type": "watch", "user": ada.id()})).await.unwrap();
    assert_eq!(contact.wait("position").await.unwrap()["fix"]["seq"], 2);
}
