//! The provider token: a signed statement of who sends. Apple wants a new one after 20 to 60 minutes, not sooner.

use crate::clock::{Clock, Monotonic};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A token is used for so long.
const USED: Duration = Duration::from_secs(40 * 60);
/// Apple refuses those who make them more often.
const SOONEST: Duration = Duration::from_secs(20 * 60);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

struct Made {
    text: Arc<str>,
    at: Monotonic,
    /// Apple said that it is too old, whatever our clock says.
    refused: bool,
}

/// Makes provider tokens.
pub(super) struct ProviderToken {
    key: EncodingKey,
    header: Header,
    team: String,
    made: Mutex<Option<Made>>,
}

impl ProviderToken {
    pub(super) fn new(pem: &str, key_id: &str, team: &str) -> Result<Self, &'static str> {
        let key =
            EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| "the key is not a P-256 key in PEM")?;
        let header = Header { typ: None, kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) };
        Ok(Self { key, header, team: team.to_owned(), made: Mutex::default() })
    }

    /// The token of this time.
    pub(super) fn current(&self, clock: &Clock) -> Result<Arc<str>, jsonwebtoken::errors::Error> {
        let now = clock.monotonic();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*made {
            let age = now.since(known.at);
            if age < SOONEST || (age < USED && !known.refused) {
                return Ok(known.text.clone());
            }
        }
        let claims = Claims { iss: &self.team, iat: clock.now().unix_s() };
        let text: Arc<str> = jsonwebtoken::encode(&self.header, &claims, &self.key)?.into();
        *made = Some(Made { text: text.clone(), at: now, refused: false });
        Ok(text)
    }

    /// Makes another as soon as Apple takes one.
    pub(super) fn renew(&self) {
        if let Some(made) = &mut *self.made.lock().unwrap_or_else(PoisonError::into_inner) {
            made.refused = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_token_is_used_for_forty_minutes_and_never_less_than_twenty() {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let text = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let clock = Clock::manual(Timestamp::from_unix_ms(1_800_000_000_000));
        let tokens = ProviderToken::new(&pem, "KEY", "TEAM").unwrap();
        let first = tokens.current(&clock).unwrap();
        clock.advance(USED - Duration::from_secs(1));
        assert_eq!(tokens.current(&clock).unwrap(), first);
        clock.advance(Duration::from_secs(1));
        let second = tokens.current(&clock).unwrap();
        assert_ne!(second, first);
        tokens.renew();
        clock.advance(SOONEST - Duration::from_secs(1));
        assert_eq!(tokens.current(&clock).unwrap(), second, "too soon for another");
        clock.advance(Duration::from_secs(1));
        assert_ne!(tokens.current(&clock).unwrap(), second);
        assert!(ProviderToken::new("nonsense", "KEY", "TEAM").is_err());
    }
}
