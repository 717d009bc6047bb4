//! Identity: accounts, devices, sessions and the tokens that any node can check alone.
//!
//! Three tokens, each with one use. The **access token** (EdDSA JWT, 15 min) does everything for its person. The
//! **refresh token** makes the next one and is rotated at every use. The **distress token** (EdDSA JWT, 180 days)
//! raises, ends with PIN and sends fixes, and reads nothing, so that an expired session never blocks an SOS.

mod account;
mod bearer;
mod device;
mod password;
mod pin;
mod refusal;
mod revocation;
mod service;
mod session;
mod store;
mod token;

pub use account::{Account, AccountPatch, NewAccount, Profile, SignUp};
pub use bearer::bearer;
pub use device::{Device, DeviceIn, Platform};
pub use password::Hasher;
pub use pin::PinOutcome;
pub use refusal::IdentityError;
pub use revocation::Revocations;
pub use service::{Identity, ProfileChange};
pub use session::{Session, SessionTokens, SignIn, StepUp};
pub use store::{AccountCreated, IdentityStore, NewSession, Revoked, Rotation};
pub use token::{Caller, SigningKey, TokenKind};
