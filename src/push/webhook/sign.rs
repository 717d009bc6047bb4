//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body.

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &str = "whsec_";
/// Bytes of a secret (Standard Webhooks: 24 to 64).
const MADE: usize = 32;

/// The key in a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.
pub(in crate::push) fn key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX).unwrap_or(secret)).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// A new secret; `None` without randomness.
pub(in crate::push) fn fresh_secret() -> Option<String> {
    let mut key = [0; MADE];
    rand::fill(&mut key).ok()?;
    Some(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// The value of `webhook-signature`: one signature for each secret. `None` if a secret is none.
pub fn signatures(secrets: &[&str], id: &str, timestamp_s: i64, body: &str) -> Option<String> {
    let signed = format!("{id}.{timestamp_s}.{body}");
    let sign = |secret: &&str| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key(secret)?), signed.as_bytes());
        Some(format!("v1,{}", STANDARD.encode(tag.as_ref())))
    };
    secrets.iter().map(sign).collect::<Option<Vec<_>>>().map(|all| all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_published_example_comes_out() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(&[secret], id, at, body).unwrap(), expected);
        let other = fresh_secret().unwrap();
        let both = signatures(&[&other, secret], id, at, body).unwrap();
        assert!(both.ends_with(&format!(" {expected}")) && both.starts_with("v1,"));
        assert!(signatures(&["whsec_c2hvcnQ="], id, at, body).is_none());
    }
}
