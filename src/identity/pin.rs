//! The PIN that ends an emergency, and the duress PIN that seems to.

use super::password::Queue;
use super::{Account, Hasher, IdentityError, IdentityStore};
use crate::clock::Clock;
use crate::typed;
use std::time::Duration;

/// Wrong PINs before a wait.
const TRIES: u32 = 5;
/// How long. Raising an emergency never waits for it.
const WAIT: Duration = Duration::from_secs(15 * 60);

/// What a PIN was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinOutcome {
    /// Right, or none is set.
    Accepted,
    /// The duress PIN.
    Duress,
}

/// Checks a PIN against an account. Both hashes are always checked, so that the answer takes as long for either.
///
/// # Errors
/// `PinRequired` if one is set and none given, `PinWrong`, `TooManyTries` while the wait lasts.
pub(super) async fn check(
    store: &dyn IdentityStore,
    hasher: &Hasher,
    clock: &Clock,
    account: &Account,
    pin: Option<&str>,
) -> Result<PinOutcome, IdentityError> {
    if account.pin_hash.is_none() && account.duress_hash.is_none() {
        return Ok(PinOutcome::Accepted);
    }
    let pin = &typed::in_ascii_digits(pin.ok_or(IdentityError::PinRequired)?);
    let now = clock.now();
    if let Some(until) = account.pin_locked_until.filter(|until| now < *until) {
        return Err(IdentityError::TooManyTries(until.since(now)));
    }
    let duress = hasher.check(Queue::Danger, pin.to_owned(), account.duress_hash.clone()).await?;
    let right = hasher.check(Queue::Danger, pin.to_owned(), account.pin_hash.clone()).await?;
    if !duress && !right {
        store.pin_failed(account.user, TRIES, now + WAIT).await?;
        return Err(IdentityError::PinWrong);
    }
    store.pin_passed(account.user).await?;
    Ok(if duress { PinOutcome::Duress } else { PinOutcome::Accepted })
}

/// A new PIN, in digits of ASCII whatever keyboard it was typed on.
///
/// # Errors
/// When it is not 4 to 12 digits.
pub(super) fn read(field: &'static str, pin: &str) -> Result<String, IdentityError> {
    let pin = typed::in_ascii_digits(pin);
    if (4..=12).contains(&pin.len()) && pin.bytes().all(|c| c.is_ascii_digit()) {
        Ok(pin)
    } else {
        Err(IdentityError::invalid(field, "4 to 12 digits"))
    }
}
