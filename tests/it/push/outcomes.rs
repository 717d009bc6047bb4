//! What providers answer, and what we make of it.

use super::fake::Play;
use super::golden::{apns, clock, email, fcm, guard, notification, subscription, webpush};
use super::{Providers, SECRET, providers};
use cima::clock::Timestamp;
use cima::push::{
    Authorities, Channel, Guard, Matter, Notification, Previous, Provider, SendOutcome, Target, Urgency,
    Webhook,
};
use serde_json::{Value, json};
use std::time::Duration;

fn sos() -> Notification {
    notification(Matter::Emergency, Urgency::Emergency, "en")
}

fn gone(since: Option<Timestamp>) -> SendOutcome {
    SendOutcome::Unregistered { since }
}

#[tokio::test(flavor = "multi_thread")]
async fn fcm_says_what_is_gone_what_is_wrong_and_what_has_to_wait() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = fcm(&p, &clock);
    let target = Target::Fcm { token: "t".into() };
    let fault = |field: &str| json!({"error": {"details": [{"fieldViolations": [{"field": field}]}]}});
    p.fcm.fake.script([
        providers::fcm_unregistered(),
        Play::Say(400, None, fault("message.token")),
        Play::Say(400, None, fault("message.android.ttl")),
        providers::fcm_quota(Some(60)),
        Play::Say(503, None, Value::Null),
        Play::Say(301, None, Value::Null),
    ]);
    assert_eq!(provider.send(&sos(), &target).await, gone(None));
    assert_eq!(provider.send(&sos(), &target).await, gone(None));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Rejected { fault: "invalid_argument" });
    let asked = SendOutcome::Retry { after: Some(Duration::from_secs(60)), fault: "quota_exceeded" };
    assert_eq!(provider.send(&sos(), &target).await, asked);
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("unavailable"));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Rejected { fault: "refused" });
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Accepted);

    // A token that Google takes back is exchanged again by the next send.
    p.fcm.granted.lock().unwrap().clear();
    p.fcm.granted.lock().unwrap().insert("another's".into());
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("unauthorized"));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Accepted);
    // And ahead of its end: at 51 of 60 minutes.
    let count = || p.fcm.granted.lock().unwrap().len();
    let before = count();
    provider.warm().await;
    assert_eq!(count(), before);
    clock.advance(Duration::from_secs(51 * 60));
    provider.warm().await;
    assert_eq!(count(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn apns_says_since_when_a_token_is_gone() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = apns(&p, &clock, false);
    let target = Target::Apns { token: "00fc13ad".into() };
    let since = Timestamp::from_unix_ms(1_795_000_000_123);
    let say = |status: u16, reason: &str| providers::apns_says(status, None, reason);
    p.apns.fake.script([
        providers::apns_unregistered(since.unix_ms()),
        say(400, "BadDeviceToken"),
        Play::Say(410, None, json!({"reason": "ExpiredToken", "timestamp": since.unix_ms()})),
        say(400, "DeviceTokenNotForTopic"),
        say(403, "ExpiredProviderToken"),
        providers::apns_says(429, Some(3), "TooManyRequests"),
        say(503, "Shutdown"),
    ]);
    assert_eq!(provider.send(&sos(), &target).await, gone(Some(since)));
    assert_eq!(provider.send(&sos(), &target).await, gone(None));
    assert_eq!(provider.send(&sos(), &target).await, gone(Some(since)));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Rejected { fault: "not_for_topic" });
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("expired_provider_token"));
    let asked = SendOutcome::Retry { after: Some(Duration::from_secs(3)), fault: "too_many_requests" };
    assert_eq!(provider.send(&sos(), &target).await, asked);
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("unavailable"));
    assert_eq!(provider.send(&sos(), &Target::Apns { token: "no/hex".into() }).await, gone(None));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_service_says_what_is_gone_and_what_has_to_wait() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = webpush(&p, &clock);
    let target = subscription(&p.browser);
    let say = |status: u16, wait: Option<u64>| Play::Say(status, wait, Value::Null);
    p.browser.service.script([
        say(410, None),
        say(404, None),
        say(429, Some(7)),
        say(500, None),
        say(413, None),
    ]);
    assert_eq!(provider.send(&sos(), &target).await, gone(None));
    assert_eq!(provider.send(&sos(), &target).await, gone(None));
    let asked = SendOutcome::Retry { after: Some(Duration::from_secs(7)), fault: "too_many_requests" };
    assert_eq!(provider.send(&sos(), &target).await, asked);
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("unavailable"));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Rejected { fault: "refused" });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_with_both_secrets_and_never_follows_a_redirect() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let provider = Webhook::new(&Authorities::default(), guard(), clock.clone());
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let until_ms = (clock.now() + Duration::from_secs(60)).unix_ms();
    let target = |previous| Target::Webhook { url: p.hook.url(), secret: other.into(), previous };
    // The receiver still knows only the secret before.
    let rotating = target(Some(Previous { secret: SECRET.into(), until_ms }));
    assert_eq!(provider.send(&sos(), &rotating).await, SendOutcome::Accepted);
    assert_eq!(p.hook.got().pop().unwrap().header("webhook-signature").split(' ').count(), 2);
    clock.advance(Duration::from_secs(61));
    assert_eq!(provider.send(&sos(), &rotating).await, SendOutcome::retry("not_taken"), "its time is over");
    p.hook.script([Play::Say(302, None, Value::Null), Play::Say(410, None, Value::Null)]);
    assert_eq!(provider.send(&sos(), &target(None)).await, SendOutcome::retry("not_taken"));
    assert_eq!(provider.send(&sos(), &target(None)).await, gone(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_cannot_send_us_to_our_own_network() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let strict = Webhook::new(&Authorities::default(), Guard::default(), clock.clone());
    let to = |url: String| Target::Webhook { url, secret: SECRET.into(), previous: None };
    let port = p.hook.addr.port();
    for url in [p.hook.url(), format!("https://127.0.0.1:{port}/"), format!("https://localhost:{port}/")] {
        let outcome = strict.send(&sos(), &to(url)).await;
        assert_eq!(outcome, SendOutcome::Rejected { fault: "forbidden_url" });
    }
    // A public name that resolves to this machine gets as far as the resolver, which knows no address for it.
    let by_name = Webhook::new(&Authorities::default(), Guard::allowing(["localhost".to_owned()]), clock);
    let hook = to(format!("http://localhost:{port}/"));
    assert_eq!(by_name.send(&sos(), &hook).await, SendOutcome::Accepted, "unless the operator allows it");
    assert_eq!(p.hook.got().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_says_never_or_not_now() {
    let p = Providers::start(&clock()).await;
    let provider = email(&p);
    let target = Target::Email { address: "bo@mail.example".into() };
    p.mail.refuse(["550 no such mailbox", "451 try later"]);
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Rejected { fault: "refused" });
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("not_taken"));
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::Accepted);
    assert_eq!(target.channel(), Channel::Email);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_tried_again() {
    let clock = clock();
    let p = Providers::start(&clock).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let provider = Webhook::new(&Authorities::default(), guard(), clock);
    let target = Target::Webhook { url: format!("http://{free}/"), secret: SECRET.into(), previous: None };
    assert_eq!(provider.send(&sos(), &target).await, SendOutcome::retry("connect"));
    drop(p);
}
