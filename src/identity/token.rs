//! Tokens: EdDSA JWTs that any node checks alone, and the refresh token, a keyed hash that is nowhere stored.

use super::{IdentityError, Session};
use crate::clock::{Clock, Timestamp};
use crate::id::{DeviceId, SessionId, UserId};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long an access token is good for.
pub(super) const ACCESS: Duration = Duration::from_secs(15 * 60);
/// How long a distress token is good for.
pub(super) const DISTRESS: Duration = Duration::from_secs(180 * 24 * 3600);
/// How far two nodes' clocks may be apart (RFC 8725 leaves it to us).
const SKEW: Duration = Duration::from_secs(60);
const ACCESS_TYPE: &str = "at+jwt";
const DISTRESS_TYPE: &str = "cima-distress+jwt";

/// What a token may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Everything its person may do.
    Access(SessionId),
    /// Raise, end with PIN, send fixes; reads nothing.
    Distress,
}

/// Who is calling, proved by a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// On what.
    pub device: DeviceId,
    /// With which token.
    pub kind: TokenKind,
    /// Until when it is accepted.
    pub until: Timestamp,
}

impl Caller {
    /// The session, if the token is one that may read.
    pub fn session(&self) -> Option<SessionId> {
        match self.kind {
            TokenKind::Access(session) => Some(session),
            TokenKind::Distress => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    did: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sid: Option<SessionId>,
    aud: String,
    iss: String,
    iat: i64,
    exp: i64,
}

/// The key that signs tokens, and what is derived from it.
pub struct SigningKey {
    signs: EncodingKey,
    checks: DecodingKey,
    public: String,
    kid: String,
    refresh: hmac::Key,
    marks: hmac::Key,
}

impl SigningKey {
    /// A new key, as PEM (PKCS #8).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate_pem() -> Result<String, IdentityError> {
        let key = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new())
            .map_err(|_| IdentityError::Internal("no randomness for a signing key".into()))?;
        let body = STANDARD.encode(key.as_ref());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
    }

    /// Reads an Ed25519 private key from PEM (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it).
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let wrong = || {
            IdentityError::Internal("the signing key is not an Ed25519 private key in PEM (PKCS #8)".into())
        };
        let body: String = pem.lines().filter(|l| !l.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).map_err(|_| wrong())?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| wrong())?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let derive = |what: &str| {
            let root = hmac::Key::new(hmac::HMAC_SHA256, &der);
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, what.as_bytes()).as_ref())
        };
        let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
        Ok(Self {
            signs: EncodingKey::from_ed_der(&der),
            checks: DecodingKey::from_ed_components(&public).map_err(|_| wrong())?,
            kid: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()).as_ref()),
            public,
            refresh: derive("cima refresh tokens 1"),
            marks: derive("cima handle marks 1"),
        })
    }

    /// The public part, as a JWK set (RFC 7517; the key id is its RFC 7638 thumbprint).
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.public,
        }]})
    }

    /// The access and the distress token of a session.
    pub(super) fn sign(&self, session: &Session, now: Timestamp) -> Result<(String, String), IdentityError> {
        let access = self.sign_one(ACCESS_TYPE, session, Some(session.id), "cima", now, ACCESS)?;
        let distress = self.sign_one(DISTRESS_TYPE, session, None, "cima-distress", now, DISTRESS)?;
        Ok((access, distress))
    }

    fn sign_one(
        &self,
        kind: &str,
        session: &Session,
        sid: Option<SessionId>,
        aud: &str,
        now: Timestamp,
        good_for: Duration,
    ) -> Result<String, IdentityError> {
        let header =
            Header { typ: Some(kind.into()), kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let claims = Claims {
            sub: session.user,
            did: session.device,
            sid,
            aud: aud.into(),
            iss: "cima".into(),
            iat: now.unix_s(),
            exp: (now + good_for).unix_s(),
        };
        jsonwebtoken::encode(&header, &claims, &self.signs)
            .map_err(|e| IdentityError::Internal(format!("a token could not be signed: {e}")))
    }

    /// Who a token is, by its signature and its times alone.
    ///
    /// # Errors
    /// [`IdentityError::Unauthenticated`] for anything but a token of ours that is good now.
    pub(super) fn check(&self, token: &str, clock: &Clock) -> Result<Caller, IdentityError> {
        let refused = |_| IdentityError::Unauthenticated("the token is not valid");
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&["cima", "cima-distress"]);
        rules.set_issuer(&["cima"]);
        rules.required_spec_claims = ["exp", "aud", "iss"].into_iter().map(String::from).collect();
        // The library would ask the system's clock; ours is asked below.
        rules.validate_exp = false;
        let data = jsonwebtoken::decode::<Claims>(token, &self.checks, &rules).map_err(refused)?;
        let claims = data.claims;
        let kind = match (data.header.typ.as_deref(), claims.aud.as_str(), claims.sid) {
            (Some(ACCESS_TYPE), "cima", Some(session)) => TokenKind::Access(session),
            (Some(DISTRESS_TYPE), "cima-distress", None) => TokenKind::Distress,
            _ => return Err(IdentityError::Unauthenticated("the token is of no known kind")),
        };
        let until = Timestamp::from_unix_ms(claims.exp.saturating_mul(1000)) + SKEW;
        if clock.now() >= until {
            return Err(IdentityError::Unauthenticated("the token has expired"));
        }
        Ok(Caller { user: claims.sub, device: claims.did, kind, until })
    }

    /// The refresh token of a session's generation: `id.generation.mac`.
    pub(super) fn refresh_token(&self, session: &Session, generation: i64) -> String {
        let tag = hmac::sign(&self.refresh, &refresh_message(session.id, &session.salt, generation));
        format!("{}.{generation}.{}", session.id.0.simple(), URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// The session and generation that a refresh token names; its mac is checked by [`SigningKey::is_refresh`].
    pub(super) fn read_refresh(token: &str) -> Option<(SessionId, i64, Vec<u8>)> {
        let mut parts = token.splitn(3, '.');
        let id = parts.next()?.parse().ok()?;
        let generation = parts.next()?.parse().ok()?;
        Some((id, generation, URL_SAFE_NO_PAD.decode(parts.next()?).ok()?))
    }

    /// Whether the mac of a refresh token is ours.
    pub(super) fn is_refresh(&self, session: &Session, generation: i64, tag: &[u8]) -> bool {
        hmac::verify(&self.refresh, &refresh_message(session.id, &session.salt, generation), tag).is_ok()
    }

    /// What is kept of a handle for ever, so that it is never given to anybody else.
    pub(super) fn handle_mark(&self, folded: &str) -> Vec<u8> {
        hmac::sign(&self.marks, folded.as_bytes()).as_ref().to_vec()
    }
}

fn refresh_message(id: SessionId, salt: &[u8], generation: i64) -> Vec<u8> {
    [id.0.as_bytes().as_slice(), &generation.to_be_bytes(), salt].concat()
}

/// Random bytes for a session's salt.
pub(super) fn random_salt() -> Result<Vec<u8>, IdentityError> {
    let mut salt = vec![0; 32];
    rand::fill(&mut salt).map_err(|_| IdentityError::Internal("no randomness".into()))?;
    Ok(salt)
}
