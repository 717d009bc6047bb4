//! Code that nobody here wrote reads what we send, and sends to our fakes.

use super::fake::Got;
use super::golden::{guard, notification, subscription, webpush};
use super::{Providers, SECRET, providers};
use axum::http::Version;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cima::clock::Clock;
use cima::push::{
    Authorities, Matter, Notification, Previous, Provider, SendOutcome, Target, Urgency, Webhook,
};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Since when APNs knows that a token is gone.
const SINCE_MS: i64 = 1_795_000_000_123;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/push/run.sh runs it, with the packages of Python that it needs"]
async fn foreign_code_agrees() {
    let python = std::env::var("CIMA_PUSH_PYTHON").expect("run tests/push/run.sh");
    let clock = Clock::system();
    let p = Providers::start(&clock).await;
    let until = clock.now() + Duration::from_secs(3_600);
    let sos = Notification { until, ..notification(Matter::Emergency, Urgency::Emergency, "de") };
    let provider = webpush(&p, &clock);
    assert_eq!(provider.send(&sos, &subscription(&p.browser)).await, SendOutcome::Accepted);
    let pushed = p.browser.service.got().pop().unwrap();
    let plain: Value = serde_json::from_slice(&p.browser.open(&pushed.body)).unwrap();

    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let until_ms = until.unix_ms();
    let target = Target::Webhook {
        url: p.hook.url(),
        secret: SECRET.into(),
        previous: Some(Previous { secret: other.into(), until_ms }),
    };
    let hooks = Webhook::new(&Authorities::default(), guard(), clock.clone());
    assert_eq!(hooks.send(&sos, &target).await, SendOutcome::Accepted);
    let hooked = p.hook.got().pop().unwrap();
    let headers: serde_json::Map<String, Value> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|h| (h.to_owned(), hooked.header(h).into()))
        .into_iter()
        .collect();

    let text = "written by somebody else";
    let given = p.browser.subscription();
    let captured = json!({
        "webpush": {
            "body": URL_SAFE_NO_PAD.encode(&pushed.body),
            "private": p.browser.private(),
            "auth": given["keys"]["auth"],
            "endpoint": given["endpoint"],
            "authorization": pushed.header("authorization"),
            "plain": plain,
        },
        "webhook": {
            "secrets": [SECRET, other],
            "headers": headers,
            "body": String::from_utf8(hooked.body.clone()).unwrap(),
        },
        "sender": {"subscription": given, "vapid": p.vapid, "text": text},
        "apns": {
            "host": "localhost",
            "port": p.apns.fake.addr.port(),
            "authority": p.apns.authority,
            "key": p.apns.key,
            "key_id": "KEY1234567",
            "team_id": "TEAM123456",
            "topic": "org.example.cima",
            "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
            "since": SINCE_MS,
            "text": text,
        },
        "fcm": {
            "url": p.fcm.fake.url(),
            "credentials": serde_json::from_str::<Value>(&p.fcm.credentials).unwrap(),
            "text": text,
        },
    });
    p.apns
        .fake
        .script([providers::apns_unregistered(SINCE_MS), providers::apns_says(429, None, "TooManyRequests")]);
    p.fcm.fake.script([
        providers::fcm_unregistered(),
        providers::fcm_quota(None),
        providers::fcm_quota(Some(1)),
    ]);
    let file = p.file("captured.json");
    std::fs::write(&file, captured.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/push/python/foreign.py");
    p.browser.service.forget();
    let mut run = Command::new(python);
    run.arg(script).arg(&file).stderr(Stdio::inherit());
    let done = tokio::task::spawn_blocking(move || run.output().unwrap()).await.unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    println!("{said}");
    assert!(done.status.success(), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 16);
    let sent = p.browser.service.got().pop().unwrap();
    assert_eq!(p.browser.open(&sent.body), text.as_bytes());
    println!("ok pywebpush read back by the fake");
    let collapsed = |g: &Got| g.header("apns-collapse-id") == "foreign";
    let notified = p.apns.fake.got().into_iter().find(collapsed).unwrap();
    assert_eq!((notified.version, &notified.json()["aps"]["alert"]), (Version::HTTP_2, &json!(text)));
    println!("ok aioapns read back by the fake");
    let messaged = p.fcm.fake.got().pop().unwrap().json();
    assert_eq!(messaged["message"]["android"]["collapse_key"], "foreign");
    assert_eq!(messaged["message"]["data"]["text"], text);
    println!("ok firebase-admin read back by the fake");
}
