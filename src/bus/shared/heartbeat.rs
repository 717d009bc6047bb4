//! Whether a pair of connections still works: it publishes to itself once a second and must receive that.

use super::connect::{ANSWER, failure, within};
use crate::runtime::{Pace, repeat};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two heartbeats.
const EVERY: Duration = Duration::from_secs(1);
/// Without a heartbeat for so long, hints may be lost: whoever waits for one polls more often.
const SUSPECT: Duration = Duration::from_millis(1_750);
/// Without one for so long, the connections are made anew.
const LOST: Duration = Duration::from_secs(3);

/// When a pair of connections last received its own heartbeat.
#[derive(Default)]
pub(super) struct Heartbeat(Mutex<Option<Instant>>);

impl Heartbeat {
    /// One was received, or the connections are new and subscribed.
    pub(super) fn heard(&self) {
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

    /// Publishes to `channel`, which the same pair subscribes to, until nothing comes back.
    ///
    /// # Errors
    /// Always, in the end: why the connections are to be made anew.
    pub(super) async fn beat(&self, out: MultiplexedConnection, channel: &str) -> RedisResult<()> {
        let ended = repeat(Pace::of(EVERY), || {
            let mut out = out.clone();
            async move {
                within::<()>(ANSWER, out.publish(channel, b"")).await?;
                let deaf = self.is_older(LOST, Instant::now());
                if deaf { Err(failure("the connection does not receive its own heartbeat")) } else { Ok(()) }
            }
        });
        Err(ended.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_suspect_before_its_first_heartbeat_and_when_the_last_is_old() {
        let heartbeat = Heartbeat::default();
        assert!(heartbeat.is_suspect());
        heartbeat.heard();
        assert!(!heartbeat.is_suspect());
        assert!(!heartbeat.is_older(SUSPECT, Instant::now() + EVERY), "one may still be on its way");
        assert!(heartbeat.is_older(SUSPECT, Instant::now() + EVERY * 2));
        heartbeat.lost();
        assert!(heartbeat.is_suspect());
    }
}
