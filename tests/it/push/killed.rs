//! SIGKILL in mid-send: every notification reaches its provider at least once, under the same collapse id.

use super::Providers;
use super::fake::Play;
use crate::harness::{Dice, arguments, handle, proving, seed};
use crate::kill::Server;
use cima::client::{Api, Session};
use cima::clock::Clock;
use cima::runtime::detach;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The ids of the alerts of emergencies in somebody's inbox.
async fn alerts(api: &Api, who: &Session) -> HashSet<String> {
    let (mut found, mut path) = (HashSet::new(), "/v1/alerts?limit=1000".to_owned());
    loop {
        let page = api.get(&path, &who.access).await.unwrap().ok().unwrap();
        let items = page["items"].as_array().unwrap().clone();
        let emergencies = items.iter().filter(|a| a["kind"] == "emergency");
        found.extend(emergencies.map(|a| a["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/alerts?limit=1000&after={next}"),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_notification_is_lost_by_sigkill() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let folder = TempDir::new().unwrap();
    let flags = p.flags();
    let start = || Server::start_with(&folder, &flags, Stdio::inherit());
    let server = start().await;
    let api = &server.api;
    let bo = api.sign_up("bo_n", "Bo").await.unwrap();
    for (channel, endpoint) in p.endpoints().into_iter().filter(|(c, _)| ["fcm", "apns"].contains(c)) {
        let path = format!("/v1/devices/{}/push/{channel}", bo.device);
        assert_eq!(api.call("PUT", &path, Some(&bo.access), Some(&endpoint)).await.unwrap().status, 204);
    }
    server.kill();
    let mut dice = Dice(seed());
    let rounds = if proving() { 20 } else { 2 };
    let mut known = HashSet::new();
    for _ in 0..rounds {
        let server = start().await;
        let api = &server.api;
        p.fcm.fake.usually(Play::Slow(Duration::from_millis(dice.roll(120))));
        p.apns.fake.usually(Play::Slow(Duration::from_millis(dice.roll(120))));
        let before = p.fcm.fake.got().len();
        let mut subjects = Vec::new();
        for _ in 0..6 {
            let name = handle("ada");
            let ada = api.sign_up(&name, "Ada").await.unwrap();
            api.link(&ada, &bo, "bo_n", &["alerts"]).await.unwrap();
            subjects.push(ada);
        }
        for ada in subjects {
            let api = api.clone();
            detach("raise", async move {
                for _ in 0..4 {
                    // The server is killed in the middle of this.
                    let Ok(raised) = api.post("/v1/emergencies", &ada.access, json!({"kind": "sos"})).await
                    else {
                        return;
                    };
                    let id = raised.body["emergency"]["id"].as_str().unwrap_or_default().to_owned();
                    let end = format!("/v1/emergencies/{id}/resolve");
                    if api.post(&end, &ada.access, json!({})).await.is_err() {
                        return;
                    }
                }
            });
        }
        let wanted = before + 1 + usize::try_from(dice.roll(20)).unwrap();
        p.fcm.fake.until_count(wanted).await;
        server.kill();
    }
    let server = start().await;
    let ada = server.api.sign_in("bo_n", "another phone").await.unwrap();
    known.extend(alerts(&server.api, &ada).await);
    assert!(known.len() >= rounds, "{}", known.len());
    let has_all = |ids: HashSet<String>| known.iter().all(|id| ids.contains(id));
    let of_fcm =
        |g: &super::fake::Got| g.json()["message"]["android"]["collapse_key"].as_str().unwrap().to_owned();
    let of_apns = |g: &super::fake::Got| g.header("apns-collapse-id").to_owned();
    let fcm = p.fcm.fake.until("FCM has all", |all| has_all(all.iter().map(of_fcm).collect())).await;
    p.apns.fake.until("APNs has all", |all| has_all(all.iter().map(of_apns).collect())).await;
    let mut times: HashMap<String, usize> = HashMap::new();
    for got in &fcm {
        let body = got.json();
        assert_eq!(body["message"]["android"]["collapse_key"], body["message"]["data"]["alert"]);
        *times.entry(of_fcm(got)).or_default() += 1;
    }
    let repeated = known.iter().filter(|id| times.get(*id).is_some_and(|n| *n > 1)).count();
    println!("{rounds} kills, {} emergencies pushed, 0 lost, {repeated} sent more than once", known.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_replayed() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(&folder, &p.flags(), Stdio::inherit()).await;
    let api = &server.api;
    let ada = api.sign_up("ada", "Ada").await.unwrap();
    let bo = api.sign_up("bo_n", "Bo").await.unwrap();
    api.link(&ada, &bo, "bo_n", &["alerts"]).await.unwrap();
    let path = format!("/v1/devices/{}/push/fcm", bo.device);
    let token = json!({"token": "t"});
    assert_eq!(api.call("PUT", &path, Some(&bo.access), Some(&token)).await.unwrap().status, 204);
    let invalid = json!({"error": {"details": [{"fieldViolations": [{"field": "message.android"}]}]}});
    p.fcm.fake.script([Play::Say(400, None, invalid)]);
    api.post("/v1/emergencies", &ada.access, json!({"kind": "sos"})).await.unwrap().ok().unwrap();
    let first = p.fcm.fake.until_count(1).await[0].json();
    // While the server runs: the command is another process.
    let arguments = arguments(&folder).await;
    let replay = || -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_cima")).arg("replay").args(&arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let end = clock.now() + Duration::from_secs(20);
    while replay().trim() != "1 pushes are due again" {
        assert!(clock.now() < end, "it was never given up");
    }
    let all = p.fcm.fake.until_count(2).await;
    assert_eq!(all[1].json()["message"]["data"], first["message"]["data"]);
}
