//! The contact's second device: a phone that sleeps, with no socket. Only a push reaches it, here a webhook.

use super::board::Board;
use super::contact::QUIET;
use crate::client::Api;
use crate::clock::Clock;
use anyhow::Context;
use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where it is pushed to. The guard of the demo's node has to let this host be asked.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// A signature is good for so long, as Standard Webhooks advises: who records a push cannot send it again later.
const TOLERANCE_S: u64 = 300;

/// What was pushed with a valid signature.
#[derive(Default, Debug)]
pub(super) struct Pushed {
    /// Messages that came, by their id: a push is handed over at least once, and a repeat is not news.
    known: BTreeSet<String>,
    /// The alerts among them that are emergencies.
    pub(super) emergencies: BTreeSet<String>,
    /// What must not have come.
    pub(super) faults: BTreeSet<&'static str>,
}

/// The sleeping phone.
pub(super) struct Sleeper {
    listener: TcpListener,
    receiver: Receiver,
}

struct Receiver {
    name: &'static str,
    key: hmac::Key,
    /// What no provider may read.
    private: Vec<String>,
    clock: Clock,
    board: Board,
    pushed: Mutex<Pushed>,
}

impl Sleeper {
    /// Signs the person in on it and registers its webhook. The server makes the secret.
    pub(super) async fn register(
        api: &Api,
        (handle, name): (&str, &'static str),
        private: Vec<String>,
        clock: &Clock,
        board: &Board,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((HOST, 0)).await?;
        let session = api.sign_in(handle, "sleeping phone").await?;
        let path = format!("/v1/devices/{}/push/webhook", session.device);
        let webhook = json!({"url": format!("http://{}/", listener.local_addr()?)});
        let made = api.call("PUT", &path, Some(&session.access), Some(&webhook)).await?.ok()?;
        let key = key(made["secret"].as_str().unwrap_or_default()).context("no secret for the webhook")?;
        let (clock, board) = (clock.clone(), board.clone());
        let receiver = Receiver { name, key, private, clock, board, pushed: Mutex::default() };
        Ok(Self { listener, receiver })
    }

    /// Takes what is pushed until `over` and a quiet moment.
    pub(super) async fn listen(self, over: CancellationToken) -> anyhow::Result<Pushed> {
        let receiver = Arc::new(self.receiver);
        let router = Router::new().route("/", post(take)).with_state(Arc::clone(&receiver));
        let end = async move {
            over.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        axum::serve(self.listener, router).with_graceful_shutdown(end).await?;
        let mut pushed = receiver.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *pushed))
    }
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: String) -> StatusCode {
    receiver.take(&headers, &body)
}

impl Receiver {
    fn take(&self, headers: &HeaderMap, body: &str) -> StatusCode {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_signed(&self.key, headers, body, self.clock.now().unix_s()) {
            // It is sent again, as one that came too late may be; that none ever fits is a fault of the story.
            return StatusCode::UNAUTHORIZED;
        }
        if !pushed.known.insert(header(headers, "webhook-id").to_owned()) {
            return StatusCode::NO_CONTENT;
        }
        let said: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if self.private.iter().any(|word| body.contains(word)) {
            pushed.faults.insert("no push with a name or a handle in it");
        }
        if has_fraction(&body.replace(&text(&said["timestamp"]), "")) {
            pushed.faults.insert("no push with a coordinate in it");
        }
        if said["type"] == "alert.emergency" {
            pushed.emergencies.insert(text(&said["data"]["alert"]));
        }
        let what = format!("is pushed on a sleeping phone: {}", text(&said["data"]["title"]));
        self.board.say(self.name, &what);
        StatusCode::NO_CONTENT
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn key(secret: &str) -> Option<hmac::Key> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

/// Checks as any receiver would, by the specification and not by what the server signs with.
fn is_signed(key: &hmac::Key, headers: &HeaderMap, body: &str, now_s: i64) -> bool {
    let (id, at) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let signed = format!("{id}.{at}.{body}");
    let fits = |signature: &str| {
        let tag = signature.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
        tag.is_some_and(|tag| hmac::verify(key, signed.as_bytes(), &tag).is_ok())
    };
    let fresh = at.parse::<i64>().is_ok_and(|at| now_s.abs_diff(at) <= TOLERANCE_S);
    fresh && header(headers, "webhook-signature").split(' ').any(fits)
}

/// Whether there is a number with a fraction: coordinates have one, and no text or id does.
fn has_fraction(text: &str) -> bool {
    let is_one = |w: &[u8]| w[0].is_ascii_digit() && w[1] == b'.' && w[2].is_ascii_digit();
    text.as_bytes().windows(3).any(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn only_what_was_signed_just_now_is_taken() {
        let key_of = |secret: &str| key(secret).unwrap();
        let (good, other) =
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (body, at) = (r#"{"test": 2432232314}"#, 1_614_265_330);
        let headers: HeaderMap = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,b3RoZXI= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        assert!(is_signed(&key_of(good), &headers, body, at + 300));
        assert!(!is_signed(&key_of(good), &headers, body, at + 301), "long ago");
        assert!(!is_signed(&key_of(good), &headers, "{}", at), "another body");
        assert!(!is_signed(&key_of(other), &headers, body, at), "another secret");
        assert!(!is_signed(&key_of(good), &HeaderMap::new(), body, at));
    }

    #[test]
    fn a_coordinate_is_seen() {
        assert!(has_fraction(r#"{"lat":34.015603}"#));
        assert!(!has_fraction(r#"{"alert":"0198c2f4-7b1e-7cc1-9a0e-5f2d3c4b5a69","title":"Help. 3 of 5."}"#));
    }
}
