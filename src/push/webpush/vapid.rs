//! Who sends, for push services (RFC 8292).

use super::WebPushSettings;
use crate::clock::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use serde::Serialize;

/// How long a token is good for; a day at most (RFC 8292, 2).
const LIFETIME_S: i64 = 12 * 3_600;

#[derive(Serialize)]
struct Claims<'a> {
    aud: String,
    exp: i64,
    sub: &'a str,
}

/// Signs requests to push services.
pub(super) struct Vapid {
    key: EncodingKey,
    public: String,
    subject: String,
}

impl Vapid {
    pub(super) fn new(settings: &WebPushSettings) -> Result<Self, &'static str> {
        if !settings.subject.starts_with("mailto:") && !settings.subject.starts_with("https:") {
            return Err("the subject is not a mailto: or https: URL");
        }
        let bad = "the key is not a P-256 private key in PEM (PKCS #8)";
        let key = EncodingKey::from_ec_pem(settings.key.as_bytes()).map_err(|_| bad)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| bad)?;
        let AlgorithmParameters::EllipticCurve(point) = jwk.algorithm else { return Err(bad) };
        let (x, y) = super::decode(&point.x).zip(super::decode(&point.y)).ok_or(bad)?;
        let public = URL_SAFE_NO_PAD.encode([&[4], &x[..], &y[..]].concat());
        Ok(Self { key, public, subject: settings.subject.clone() })
    }

    pub(super) fn public_key(&self) -> &str {
        &self.public
    }

    /// The value of `Authorization` for a request there.
    pub(super) fn authorization(
        &self,
        to: &Url,
        clock: &Clock,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            aud: to.origin().ascii_serialization(),
            exp: clock.now().unix_s() + LIFETIME_S,
            sub: &self.subject,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)?;
        // No space after the comma: some readers of this header take it for the end.
        Ok(format!("vapid t={token},k={}", self.public))
    }
}
