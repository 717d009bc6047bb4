//! A whole run, and nothing of a person in what leaves the server: payloads, logs, metrics.

use super::Providers;
use crate::harness::{Raw, raw};
use crate::kill::Server;
use cima::client::{fix, fixes};
use cima::clock::Clock;
use serde_json::json;
use std::fs::{self, File};
use std::process::Stdio;
use tempfile::TempDir;

const NAMES: &[&str] = &["Zebulon", "zebulon", "Quinta", "quinta"];
const PLACES: &[&str] = &["48.2081", "16.3738", "Kirschgarten"];
const MESSAGE: &str = "behind the boathouse";

fn scan(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_payload_log_or_metric_says_who_or_where() {
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let folder = TempDir::new().unwrap();
    let log = p.file("log");
    let flags: Vec<String> = [p.flags(), vec!["--log".into(), "debug".into()]].concat();
    let server = Server::start_with(&folder, &flags, Stdio::from(File::create(&log).unwrap())).await;
    let api = &server.api;
    let ada = api.sign_up("zebulon_z", "Zebulon").await.unwrap();
    let bo = api.sign_up("quinta_q", "Quinta").await.unwrap();
    api.link(&ada, &bo, "quinta_q", &["alerts", "emergency_location"]).await.unwrap();
    for (channel, endpoint) in p.endpoints() {
        let path = format!("/v1/devices/{}/push/{channel}", bo.device);
        assert_eq!(api.call("PUT", &path, Some(&bo.access), Some(&endpoint)).await.unwrap().status, 204);
    }
    let shape = json!({"type": "Circle", "center": [16.373_819, 48.208_174], "radius_m": 100.0});
    let fence = json!({"name": "Kirschgarten", "shape": shape, "triggers": ["enter"]});
    api.post("/v1/geofences", &ada.access, fence).await.unwrap().ok().unwrap();
    let mut phone = api.stream(&ada.access).await.unwrap();
    phone.wait("welcome").await.unwrap();
    let away = fix(1, 48.3, 16.5, clock.now());
    let home = fix(2, 48.208_174, 16.373_819, clock.now());
    phone.send(&fixes(&[away, home])).await.unwrap();
    let sos = json!({"kind": "sos", "message": MESSAGE, "fix": {"lat": 48.208_174, "lon": 16.373_819}});
    api.post("/v1/emergencies", &ada.access, sos).await.unwrap().ok().unwrap();
    // The SOS and the fence, through each.
    let fcm = p.fcm.fake.until_count(2).await;
    let apns = p.apns.fake.until_count(2).await;
    let webpush = p.browser.service.until_count(2).await;
    let hook = p.hook.until_count(2).await;
    let mails = p.mail.until_count(2).await;

    let personal: Vec<&str> =
        NAMES.iter().chain(PLACES).copied().chain([MESSAGE, &ada.user, &bo.user]).collect();
    for (what, all) in [("FCM", &fcm), ("APNs", &apns), ("Web Push", &webpush), ("a webhook", &hook)] {
        for got in all {
            let body = String::from_utf8_lossy(&got.body).into_owned();
            scan(what, &format!("{} {:?} {body}", got.path, got.headers), &personal);
        }
    }
    for got in &webpush {
        scan("Web Push", &String::from_utf8(p.browser.open(&got.body)).unwrap(), &personal);
    }
    for mail in &mails {
        scan("a mail", &mail.text, &personal);
    }
    let Raw { text: metrics, .. } = raw(api, "GET", "/metrics", &[], "").await;
    assert!(
        metrics.contains("cima_pushes_total") && metrics.contains("cima_push_handed_over_seconds"),
        "{metrics}"
    );
    server.kill();
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.lines().count() > 3, "there is a log to look at: {log}");
    let subscription = p.browser.subscription();
    let keys = ["p256dh", "auth"].map(|key| subscription["keys"][key].as_str().unwrap().to_owned());
    let tokens = [
        "fcm-registration-token-of-bo",
        "00fc13adff785122b4",
        "bo@mail.example",
        "of-bo",
        "MfKQ9r8G",
        "ya29.",
    ];
    let secret: Vec<&str> = personal[..personal.len() - 2]
        .iter()
        .copied()
        .chain(tokens)
        .chain(keys.iter().map(String::as_str))
        .chain([ada.access.as_str(), &bo.access, &ada.distress])
        .collect();
    scan("the metrics", &metrics, &secret);
    scan("the log", &log, &secret);
    println!(
        "{} payloads, {} lines of log, {} of metrics: 0 hits",
        10,
        log.lines().count(),
        metrics.lines().count()
    );
}
