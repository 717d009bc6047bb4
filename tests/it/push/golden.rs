//! Every payload as its provider gets it, kept in files: an opaque id, a generic text, and nothing else.

use super::providers::Browser;
use super::{Providers, SECRET, golden};
use cima::clock::{Clock, Timestamp};
use cima::id::AlertId;
use cima::push::{
    Apns, ApnsSettings, Authorities, Email, EmailSettings, Fcm, FcmSettings, Guard, Matter, Notification,
    Provider, SendOutcome, Target, Urgency, WebPush, WebPushSettings, Webhook,
};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) const NOW: &str = "2026-11-22T12:00:00Z";

pub(super) fn clock() -> Clock {
    Clock::manual(Timestamp::parse(NOW).unwrap())
}

pub(super) fn notification(matter: Matter, urgency: Urgency, locale: &str) -> Notification {
    Notification {
        alert: AlertId("0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001".parse().unwrap()),
        matter,
        urgency,
        locale: locale.into(),
        until: Timestamp::parse(NOW).unwrap() + Duration::from_secs(3_600),
    }
}

/// An SOS, and a fence in another language.
fn both() -> [(&'static str, Notification); 2] {
    [
        ("emergency", notification(Matter::Emergency, Urgency::Emergency, "en")),
        ("routine", notification(Matter::Geofence, Urgency::Routine, "de-AT")),
    ]
}

pub(super) fn guard() -> Guard {
    Guard::allowing(["127.0.0.1".to_owned()])
}

pub(super) fn fcm(p: &Providers, clock: &Clock) -> Fcm {
    let settings = FcmSettings { credentials: p.fcm.credentials.clone(), url: p.fcm.fake.url() };
    Fcm::new(&settings, &Authorities::default(), clock.clone()).unwrap()
}

pub(super) fn apns(p: &Providers, clock: &Clock, critical: bool) -> Apns {
    let settings = ApnsSettings {
        key: p.apns.key.clone(),
        key_id: "KEY1234567".into(),
        team_id: "TEAM123456".into(),
        topic: "org.example.cima".into(),
        url: p.apns.url(),
        critical,
    };
    let authorities = Authorities::from_pem(p.apns.authority.as_bytes()).unwrap();
    Apns::new(&settings, &authorities, clock.clone()).unwrap()
}

pub(super) fn webpush(p: &Providers, clock: &Clock) -> WebPush {
    let settings = WebPushSettings { key: p.vapid.clone(), subject: "mailto:ops@cima.example".into() };
    WebPush::new(&settings, &Authorities::default(), guard(), clock.clone()).unwrap()
}

pub(super) fn email(p: &Providers) -> Email {
    let url = format!("smtp://{}", p.mail.addr);
    Email::new(&EmailSettings { url, credentials: None, from: "cima <push@cima.example>".into() }).unwrap()
}

pub(super) fn subscription(browser: &Browser) -> Target {
    let given = browser.subscription();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Target::Webpush {
        endpoint: text(&given["endpoint"]),
        p256dh: text(&given["keys"]["p256dh"]),
        auth: text(&given["keys"]["auth"]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fcm_gets() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = fcm(&p, &clock);
    for (name, notification) in both() {
        let target = Target::Fcm { token: "registration-token".into() };
        assert_eq!(provider.send(&notification, &target).await, SendOutcome::Accepted);
        let got = p.fcm.fake.got().pop().unwrap();
        golden(&format!("fcm_{name}.json"), &json!({"path": got.path, "body": got.json()}));
    }
    assert_eq!(p.fcm.granted.lock().unwrap().len(), 1, "one access token for both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apns_gets() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let whole = both().into_iter().map(|(name, n)| (name.to_owned(), n, false));
    let critical = ("critical".to_owned(), notification(Matter::Emergency, Urgency::Emergency, "en"), true);
    for (name, notification, critical) in whole.chain([critical]) {
        let target = Target::Apns { token: "00fc13ad".into() };
        assert_eq!(apns(&p, &clock, critical).send(&notification, &target).await, SendOutcome::Accepted);
        let got = p.apns.fake.got().pop().unwrap();
        let headers: serde_json::Map<String, Value> =
            ["topic", "push-type", "priority", "expiration", "collapse-id"]
                .map(|h| (format!("apns-{h}"), got.header(&format!("apns-{h}")).into()))
                .into_iter()
                .collect();
        let sent = json!({"path": got.path, "headers": headers, "body": got.json()});
        golden(&format!("apns_{name}.json"), &sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_gets() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = webpush(&p, &clock);
    for (name, notification) in both() {
        assert_eq!(provider.send(&notification, &subscription(&p.browser)).await, SendOutcome::Accepted);
        let got = p.browser.service.got().pop().unwrap();
        let headers: serde_json::Map<String, Value> = ["ttl", "urgency", "topic", "content-encoding"]
            .map(|h| (h.to_owned(), got.header(h).into()))
            .into_iter()
            .collect();
        let body: Value = serde_json::from_slice(&p.browser.open(&got.body)).unwrap();
        golden(&format!("webpush_{name}.json"), &json!({"headers": headers, "body": body}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_gets() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = Webhook::new(&Authorities::default(), guard(), clock);
    let target =
        Target::Webhook { url: format!("{}/hook", p.hook.url()), secret: SECRET.into(), previous: None };
    for (name, notification) in both() {
        assert_eq!(provider.send(&notification, &target).await, SendOutcome::Accepted);
        let got = p.hook.got().pop().unwrap();
        let headers: serde_json::Map<String, Value> =
            ["webhook-id", "webhook-timestamp", "webhook-signature"]
                .map(|h| (h.to_owned(), got.header(h).into()))
                .into_iter()
                .collect();
        golden(&format!("webhook_{name}.json"), &json!({"headers": headers, "body": got.json()}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mailbox_gets() {
    let p = Providers::start(&clock()).await;
    let provider = email(&p);
    for (name, notification) in both() {
        let target = Target::Email { address: "bo@mail.example".into() };
        assert_eq!(provider.send(&notification, &target).await, SendOutcome::Accepted);
        let got = p.mail.got().pop().unwrap();
        let lines: Vec<&str> = got.text.lines().filter(|line| !line.starts_with("Date:")).collect();
        golden(&format!("email_{name}.json"), &json!({"to": got.to, "lines": lines}));
    }
}
