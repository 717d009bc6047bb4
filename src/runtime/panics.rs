//! A panic as an answer, so that one unit of work takes nothing else along.

use super::Tasks;
use futures_util::FutureExt;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work that panicked, and what it said.
#[derive(Debug)]
pub struct Panicked(String);

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or(payload.downcast_ref::<&str>().copied());
        Self(said.unwrap_or("it said nothing").to_owned())
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.0)
    }
}

/// Runs work to its end, or to its panic. Whoever calls it vouches for what the work shares with others: that a panic in
/// the middle leaves it usable.
///
/// # Errors
/// When it panicked.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| Panicked::of(payload.as_ref()))
}

/// As [`caught`], of work that does not wait.
///
/// # Errors
/// When it panicked.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::of(payload.as_ref()))
}

impl Tasks {
    /// Makes a task's deaths countable from the start on.
    pub(super) fn expect(name: &'static str) {
        metrics::counter!("cima_task_deaths_total", "task" => name).increment(0);
    }

    /// Says that a task died, and of what.
    pub(super) fn died(name: &'static str, of: &Panicked) {
        metrics::counter!("cima_task_deaths_total", "task" => name).increment(1);
        tracing::error!(task = name, reason = %of, "a task died");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_with_its_words() {
        assert_eq!(caught(async { 7 }).await.unwrap(), 7);
        let died = caught::<()>(async { panic!("no {}", "way") }).await.unwrap_err();
        assert_eq!(died.to_string(), "panicked: no way");
        assert_eq!(attempt::<()>(|| panic!("stop")).unwrap_err().to_string(), "panicked: stop");
    }
}
