//! Check-ins end to end: due, missed with the phone dead, completed, repeated, across stops and kills, once.

use crate::harness::{Person, TestNode, count, frames_until, send_acked};
use crate::kill::Server;
use cima::client::{Api, Session, Socket, fix};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

const PATH: &str = "/v1/check-ins";

async fn set(person: &Person, body: Value) -> Value {
    let answer = person.post(PATH, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body
}

fn path_of(check_in: &Value) -> String {
    format!("{PATH}/{}", check_in["id"].as_str().unwrap())
}

async fn complete(person: &Person, check_in: &Value) -> cima::client::Answer {
    person.post(&format!("{}/complete", path_of(check_in)), json!({})).await
}

async fn items(person: &Person, path: &str) -> Vec<Value> {
    person.get(path).await.ok().unwrap()["items"].as_array().unwrap().clone()
}

/// The alerts in an inbox that raised an emergency.
async fn raising(person: &Person) -> Vec<Value> {
    let alerts = items(person, "/v1/alerts?limit=1000").await;
    alerts.into_iter().filter(|alert| alert["kind"] == "emergency").collect()
}

async fn hear(socket: &mut Socket, template: &'static str) -> Value {
    socket.wait_for(template, |frame| frame["template"] == template).await.unwrap()
}

/// Somebody else's check-in, missed after so long. Timers are fired in the order of their times: what is due by then
/// and has not fired when this one has will never fire.
struct Witness(Socket);

impl Witness {
    async fn after(node: &TestNode, s: u64) -> Self {
        let (eve, flo, _) = node.pair(&["alerts"]).await;
        set(&eve, json!({"due_in_s": s, "grace_s": 0})).await;
        Self(flo.stream().await)
    }
    async fn heard(mut self) {
        hear(&mut self.0, "emergency.check_in_missed").await;
        self.0.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_with_the_phone_dead_the_contacts_are_told() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let mut contact = bo.stream().await;
    let check_in = set(&ada, json!({"due_in_s": 600, "grace_s": 60, "note": "to the lake"})).await;
    assert_eq!(check_in["state"], "waiting");
    assert_eq!(check_in["due_at"], json!(node.now() + Duration::from_secs(600)));
    node.clock.advance(Duration::from_secs(660));
    let alert = hear(&mut contact, "emergency.check_in_missed").await;
    assert_eq!((&alert["kind"], &alert["subject"]), (&json!("emergency"), &json!(ada.id())));
    assert_eq!((&alert["severity"], &alert["title"]), (&json!("critical"), &json!("Ada missed a check-in")));
    assert_eq!(alert["params"]["message"], "to the lake");

    let id = alert["emergency"].as_str().unwrap();
    let seen = bo.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
    assert_eq!((&seen["kind"], &seen["state"]), (&json!("check_in"), &json!("active")));
    assert_eq!(seen["message"], "to the lake");
    let listed = items(&ada, PATH).await;
    assert_eq!((&listed[0]["state"], &listed[0]["emergency"]), (&json!("missed"), &json!(id)));
    assert_eq!(complete(&ada, &check_in).await.code(), "conflict", "it is its emergency that has to end");
    let ended = ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await;
    assert_eq!(ended.body["state"], "resolved");
    hear(&mut contact, "emergency.resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_person_is_reminded_first_and_contacts_hear_nothing_within_the_grace() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let check_in = set(&ada, json!({"due_in_s": 60})).await;
    assert_eq!(check_in["grace_s"], 300);
    let witness = Witness::after(&node, 359).await;
    node.clock.advance(Duration::from_secs(60));
    let reminder = hear(&mut phone, "check_in.due").await;
    assert_eq!((&reminder["kind"], &reminder["params"]["check_in"]), (&json!("check_in"), &check_in["id"]));
    node.clock.advance(Duration::from_secs(299));
    witness.heard().await;
    assert_eq!(items(&ada, PATH).await[0]["state"], "waiting");
    assert_eq!(raising(&bo).await.len(), 0);
    node.clock.advance(Duration::from_secs(1));
    hear(&mut contact, "emergency.check_in_missed").await;
    let reminders = items(&ada, "/v1/alerts").await;
    assert_eq!(reminders.iter().filter(|a| a["template"] == "check_in.due").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_or_deleted_one_never_fires() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let early = set(&ada, json!({"due_in_s": 60, "grace_s": 0})).await;
    let in_grace = set(&ada, json!({"due_in_s": 30, "grace_s": 30})).await;
    let deleted = set(&ada, json!({"due_in_s": 60, "grace_s": 0})).await;
    let mut phone = ada.stream().await;
    assert_eq!(complete(&ada, &early).await.body["state"], "completed");
    assert_eq!(ada.delete(&path_of(&deleted)).await.status, 204);
    node.clock.advance(Duration::from_secs(30));
    hear(&mut phone, "check_in.due").await;
    assert_eq!(complete(&ada, &in_grace).await.body["state"], "completed");
    let witness = Witness::after(&node, 800).await;
    node.clock.advance(Duration::from_secs(800));
    witness.heard().await;
    assert_eq!(raising(&bo).await.len(), 0);
    let left = items(&ada, PATH).await;
    assert!(left.len() == 2 && left.iter().all(|c| c["state"] == "completed"), "{left:?}");
    let again = complete(&ada, &early).await;
    assert_eq!((again.status, &again.body["state"]), (200, &json!("completed")), "a repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_sets_one_that_repeats_again_and_a_miss_stops_it() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut contact = bo.stream().await;
    let check_in = set(&ada, json!({"due_in_s": 60, "grace_s": 10, "repeat_s": 100})).await;
    for _ in 0..3 {
        node.clock.advance(Duration::from_secs(50));
        let again = complete(&ada, &check_in).await.ok().unwrap();
        assert_eq!((&again["state"], &again["set_at"]), (&json!("waiting"), &json!(node.now())));
        assert_eq!(again["due_at"], json!(node.now() + Duration::from_secs(100)));
    }
    let witness = Witness::after(&node, 109).await;
    node.clock.advance(Duration::from_secs(109));
    witness.heard().await;
    assert_eq!(raising(&bo).await.len(), 0);
    node.clock.advance(Duration::from_secs(1));
    hear(&mut contact, "emergency.check_in_missed").await;
    let witness = Witness::after(&node, 500).await;
    node.clock.advance(Duration::from_secs(500));
    witness.heard().await;
    assert_eq!(raising(&bo).await.len(), 1);
    assert_eq!(items(&ada, PATH).await[0]["state"], "missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_while_the_server_was_down_it_fires_once() {
    let mut node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    set(&ada, json!({"due_in_s": 60, "grace_s": 60})).await;
    let completed = set(&ada, json!({"due_in_s": 60, "grace_s": 60})).await;
    complete(&ada, &completed).await.ok().unwrap();
    assert!(node.stop().await);
    node.clock.advance(Duration::from_secs(300));
    for _ in 0..2 {
        node.start_again().await;
        let bo = bo.on(&node);
        let mut contact = bo.stream().await;
        contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
        hear(&mut contact, "emergency.check_in_missed").await;
        let witness = Witness::after(&node, 1).await;
        node.clock.advance(Duration::from_secs(1));
        witness.heard().await;
        assert_eq!(raising(&bo).await.len(), 1);
        assert_eq!(items(&bo, "/v1/emergencies?role=contact").await.len(), 1);
        let reminded = items(&ada.on(&node), "/v1/alerts").await;
        assert!(reminded.iter().all(|a| a["template"] != "check_in.due"), "too late to be asked");
        contact.close().await;
        assert!(node.stop().await);
    }
}

/// Kills the server right after the check-in was set, and again as soon as the contact hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn across_sigkill_it_fires_once() {
    for round in 0..count(20) {
        let folder = TempDir::new().unwrap();
        let server = Server::start(&folder).await;
        let api = &server.api;
        let (ada, bo) = (api.sign_up("ada", "Ada").await.unwrap(), api.sign_up("bo_n", "Bo").await.unwrap());
        api.link(&ada, &bo, "bo_n", &["alerts"]).await.unwrap();
        let body = |due_in_s: u64| json!({"due_in_s": due_in_s, "grace_s": 0});
        let completed = api.post(PATH, &ada.access, body(3)).await.unwrap().ok().unwrap();
        let done = api.post(&format!("{}/complete", path_of(&completed)), &ada.access, json!({})).await;
        assert_eq!(done.unwrap().status, 200);
        api.post(PATH, &ada.access, body(1)).await.unwrap().ok().unwrap();
        server.kill();

        let mut emergency = Value::Null;
        for start in 0..3 {
            let server = Server::start(&folder).await;
            let heard = fired(&server.api, &bo).await;
            assert!(start == 0 || heard == emergency, "round {round}, start {start}: another emergency");
            emergency = heard;
            // The first time as soon as it is heard, in the middle of what else there is to do.
            if start > 0 {
                look_for_one(&server.api, &ada, &bo, &emergency).await;
            }
            server.kill();
        }

        // When somebody else's has fired that was due later, the completed one's time is over.
        let server = Server::start(&folder).await;
        let api = &server.api;
        let (eve, flo) = (api.sign_up("eve", "Eve").await.unwrap(), api.sign_up("flo", "Flo").await.unwrap());
        api.link(&eve, &flo, "flo", &["alerts"]).await.unwrap();
        api.post(PATH, &eve.access, body(3)).await.unwrap().ok().unwrap();
        fired(api, &flo).await;
        look_for_one(api, &ada, &bo, &emergency).await;
    }
}

async fn fired(api: &Api, contact: &Session) -> Value {
    let mut socket = api.stream(&contact.access).await.unwrap();
    socket.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    hear(&mut socket, "emergency.check_in_missed").await["emergency"].clone()
}

async fn look_for_one(api: &Api, ada: &Session, bo: &Session, emergency: &Value) {
    let list = async |path: &str, who: &Session| {
        let page = api.get(path, &who.access).await.unwrap().ok().unwrap();
        page["items"].as_array().unwrap().clone()
    };
    let alerts = list("/v1/alerts", bo).await;
    assert_eq!(alerts.iter().filter(|a| a["kind"] == "emergency").count(), 1);
    let emergencies = list("/v1/emergencies?role=subject", ada).await;
    assert_eq!((emergencies.len(), &emergencies[0]["id"]), (1, emergency));
    assert_eq!(emergencies[0]["joined"], json!([]));
    let mut states = list(PATH, ada).await.into_iter().map(|c| c["state"].to_string()).collect::<Vec<_>>();
    states.sort();
    assert_eq!(states, ["\"completed\"", "\"missed\""]);
}

/// Completions at the very moment of the miss. Timers fire by id, so they are completed from the other end, and both
/// meet in the middle: each check-in is one or the other, and told accordingly.
#[tokio::test(flavor = "multi_thread")]
async fn a_completion_and_a_miss_at_once_are_one_of_both() {
    let node = TestNode::start_manual().await;
    let (mut completed, mut missed) = (0, 0);
    for _ in 0..count(100) {
        let (ada, bo, _) = node.pair(&["alerts"]).await;
        let body = json!({"due_in_s": 60, "grace_s": 0});
        let mut check_ins = join_all((0..20).map(|_| set(&ada, body.clone()))).await;
        check_ins.sort_by(|a, b| b["id"].as_str().cmp(&a["id"].as_str()));
        node.clock.advance(Duration::from_secs(60));
        let mut answers = Vec::new();
        for check_in in &check_ins {
            answers.push(complete(&ada, check_in).await);
        }
        let mut misses = 0;
        let after = items(&ada, PATH).await;
        for (check_in, answer) in check_ins.iter().zip(answers) {
            let now = after.iter().find(|c| c["id"] == check_in["id"]).unwrap();
            match answer.status {
                200 => assert_eq!((&now["state"], now.get("emergency")), (&json!("completed"), None)),
                409 => {
                    assert_eq!((&now["state"], now["emergency"].is_string()), (&json!("missed"), true));
                    misses += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
        let emergencies = items(&ada, "/v1/emergencies").await;
        let raises: usize = emergencies.iter().map(|e| 1 + e["joined"].as_array().unwrap().len()).sum();
        assert_eq!(raises, misses, "each miss raises once");
        assert_eq!(raising(&bo).await.len(), misses, "and is told once");
        missed += misses;
        completed += 20 - misses;
    }
    println!("{completed} completed, {missed} missed, none both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_joins_the_emergency_that_is_open() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut contact = bo.stream().await;
    set(&ada, json!({"due_in_s": 60, "grace_s": 0, "note": "to the lake"})).await;
    let open = ada.raise().await;
    hear(&mut contact, "emergency.raised").await;
    node.clock.advance(Duration::from_secs(60));
    let told = hear(&mut contact, "emergency.check_in_missed").await;
    assert_eq!((&told["emergency"], &told["params"]["message"]), (&json!(open), &json!("to the lake")));
    assert_eq!(items(&ada, PATH).await[0]["emergency"], json!(open));
    let emergencies = items(&ada, "/v1/emergencies").await;
    assert_eq!((emergencies.len(), &emergencies[0]["kind"]), (1, &json!("sos")));
    let joined = emergencies[0]["joined"][0].as_str().unwrap();
    assert_eq!(ada.get(&format!("/v1/emergencies/{joined}")).await.body["id"], json!(open));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_see_the_trail_since_it_was_set_and_nothing_older() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let mut phone = ada.stream().await;
    let mut send = async |seq| send_acked(&mut phone, &[fix(seq, 48.2, 16.4, node.now())]).await;
    send(1).await;
    node.clock.advance(Duration::from_secs(60));
    set(&ada, json!({"due_in_s": 780, "grace_s": 0})).await;
    send(2).await;
    node.clock.advance(Duration::from_secs(30));
    send(3).await;
    let track = format!("/v1/people/{}/track", ada.id());
    assert_eq!(bo.get(&track).await.code(), "not_available");
    let mut contact = bo.stream().await;
    node.clock.advance(Duration::from_secs(750));
    hear(&mut contact, "emergency.check_in_missed").await;
    let seen = bo.get(&track).await.ok().unwrap();
    let seqs: Vec<i64> = seen["features"].as_array().unwrap().iter().map(seq_of).collect();
    assert_eq!(seqs, [2, 3], "set a minute after the first");
    let newest = bo.get(&format!("/v1/people/{}/location", ada.id())).await.ok().unwrap();
    assert_eq!((&newest["fix"]["seq"], &newest["basis"]), (&json!(3), &json!("emergency")));
    // The look-back of an emergency that was raised is ten minutes, as ever.
    let (cleo, dan, _) = node.pair(&["alerts", "emergency_location"]).await;
    let mut phone = cleo.stream().await;
    for (seq, wait) in [(1, 2), (2, 599), (3, 0)] {
        send_acked(&mut phone, &[fix(seq, 48.2, 16.4, node.now())]).await;
        node.clock.advance(Duration::from_secs(wait));
    }
    cleo.post("/v1/emergencies", json!({"kind": "check_in"})).await.ok().unwrap();
    let seen = dan.get(&format!("/v1/people/{}/track", cleo.id())).await.ok().unwrap();
    let seqs: Vec<i64> = seen["features"].as_array().unwrap().iter().map(seq_of).collect();
    assert_eq!(seqs, [2, 3]);
}

fn seq_of(feature: &Value) -> i64 {
    feature["properties"]["seq"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_made_once_listed_in_pages_and_nobody_elses() {
    let node = TestNode::start_manual().await;
    let (ada, eve) = (node.person("Ada").await, node.person("Eve").await);
    let id = cima::id::fresh(&node.clock).to_string();
    let body = json!({"id": id, "due_in_s": 60, "grace_s": 0});
    let first = set(&ada, body.clone()).await;
    let repeated = ada.post(PATH, json!({"id": id, "due_in_s": 999})).await;
    assert_eq!((repeated.status, &repeated.body), (200, &first));
    assert_eq!(eve.post(PATH, body.clone()).await.code(), "conflict");
    let token = format!("Bearer {}", ada.session.access);
    let headers = [("authorization", token.as_str()), ("Idempotency-Key", "walk")];
    let keyed = async || crate::harness::raw(&node.api, "POST", PATH, &headers, r#"{"due_in_s":70}"#).await;
    let (made, again) = (keyed().await, keyed().await);
    assert_eq!((made.status, again.status), (201, 200));
    assert_eq!(made.json(), again.json());

    for (method, path) in [("POST", format!("{PATH}/{id}/complete")), ("DELETE", format!("{PATH}/{id}"))] {
        assert_eq!(eve.call(method, &path, json!({})).await.code(), "not_found");
        let unknown = path.replace(&id, &cima::id::fresh(&node.clock).to_string());
        assert_eq!(ada.call(method, &unknown, json!({})).await.code(), "not_found");
    }
    assert_eq!(items(&eve, PATH).await, Vec::<Value>::new());

    assert_eq!(ada.delete(&format!("{PATH}/{id}")).await.status, 204);
    assert_eq!(ada.delete(&format!("{PATH}/{id}")).await.code(), "not_found");
    assert_eq!(complete(&ada, &first).await.code(), "not_found");
    let late = ada.post(PATH, body).await;
    assert_eq!((late.status, &late.body["state"]), (200, &json!("deleted")), "it is not set again");

    complete(&ada, &made.json()).await.ok().unwrap();
    for _ in 0..20 {
        set(&ada, json!({"due_in_s": 60})).await;
    }
    assert_eq!(ada.post(PATH, json!({"due_in_s": 60})).await.code(), "conflict", "20 wait");
    let mut listed = Vec::new();
    let mut next = format!("{PATH}?limit=8");
    loop {
        let page = ada.get(&next).await.ok().unwrap();
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_str() else { break };
        next = format!("{PATH}?limit=8&after={after}");
    }
    let waiting = listed.iter().take_while(|c| c["state"] == "waiting").count();
    assert_eq!((waiting, listed.len(), &listed[20]["id"]), (20, 21, &made.json()["id"]));
    assert_eq!(ada.get(&format!("{PATH}?after={id}")).await.code(), "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named() {
    let node = TestNode::start_manual().await;
    let ada = node.person("Ada").await;
    for (body, field) in [
        (json!({}), "due_in_s"),
        (json!({"due_in_s": 0}), "due_in_s"),
        (json!({"due_in_s": 604_801}), "due_in_s"),
        (json!({"due_in_s": -5}), "due_in_s"),
        (json!({"due_in_s": 60, "grace_s": 86_401}), "grace_s"),
        (json!({"due_in_s": 60, "repeat_s": 59}), "repeat_s"),
        (json!({"due_in_s": 60, "repeat_s": 604_801}), "repeat_s"),
        (json!({"due_in_s": 60, "note": "x".repeat(1_001)}), "note"),
        (json!({"due_in_s": 60, "note": 5}), "note"),
        (json!({"due_in_s": 60, "surprise": 1}), "surprise"),
        (json!({"due_in_s": 60, "id": "mine"}), "id"),
    ] {
        let refused = ada.post(PATH, body.clone()).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["field"]), (400, &json!(field)), "{body}");
    }
    let distress = node.api.post(PATH, &ada.session.distress, json!({"due_in_s": 60})).await.unwrap();
    assert_eq!(distress.code(), "forbidden");
    assert_eq!(items(&ada, PATH).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_account_was_deleted_it_never_fires() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    set(&ada, json!({"due_in_s": 60, "grace_s": 0})).await;
    let witness = Witness::after(&node, 60).await;
    let mut contact = bo.stream().await;
    assert_eq!(ada.delete("/v1/me").await.status, 204);
    node.clock.advance(Duration::from_secs(60));
    witness.heard().await;
    contact.send(&json!({"type": "resume", "cursor": 0})).await.unwrap();
    let heard = frames_until(&mut contact, |f| f["type"] == "resumed").await;
    assert!(heard.iter().all(|f| f["type"] != "emergency" && f["kind"] != "emergency"), "{heard:?}");
}
