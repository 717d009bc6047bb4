//! Firebase Cloud Messaging, HTTP v1.

mod account;
mod payload;

use super::outbound::{Answer, exchange};
use super::{Authorities, Notification, Outbound, Provider, SendOutcome, Target};
use crate::clock::Clock;
use account::Account;
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use serde_json::Value;

/// What FCM is reached with.
#[derive(Clone)]
pub struct FcmSettings {
    /// The service account's key file, as Google gives it: JSON.
    pub credentials: String,
    /// Where FCM is.
    pub url: String,
}

/// One long-lived client of FCM.
pub struct Fcm {
    account: Account,
    endpoint: String,
    http: Outbound,
    clock: Clock,
}

impl Fcm {
    /// From settings.
    ///
    /// # Errors
    /// When the credentials cannot be used; no part of them is in the text.
    pub fn new(
        settings: &FcmSettings,
        authorities: &Authorities,
        clock: Clock,
    ) -> Result<Self, &'static str> {
        let account = Account::from_json(&settings.credentials)?;
        let endpoint =
            format!("{}/v1/projects/{}/messages:send", settings.url.trim_end_matches('/'), account.project());
        Ok(Self { account, endpoint, http: Outbound::new(authorities.clone(), |b| b), clock })
    }
}

#[async_trait]
impl Provider for Fcm {
    async fn warm(&self) {
        if let Err(outcome) = self.account.refresh(&self.http, &self.clock).await {
            tracing::warn!(outcome = outcome.word(), "no access token for FCM; it is tried again");
        }
    }

    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        let Target::Fcm { token } = target else { return SendOutcome::Rejected { fault: "wrong_channel" } };
        let bearer = match self.account.token(&self.http, &self.clock).await {
            Ok(bearer) => bearer,
            Err(outcome) => return outcome,
        };
        let client = match self.http.client() {
            Ok(client) => client,
            Err(outcome) => return outcome,
        };
        let body = payload::message(notification, token, self.clock.now());
        let request =
            client.post(&self.endpoint).header(AUTHORIZATION, format!("Bearer {bearer}")).json(&body);
        match exchange(request).await {
            Ok(answer) => self.read(&answer, &bearer),
            Err(outcome) => outcome,
        }
    }
}

impl Fcm {
    /// <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>
    fn read(&self, answer: &Answer, bearer: &str) -> SendOutcome {
        if answer.status.is_success() {
            return SendOutcome::Accepted;
        }
        let body = answer.json();
        let details = body["error"]["details"].as_array().map(Vec::as_slice).unwrap_or_default();
        let code = details.iter().find_map(|d| d["errorCode"].as_str()).unwrap_or_default();
        match (answer.status, code) {
            (StatusCode::NOT_FOUND, _) | (_, "UNREGISTERED") => SendOutcome::Unregistered { since: None },
            (StatusCode::BAD_REQUEST, _) if names_the_token(details) => {
                SendOutcome::Unregistered { since: None }
            }
            (StatusCode::BAD_REQUEST, _) => SendOutcome::Rejected { fault: "invalid_argument" },
            (_, "SENDER_ID_MISMATCH") => SendOutcome::Rejected { fault: "sender_id_mismatch" },
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                self.account.distrust(bearer);
                answer.retry(&self.clock, "unauthorized")
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => answer.retry(&self.clock, "quota_exceeded"),
            (status, _) if status.is_server_error() => answer.retry(&self.clock, "unavailable"),
            _ => SendOutcome::Rejected { fault: "refused" },
        }
    }
}

/// An invalid argument may be the token or anything else of the message; only the first is the endpoint's end.
fn names_the_token(details: &[Value]) -> bool {
    let violations = details.iter().filter_map(|d| d["fieldViolations"].as_array()).flatten();
    violations.into_iter().any(|v| v["field"] == "message.token")
}
