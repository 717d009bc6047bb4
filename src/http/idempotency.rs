//! Creating once: the id comes from the client's body, or from its `Idempotency-Key`.

use super::Problem;
use crate::id::derived;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

const HEADER: &str = "Idempotency-Key";
/// Bytes of a key, at most.
const MAX: usize = 255;

/// The key of a request that creates, if it has one.
pub(super) struct IdempotencyKey(Option<Vec<u8>>);

impl IdempotencyKey {
    /// The key if it is there and usable; for a request that is never refused.
    pub(super) fn lenient(headers: &HeaderMap) -> Self {
        Self::read(headers).unwrap_or(Self(None))
    }

    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(HEADER) else { return Ok(Self(None)) };
        if !(1..=MAX).contains(&value.len()) {
            return Err(Problem::invalid(HEADER, "1 to 255 characters"));
        }
        Ok(Self(Some(value.as_bytes().to_vec())))
    }

    /// The id that this owner's key stands for on this route: always the same one.
    pub(super) fn id(&self, owner: &[u8], route: &str) -> Option<Uuid> {
        Some(derived("idempotency", &[owner, route.as_bytes(), self.0.as_deref()?]))
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

/// The status of a creation: a repeat creates nothing.
pub(super) fn created(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_id_of_one_owner_on_one_route() {
        let headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), "k1".parse().unwrap())]);
        let key = IdempotencyKey::lenient(&headers);
        assert_eq!(key.id(b"u", "/v1/links"), key.id(b"u", "/v1/links"));
        assert_ne!(key.id(b"u", "/v1/links"), key.id(b"v", "/v1/links"));
        assert_ne!(key.id(b"u", "/v1/links"), key.id(b"u", "/v1/geofences"));
        assert_eq!(IdempotencyKey::lenient(&HeaderMap::new()).id(b"u", "/v1/links"), None);
    }
}
