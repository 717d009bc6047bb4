//! A session: one sign-in on one device, and what a client gets for it.

use super::DeviceIn;
use crate::clock::Timestamp;
use crate::id::{DeviceId, SessionId, UserId};
use serde::{Deserialize, Serialize};

/// What a person gives to sign in.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// As given at sign-up; case does not matter.
    #[schema(pattern = "^[A-Za-z0-9_.]{3,32}$")]
    pub handle: String,
    /// The password.
    pub password: String,
    /// What they sign in on.
    pub device: DeviceIn,
}

/// Proof that it is really the person at the device: one of the two.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// The password.
    pub password: Option<String>,
    /// The PIN.
    pub pin: Option<String>,
}

/// A session as stored. The refresh token is not stored: it is a keyed hash of `salt` and `generation`.
#[derive(Clone)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Random; part of what the refresh token is made of.
    pub salt: Vec<u8>,
    /// Which refresh token is the current one.
    pub generation: i64,
    /// When it became the current one.
    pub rotated_at: Timestamp,
    /// Until when it may do what needs step-up.
    pub stepped_up_until: Timestamp,
}

/// The answer to a sign-in and to a refresh.
#[derive(Clone, Serialize, utoipa::ToSchema)]
pub struct SessionTokens {
    /// Who.
    pub user_id: UserId,
    /// On what.
    pub device_id: DeviceId,
    /// EdDSA JWT; any node checks it alone.
    pub access_token: String,
    /// Seconds the access token is good for.
    pub expires_in: u64,
    /// For `POST /v1/sessions/refresh`, once.
    pub refresh_token: String,
    /// 180 days; raises, ends with PIN, sends fixes; reads nothing.
    pub distress_token: String,
}
