//! Apple's push notification service, over HTTP/2 with a provider token.

mod payload;
mod token;

use super::outbound::{Answer, exchange};
use super::{Authorities, Notification, Outbound, Provider, SendOutcome, Target, Urgency};
use crate::clock::{Clock, Timestamp};
use async_trait::async_trait;
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use token::ProviderToken;

/// What APNs is reached with.
#[derive(Clone)]
pub struct ApnsSettings {
    /// The `.p8` file, as Apple gives it: a P-256 key in PEM.
    pub key: String,
    /// The id of the key.
    pub key_id: String,
    /// The developer team.
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
    /// Where APNs is.
    pub url: String,
    /// The app has Apple's entitlement for critical alerts: an emergency sounds on a muted phone.
    pub critical: bool,
}

/// One long-lived client of APNs.
pub struct Apns {
    token: ProviderToken,
    base: Url,
    topic: String,
    critical: bool,
    http: Outbound,
    clock: Clock,
}

impl Apns {
    /// From settings.
    ///
    /// # Errors
    /// When the key or the address cannot be used; no part of them is in the text.
    pub fn new(
        settings: &ApnsSettings,
        authorities: &Authorities,
        clock: Clock,
    ) -> Result<Self, &'static str> {
        let base = Url::parse(&settings.url).map_err(|_| "the address of APNs is not a URL")?;
        if base.cannot_be_a_base() {
            return Err("the address of APNs is not a URL");
        }
        // Apple closes connections that come and go as an attack: this one stays.
        let http = Outbound::new(authorities.clone(), |b| b.pool_idle_timeout(None).http2_prior_knowledge());
        Ok(Self {
            token: ProviderToken::new(&settings.key, &settings.key_id, &settings.team_id)?,
            base,
            topic: settings.topic.clone(),
            critical: settings.critical,
            http,
            clock,
        })
    }

    fn url(&self, token: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["3", "device", token]);
        }
        url
    }
}

#[async_trait]
impl Provider for Apns {
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        let Target::Apns { token } = target else { return SendOutcome::Rejected { fault: "wrong_channel" } };
        let Ok(bearer) = self.token.current(&self.clock) else { return SendOutcome::retry("provider_token") };
        let client = match self.http.client() {
            Ok(client) => client,
            Err(outcome) => return outcome,
        };
        let priority = match notification.urgency {
            Urgency::Emergency => "10",
            Urgency::Routine => "5",
        };
        let request = client
            .post(self.url(token))
            // Apple's documents write the scheme in lower case.
            .header(AUTHORIZATION, format!("bearer {bearer}"))
            .header("apns-topic", &self.topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", priority)
            .header("apns-expiration", notification.until.unix_s().to_string())
            .header("apns-collapse-id", notification.alert.to_string())
            .json(&payload::aps(notification, self.critical));
        match exchange(request).await {
            Ok(answer) => self.read(&answer),
            Err(outcome) => outcome,
        }
    }
}

impl Apns {
    /// Apple, "Handling notification responses from APNs".
    fn read(&self, answer: &Answer) -> SendOutcome {
        if answer.status.is_success() {
            return SendOutcome::Accepted;
        }
        let body = answer.json();
        match (answer.status, body["reason"].as_str().unwrap_or_default()) {
            (StatusCode::GONE, _) | (_, "Unregistered" | "ExpiredToken" | "BadDeviceToken") => {
                let since = body["timestamp"].as_i64().map(Timestamp::from_unix_ms);
                SendOutcome::Unregistered { since }
            }
            (_, "ExpiredProviderToken") => {
                self.token.renew();
                answer.retry(&self.clock, "expired_provider_token")
            }
            (StatusCode::FORBIDDEN, _) => answer.retry(&self.clock, "unauthorized"),
            (StatusCode::TOO_MANY_REQUESTS, _) => answer.retry(&self.clock, "too_many_requests"),
            (status, _) if status.is_server_error() => answer.retry(&self.clock, "unavailable"),
            (_, "DeviceTokenNotForTopic") => SendOutcome::Rejected { fault: "not_for_topic" },
            _ => SendOutcome::Rejected { fault: "refused" },
        }
    }
}
