//! Who is calling. A handler that takes [`Access`] cannot be reached with a distress token.

use super::Problem;
use super::problem::Code;
use crate::identity::{Caller, bearer};
use crate::services::Services;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

/// A caller with an access token.
pub(super) struct Access(pub(super) Caller);

/// A caller with an access token or a distress token: for what must work in an emergency.
pub(super) struct Distress(pub(super) Caller);

impl FromRequestParts<Services> for Distress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(bearer);
        let token = token.ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "give a token: Authorization: Bearer <token>")
        })?;
        Ok(Self(services.identity.authenticate(token)?))
    }
}

impl FromRequestParts<Services> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let Distress(caller) = Distress::from_request_parts(parts, services).await?;
        if caller.session().is_none() {
            return Err(Problem::new(
                Code::Forbidden,
                "a distress token cannot do this; use an access token",
            ));
        }
        Ok(Self(caller))
    }
}
