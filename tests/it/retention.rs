//! What has had its time is gone, from answers and from files; what an emergency needs is not.

use crate::harness::{Person, TestNode};
use cima::client::fix;
use cima::clock::{Clock, Timestamp};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Coordinates that are nobody else's.
fn place(n: u32) -> (f64, f64) {
    let part = f64::from(n) * 0.000_123_456_789;
    (-33.123_456_7 + part, 151.765_432_1 - part)
}

/// The fix of a place, so many seconds after `start`.
fn at(n: u32, start: Timestamp) -> Value {
    let (lat, lon) = place(n);
    fix(i64::from(n), lat, lon, start + Duration::from_secs(n.into()))
}

async fn send(person: &Person, fixes: Vec<Value>) -> Value {
    person.post("/v1/locations", json!({"fixes": fixes})).await.ok().unwrap()
}

/// The numbers of the places that are kept somewhere: as the bytes that SQLite or the journal keeps, or as
/// text.
async fn all_kept(node: &TestNode) -> HashSet<u32> {
    let mut sought: HashMap<[u8; 8], Vec<(u32, Vec<u8>)>> = HashMap::new();
    for n in 1..=2_000 {
        let (lat, lon) = place(n);
        let forms = [lat, lon]
            .into_iter()
            .flat_map(|c| [c.to_be_bytes().to_vec(), c.to_le_bytes().to_vec(), c.to_string().into_bytes()]);
        for form in forms {
            sought.entry(form[..8].try_into().unwrap()).or_default().push((n, form));
        }
    }
    let mut found = HashSet::new();
    for (_, file) in node.kept().await {
        for (place, start) in file.array_windows::<8>().enumerate() {
            let starting = sought.get(start).into_iter().flatten();
            found.extend(starting.filter(|(_, form)| file[place..].starts_with(form)).map(|(n, _)| *n));
        }
    }
    found
}

async fn sweep(node: &TestNode) {
    node.node.as_ref().unwrap().services.alerts.sweep().await.unwrap();
}

