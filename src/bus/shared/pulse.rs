//! Whether a pair of connections hears what it says: it speaks to itself once a second.

use super::connect::{ANSWER, failure, within};
use crate::runtime::{Pace, repeat};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between words to oneself.
const EVERY: Duration = Duration::from_secs(1);
/// Not having heard oneself for so long makes others look for themselves.
const SUSPECT: Duration = Duration::from_millis(1_750);
/// And for so long, makes the connections anew.
const LOST: Duration = Duration::from_secs(3);

/// When a pair of connections last heard itself.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// Heard, or just connected and subscribed.
    pub(super) fn felt(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
    /// The connections are gone.
    pub(super) fn lost(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    fn is_older(&self, than: Duration, now: Instant) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_none_or(|at| now.duration_since(at) > than)
    }
    pub(super) fn is_suspect(&self) -> bool {
        self.is_older(SUSPECT, Instant::now())
    }

    /// Speaks to `channel` until nothing comes back.
    ///
    /// # Errors
    /// Always, in the end: why the connections are to be made anew.
    pub(super) async fn keep(&self, out: MultiplexedConnection, channel: &str) -> RedisResult<()> {
        let ended = repeat(Pace::of(EVERY), || {
            let mut out = out.clone();
            async move {
                within::<()>(ANSWER, out.publish(channel, b"")).await?;
                let deaf = self.is_older(LOST, Instant::now());
                if deaf { Err(failure("the connection does not hear what it says")) } else { Ok(()) }
            }
        });
        Err(ended.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_suspect_before_it_was_felt_and_when_it_is_old() {
        let pulse = Pulse::default();
        assert!(pulse.is_suspect());
        pulse.felt();
        assert!(!pulse.is_suspect());
        assert!(!pulse.is_older(SUSPECT, Instant::now() + EVERY), "one word may still be on its way");
        assert!(pulse.is_older(SUSPECT, Instant::now() + EVERY * 2));
        pulse.lost();
        assert!(pulse.is_suspect());
    }
}
