//! Web Push: RFC 8030, its encryption (RFC 8291) and its signature (RFC 8292).

mod encrypt;
mod payload;
mod vapid;

pub use encrypt::encrypt;

use super::outbound::{Answer, exchange};
use super::{Authorities, Guard, Notification, Outbound, Provider, SendOutcome, Target, Urgency};
use crate::clock::Clock;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use vapid::Vapid;

/// What push services know us by.
#[derive(Clone)]
pub struct WebPushSettings {
    /// A P-256 private key in PEM (PKCS #8).
    pub key: String,
    /// Whom a push service may ask: `mailto:` or `https:`.
    pub subject: String,
}

/// One long-lived client of all push services.
pub struct WebPush {
    vapid: Vapid,
    guard: Guard,
    http: Outbound,
    clock: Clock,
}

impl WebPush {
    /// From settings; endpoints are URLs that people give, so they pass the guard.
    ///
    /// # Errors
    /// When the key or the subject cannot be used; no part of them is in the text.
    pub fn new(
        settings: &WebPushSettings,
        authorities: &Authorities,
        guard: Guard,
        clock: Clock,
    ) -> Result<Self, &'static str> {
        let vapid = Vapid::new(settings)?;
        let around = guard.clone();
        let http = Outbound::new(authorities.clone(), move |b| around.around(b));
        Ok(Self { vapid, guard, http, clock })
    }

    /// The key that a browser subscribes with (`applicationServerKey`): base64url of an uncompressed point.
    pub fn public_key(&self) -> &str {
        self.vapid.public_key()
    }
}

/// Decodes base64url, padded or not, as browsers and their libraries write it.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[async_trait]
impl Provider for WebPush {
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        let Target::Webpush { endpoint, p256dh, auth } = target else {
            return SendOutcome::Rejected { fault: "wrong_channel" };
        };
        let Ok(url) = self.guard.check(endpoint) else {
            return SendOutcome::Rejected { fault: "forbidden_url" };
        };
        let keys = decode(p256dh).zip(decode(auth));
        let plain = payload::message(notification).to_string();
        let sealed = keys.and_then(|(key, auth)| encrypt::for_browser(plain.as_bytes(), &key, &auth));
        let Some(sealed) = sealed else { return SendOutcome::Rejected { fault: "bad_keys" } };
        let Ok(signed) = self.vapid.authorization(&url, &self.clock) else {
            return SendOutcome::retry("vapid_token");
        };
        let client = match self.http.client() {
            Ok(client) => client,
            Err(outcome) => return outcome,
        };
        let urgency = match notification.urgency {
            Urgency::Emergency => "high",
            Urgency::Routine => "normal",
        };
        let request = client
            .post(url)
            .header(AUTHORIZATION, signed)
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("ttl", notification.ttl_s(self.clock.now()).to_string())
            .header("urgency", urgency)
            // At most 32 characters of base64url (RFC 8030, 5.4): an id has 22.
            .header("topic", URL_SAFE_NO_PAD.encode(notification.alert.0.as_bytes()))
            .body(sealed);
        match exchange(request).await {
            Ok(answer) => self.read(&answer),
            Err(outcome) => outcome,
        }
    }
}

impl WebPush {
    fn read(&self, answer: &Answer) -> SendOutcome {
        match answer.status {
            status if status.is_success() => SendOutcome::Accepted,
            StatusCode::NOT_FOUND | StatusCode::GONE => SendOutcome::Unregistered { since: None },
            StatusCode::TOO_MANY_REQUESTS => answer.retry(&self.clock, "too_many_requests"),
            status if status.is_server_error() => answer.retry(&self.clock, "unavailable"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                SendOutcome::Rejected { fault: "unauthorized" }
            }
            _ => SendOutcome::Rejected { fault: "refused" },
        }
    }
}