async fn track(viewer: &Person, of: &Person, from: Timestamp) -> Vec<i64> {
    let (mut seqs, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/people/{}/track?from={from}&limit=100{after}", of.id());
        let page = viewer.get(&path).await.ok().unwrap();
        seqs.extend(
            page["features"].as_array().unwrap().iter().map(|f| f["properties"]["seq"].as_i64().unwrap()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return seqs,
        }
    }
}

fn numbers(of: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    of.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_their_time_coordinates_are_in_no_file() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    // An hour of fixes of hers, between those of somebody else's that share their pages.
    let start = node.now();
    node.clock.advance(HOUR);
    let (ada, bo) = (ada.now().await, bo.now().await);
    for part in 0..10_u32 {
        let (from, to) = (part * 100 + 1, part * 100 + 100);
        send(&ada, (from..=to).map(|n| at(n, start)).collect()).await;
        send(
            &bo,
            (from..=to).map(|n| fix(n.into(), 1.5, 2.5, start + Duration::from_secs(n.into()))).collect(),
        )
        .await;
    }
    let (lat, lon) = place(1_500);
    let opening = fix(1_500, lat, lon, node.now());
    // Ten minutes before it are fixes 3,000 seconds after the start and later: none. So there are more.
    send(&ada, (1_001..=1_100).map(|n| at(n, start + Duration::from_secs(2_200))).collect()).await;
    let raised = ada.post("/v1/emergencies", json!({"kind": "sos", "message": "help", "fix": opening})).await;
    let id = raised.body["emergency"]["id"].as_str().unwrap().to_owned();
    // Nobody waits for the fix of a raise but this test.
    let recorded = async { while !track(&ada, &ada, start).await.contains(&1_500) {} };
    tokio::time::timeout(cima::client::DEADLINE, recorded).await.unwrap();
    node.clock.advance(Duration::from_secs(120));
    send(&ada, (1_101..=1_150).map(|n| at(n, start + Duration::from_secs(2_500))).collect()).await;
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await.ok().unwrap();
    node.clock.advance(Duration::from_secs(200));
    let ada = ada.now().await;
    send(&ada, (1_200..=1_250).map(|n| at(n, start + Duration::from_secs(2_660))).collect()).await;
    assert_eq!(all_kept(&node).await.len(), 1_000 + 100 + 50 + 51 + 1, "the search finds what is there");
    assert_eq!(track(&ada, &ada, start).await.len(), 1_202);

    node.clock.advance(3 * DAY + HOUR);
    sweep(&node).await;
    let (ada, bo) = (ada.now().await, bo.now().await);
    let trail: HashSet<u32> = (1_001..=1_150).chain([1_500]).collect();
    assert_eq!(all_kept(&node).await, trail, "what the emergency needs and no more");
    let kept: Vec<i64> = numbers(1_001..=1_100).into_iter().chain([1_500]).chain(1_101..=1_150).collect();
    assert_eq!(track(&ada, &ada, start).await, kept);
    assert_eq!(ada.get(&format!("/v1/people/{}/location", ada.id())).await.body["fix"]["seq"], 1_150);
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");

    node.clock.advance(28 * DAY);
    sweep(&node).await;
    let (ada, bo) = (ada.now().await, bo.now().await);
    assert_eq!(all_kept(&node).await, HashSet::new());
    assert_eq!(ada.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
    let left = ada.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
    assert_eq!((&left["state"], left.get("message")), (&json!("resolved"), None), "its id resolves for ever");
    let inbox = bo.get("/v1/alerts").await.ok().unwrap();
    let inbox = inbox["items"].as_array().unwrap();
    assert!(!inbox.is_empty() && inbox.iter().all(|a| a["gone"] == true), "{inbox:?}");
    let cursors: Vec<i64> = inbox.iter().map(|a| a["cursor"].as_i64().unwrap()).collect();
    assert_eq!(cursors, numbers(1..=inbox.len() as i64), "and places have no gaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_keep_less_than_the_server() {
    let node = TestNode::start_manual().await;
    let (ada, bo) = (node.person("Ada").await, node.person("Bo").await);
    ada.call("PATCH", "/v1/me", json!({"retention_s": 3_600})).await.ok().unwrap();
    let start = node.now();
    send(&ada, vec![at(1, start)]).await;
    send(&bo, vec![at(2, start)]).await;
    node.clock.advance(2 * HOUR);
    sweep(&node).await;
    let (ada, bo) = (ada.now().await, bo.now().await);
    assert_eq!(track(&ada, &ada, start).await, Vec::<i64>::new());
    assert_eq!(track(&bo, &bo, start).await, [2]);
    assert_eq!(all_kept(&node).await, HashSet::from([2]));
    let refused = send(&ada, vec![at(3, start), at(4, node.now() - HOUR)]).await;
    assert_eq!(refused["rejected"], json!([{"seq": 3, "code": "too_old"}]));
    assert_eq!(refused["accepted"], 1);
    let late = send(&bo, vec![at(3, start)]).await;
    assert_eq!(late["accepted"], 1);
    node.clock.advance(3 * DAY);
    let bo = bo.now().await;
    assert_eq!(send(&bo, vec![at(5, start)]).await["rejected"][0]["code"], "too_old");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_see_the_whole_trail_of_an_emergency_longer_than_the_retention() {
    let clock = Clock::manual(Timestamp::parse("2026-11-22T12:00:00Z").unwrap());
    let node = TestNode::start_with(clock, |config| config.retention_s = 3_600).await;
    let (ada, bo, _) = node.pair(&["emergency_location"]).await;
    let cy = node.person("Cy").await;
    node.api.link(&ada.session, &cy.session, &cy.handle, &["live_location"]).await.unwrap();
    let start = node.now();
    node.clock.advance(Duration::from_secs(700));
    send(&ada, (1..=600).map(|n| at(n, start)).collect()).await;
    let id = ada.raise().await;
    node.clock.advance(3 * HOUR);
    sweep(&node).await;
    let (ada, bo, cy) = (ada.now().await, bo.now().await, cy.now().await);
    // It began 700 seconds after the start, and its trail ten minutes before.
    assert_eq!(track(&bo, &ada, start).await, numbers(100..=600));
    assert_eq!(bo.get(&format!("/v1/people/{}/location", ada.id())).await.body["fix"]["seq"], 600);
    assert_eq!(cy.get(&format!("/v1/people/{}/location", ada.id())).await.code(), "not_available");
    assert_eq!(
        track(&cy, &ada, start).await,
        Vec::<i64>::new(),
        "what is kept for the incident is not theirs"
    );
    send(&ada, vec![fix(601, 1.5, 2.5, node.now())]).await;
    assert_eq!(track(&bo, &ada, start).await, numbers(100..=601), "trail and fixes are one track");
    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await.ok().unwrap();
    assert_eq!(bo.get(&format!("/v1/people/{}/track", ada.id())).await.code(), "not_available");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_that_waits_keeps_the_trail_it_may_need() {
    let clock = Clock::manual(Timestamp::parse("2026-11-22T12:00:00Z").unwrap());
    let node = TestNode::start_with(clock, |config| config.retention_s = 3_600).await;
    let ada = node.person("Ada").await;
    let start = node.now();
    let check_in = ada.post("/v1/check-ins", json!({"due_in_s": 4 * 3_600})).await.ok().unwrap();
    node.clock.advance(Duration::from_secs(60));
    send(&ada, vec![at(1, start)]).await;
    node.clock.advance(3 * HOUR);
    sweep(&node).await;
    assert_eq!(all_kept(&node).await, HashSet::from([1]));
    let ada = ada.now().await;
    let path = format!("/v1/check-ins/{}/complete", check_in["id"].as_str().unwrap());
    ada.post(&path, json!({})).await.ok().unwrap();
    sweep(&node).await;
    assert_eq!(all_kept(&node).await, HashSet::new());
}
