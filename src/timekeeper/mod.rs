//! The time of all nodes: the store's clock, carried on by each node's monotonic clock.
//!
//! A node's own wall clock decides nothing, so one that is an hour wrong does no harm. The store's clock may be set too: the
//! database's server, or the machine of a node that stores in its own files. A countdown is a duration: when a node
//! sees, between two of its looks, that the store's clock went another way than its monotonic one, it moves what is due
//! by the same, once for all nodes ([`TimeStore::step`]), and then goes by the new time. `rule.rs` says what a look means.
//!
//! What it cannot know: whether time passed while no node ran. A clock that is set forward then makes due what is
//! due by it; one that is set back counts from when it was last seen. And a whole fleet that stood still (a paused machine
//! with its database elsewhere) takes the pause for a step: its countdowns are late by it.

mod rule;
mod store;

pub use store::{Seen, TimeStore};

use crate::clock::{Clock, Timestamp};
use crate::error::{Fault, StoreError, Stored};
use crate::runtime::Mechanism;
use rule::{Known, Verdict};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Looks until what was seen has been acted on. More are a clock that is set again and again.
const LOOKS: usize = 4;
/// Beyond that a clock is called wrong.
pub const WRONG: Duration = Duration::from_secs(2);

/// Keeps a node's clock.
pub struct Timekeeper {
    clock: Clock,
    store: Arc<dyn TimeStore>,
    known: Mutex<Option<Known>>,
}

impl Timekeeper {
    /// Of a clock that does not know the time of the other nodes yet.
    pub fn new(clock: Clock, store: Arc<dyn TimeStore>) -> Self {
        Self { clock, store, known: Mutex::new(None) }
    }

    /// Asks the store, and sets the clock by it; whether what was known of the time before no longer holds. It writes, so an
    /// answer also says that the store takes emergencies.
    ///
    /// # Errors
    /// When the store takes nothing now.
    pub async fn look(&self) -> Stored<bool> {
        let mut moved = false;
        for _ in 0..LOOKS {
            let asked = self.clock.monotonic();
            let seen = self.store.seen(self.clock.wall()).await?;
            let took = self.clock.monotonic().since(asked);
            if !self.clock.follows_the_world() {
                return Ok(false);
            }
            if !Mechanism::StoreClock.works() {
                self.clock.set(self.clock.wall());
                return Ok(false);
            }
            let verdict = rule::judge(self.known().as_ref(), &seen, asked, took);
            match verdict {
                Verdict::Goes => {
                    self.show();
                    return Ok(moved);
                }
                Verdict::Is(known) => {
                    moved |= self.goes_by(known);
                    self.show();
                    return Ok(moved);
                }
                Verdict::Step { by_ms, undoes } => {
                    if self.store.step(seen.steps, by_ms, undoes, self.clock.wall()).await? {
                        tracing::warn!(by_ms, undoes, "the store's clock was set; what is due moves with it");
                        metrics::counter!("cima_clock_steps_total").increment(1);
                    }
                    moved = true;
                }
            }
        }
        Err(StoreError::new(Fault::Busy, "the store's clock does not stand still"))
    }

    /// How far this machine's clock is ahead of the time that the node goes by, in seconds.
    pub fn system_offset_s(&self) -> f64 {
        (self.clock.wall().unix_ms() - self.clock.now().unix_ms()) as f64 / 1000.0
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the time is another one than before.
    fn goes_by(&self, known: Known) -> bool {
        let mut before = self.known();
        // Two looks at once may come back in the other order.
        if before.as_ref().is_some_and(|before| before.at > known.at) {
            return false;
        }
        let since = self.clock.monotonic().since(known.at);
        let (now, then) = (known.now + since, self.clock.now());
        let moved = before.as_ref().is_some_and(|before| before.steps != known.steps);
        *before = Some(known);
        self.clock.set(now);
        moved || now.since(then) > WRONG || then.since(now) > WRONG
    }

    fn show(&self) {
        metrics::gauge!("cima_clock_offset_seconds", "of" => "system").set(self.system_offset_s());
        let store = self.known().as_ref().map_or(0.0, |known| {
            let since = self.clock.monotonic().since(known.at);
            let by_store: Timestamp = known.now + since;
            (self.clock.now().unix_ms() - by_store.unix_ms()) as f64 / 1000.0
        });
        metrics::gauge!("cima_clock_offset_seconds", "of" => "store").set(store);
    }
}
