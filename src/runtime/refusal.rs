//! What is refused for good, and what another try may bring; and what is set aside because of it.

use super::{Panicked, caught};
use crate::error::{Fault, StoreError, Stored};
use std::fmt::{self, Display};
use std::future::Future;

/// Why a unit of work was not done.
#[derive(Debug)]
pub enum Refusal {
    /// The store does not answer: the same may work later.
    Passing(StoreError),
    /// Another try would meet the same: the store cannot take it or read it, or the work on it panicked.
    Lasting(String),
}

impl Refusal {
    /// Whether the store had not answered by the deadline.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Passing(error) if error.kind() == Fault::Timeout)
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing(error) => error.fmt(f),
            Self::Lasting(reason) => reason.fmt(f),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if error.is_passing() { Self::Passing(error) } else { Self::Lasting(error.to_string()) }
    }
}

/// For a caller who has to hand it on.
impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Passing(error) => error,
            Refusal::Lasting(reason) => Self::new(Fault::Corrupt, reason),
        }
    }
}

impl From<Panicked> for Refusal {
    fn from(panicked: Panicked) -> Self {
        Self::Lasting(panicked.to_string())
    }
}

/// Does a unit of work that must take nothing else along.
///
/// # Errors
/// When it failed or panicked.
pub async fn tried<T>(work: impl Future<Output = Stored<T>>) -> Result<T, Refusal> {
    Ok(caught(work).await??)
}

/// Counts and tells what of one kind is set aside. The count is there from the start on.
#[derive(Clone, Copy, Debug)]
pub struct SetAside(&'static str);

impl SetAside {
    /// Of this kind.
    pub fn of(what: &'static str) -> Self {
        metrics::counter!("cima_set_aside_total", "what" => what).increment(0);
        Self(what)
    }

    /// Says that a unit was set aside, by its ids, and why.
    pub fn note(&self, unit: impl Display, why: impl Display) {
        metrics::counter!("cima_set_aside_total", "what" => self.0).increment(1);
        tracing::error!(what = self.0, %unit, %why, "set aside: it is refused for good and holds up nothing else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_another_try_may_bring_is_told_from_what_it_cannot() {
        let passing = tried(async { Err::<(), _>(StoreError::new(Fault::Busy, "busy")) }).await;
        assert!(matches!(passing, Err(Refusal::Passing(_))));
        let lasting = tried(async { Err::<(), _>(StoreError::new(Fault::Corrupt, "a column")) }).await;
        assert!(matches!(lasting, Err(Refusal::Lasting(_))));
        let died = tried::<()>(async { panic!("a bug") }).await;
        assert_eq!(died.unwrap_err().to_string(), "panicked: a bug");
    }
}
