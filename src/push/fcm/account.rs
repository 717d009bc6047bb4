//! The service account and its access token: a signed assertion is exchanged for a token of an hour (RFC 7523).

use super::super::outbound::exchange;
use super::super::{Outbound, SendOutcome};
use crate::clock::{Clock, Monotonic};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long an assertion is good for; Google takes at most an hour.
const ASSERTION_S: i64 = 3_600;
/// A token that ends sooner is exchanged ahead of need.
const AHEAD: Duration = Duration::from_secs(600);
/// A token that ends sooner is not used any more.
const SPARE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    project_id: String,
    token_uri: String,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    until: Monotonic,
}

/// Who sends.
pub(super) struct Account {
    file: KeyFile,
    key: EncodingKey,
    token: Mutex<Option<Token>>,
    /// One exchange at a time: a hundred sends without a token need one.
    turn: tokio::sync::Mutex<()>,
}

impl Account {
    pub(super) fn from_json(json: &str) -> Result<Self, &'static str> {
        let file: KeyFile = serde_json::from_str(json).map_err(|_| "not a service account's key file")?;
        let key = EncodingKey::from_rsa_pem(file.private_key.as_bytes());
        let key = key.map_err(|_| "its private_key is not an RSA key in PEM")?;
        Ok(Self { file, key, token: Mutex::default(), turn: tokio::sync::Mutex::default() })
    }

    pub(super) fn project(&self) -> &str {
        &self.file.project_id
    }

    /// A token that is good, exchanged now if there is none.
    pub(super) async fn token(&self, http: &Outbound, clock: &Clock) -> Result<Arc<str>, SendOutcome> {
        match self.good_for(SPARE, clock) {
            Some(token) => Ok(token),
            None => self.exchange(SPARE, http, clock).await,
        }
    }

    /// Exchanges ahead of need.
    pub(super) async fn refresh(&self, http: &Outbound, clock: &Clock) -> Result<(), SendOutcome> {
        match self.good_for(AHEAD, clock) {
            Some(_) => Ok(()),
            None => self.exchange(AHEAD, http, clock).await.map(|_| ()),
        }
    }

    /// FCM refused this token: the next send gets another.
    pub(super) fn distrust(&self, refused: &str) {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if token.as_ref().is_some_and(|t| &*t.text == refused) {
            *token = None;
        }
    }

    fn good_for(&self, spare: Duration, clock: &Clock) -> Option<Arc<str>> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        (token.until > clock.monotonic() + spare).then_some(token.text)
    }

    async fn exchange(
        &self,
        spare: Duration,
        http: &Outbound,
        clock: &Clock,
    ) -> Result<Arc<str>, SendOutcome> {
        let _turn = self.turn.lock().await;
        if let Some(token) = self.good_for(spare, clock) {
            return Ok(token);
        }
        let (asked_at, now) = (clock.monotonic(), clock.now().unix_s());
        let header = Header { kid: self.file.private_key_id.clone(), ..Header::new(Algorithm::RS256) };
        let assertion = Assertion {
            iss: &self.file.client_email,
            scope: SCOPE,
            aud: &self.file.token_uri,
            iat: now,
            exp: now + ASSERTION_S,
        };
        let signed = jsonwebtoken::encode(&header, &assertion, &self.key);
        let signed = signed.map_err(|_| SendOutcome::retry("assertion"))?;
        // The grant type percent-encoded; a JWT has nothing to encode.
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={signed}");
        let request = http.client()?.post(&self.file.token_uri);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let answer = exchange(request).await?;
        if !answer.status.is_success() {
            return Err(answer.retry(clock, "no_access_token"));
        }
        let granted: Granted =
            serde_json::from_slice(&answer.body).map_err(|_| SendOutcome::retry("no_access_token"))?;
        let text: Arc<str> = granted.access_token.into();
        let token = Token { text: text.clone(), until: asked_at + Duration::from_secs(granted.expires_in) };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(text)
    }
}
