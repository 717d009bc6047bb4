//! Webhooks, signed as Standard Webhooks says (<https://www.standardwebhooks.com>).

mod sign;

pub use sign::signatures;
pub(super) use sign::{fresh_secret, key};

use super::outbound::exchange;
use super::{Authorities, Guard, Notification, Outbound, Provider, SendOutcome, Target, text};
use crate::clock::Clock;
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// One long-lived client of all webhooks.
pub struct Webhook {
    guard: Guard,
    http: Outbound,
    clock: Clock,
}

impl Webhook {
    /// URLs are what people give, so they pass the guard.
    pub fn new(authorities: &Authorities, guard: Guard, clock: Clock) -> Self {
        let around = guard.clone();
        let http = Outbound::new(authorities.clone(), move |b| around.around(b));
        Self { guard, http, clock }
    }
}

fn payload(notification: &Notification, now: crate::clock::Timestamp) -> Value {
    let (title, body) = text::texts(notification.matter, &notification.locale);
    json!({
        "type": format!("alert.{}", notification.matter.word()),
        "timestamp": now,
        "data": {
            "alert": notification.alert,
            "urgency": notification.urgency.word(),
            "title": title,
            "body": body,
        },
    })
}

#[async_trait]
impl Provider for Webhook {
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        let Target::Webhook { url, secret, previous } = target else {
            return SendOutcome::Rejected { fault: "wrong_channel" };
        };
        let Ok(url) = self.guard.check(url) else { return SendOutcome::Rejected { fault: "forbidden_url" } };
        let now = self.clock.now();
        let body = payload(notification, now).to_string();
        let before = previous.as_ref().filter(|p| p.until_ms > now.unix_ms()).map(|p| p.secret.as_str());
        let secrets: Vec<&str> = [Some(secret.as_str()), before].into_iter().flatten().collect();
        // The same for every try, so that a receiver knows a repeat.
        let id = format!("msg_{}", notification.alert.0.simple());
        let Some(signed) = signatures(&secrets, &id, now.unix_s(), &body) else {
            return SendOutcome::Rejected { fault: "bad_secret" };
        };
        let client = match self.http.client() {
            Ok(client) => client,
            Err(outcome) => return outcome,
        };
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.unix_s().to_string())
            .header("webhook-signature", signed)
            .body(body);
        match exchange(request).await {
            Ok(answer) if answer.status.is_success() => SendOutcome::Accepted,
            Ok(answer) if answer.status == StatusCode::GONE => SendOutcome::Unregistered { since: None },
            // A receiver's own fault may be mended; a redirect is never followed.
            Ok(answer) => answer.retry(&self.clock, "not_taken"),
            Err(outcome) => outcome,
        }
    }
}
