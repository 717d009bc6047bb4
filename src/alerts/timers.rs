//! Timers of emergencies (countdowns, expiry) and of check-ins. They are rows, so a restart forgets none.

use super::{AlertError, Alerts, Command, Emergency, State};
use crate::bus::{Bus, Event};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// Looks at least so often, whatever the store said was next.
const LOOK: Duration = Duration::from_secs(30);
/// Between tries while the store does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Between polls while hints of other nodes may be lost, and while they are not.
const SUSPECT: Duration = Duration::from_millis(500);
/// See [`SUSPECT`].
const TRUSTED: Duration = Duration::from_secs(5);

/// Another node may have changed what is due here, or hints were lost that said so.
async fn changed_elsewhere(events: &mut Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Emergency { .. } | Event::Rescheduled | Event::Resync) | Err(RecvError::Lagged(_)) => {
                return;
            }
            Ok(_) => {}
            // The node is on its way out.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What another node set may be due before what is known here, and the hint of it lost.
async fn time_to_look(bus: &Bus) {
    if !bus.is_shared() {
        return std::future::pending().await;
    }
    let began = Instant::now();
    loop {
        tokio::time::sleep(SUSPECT).await;
        if bus.is_suspect() || began.elapsed() >= TRUSTED {
            return;
        }
    }
}

impl Alerts {
    /// What is due has changed: timers look when, here and on other nodes.
    pub(super) fn reschedule(&self) {
        self.rescheduled.notify_one();
        self.bus.publish_elsewhere(&Event::Rescheduled);
    }

    /// Starts the task that fires what is due.
    pub fn start_timers(self: &Arc<Self>, tasks: &Tasks) {
        let (alerts, stop, mut events) = (Arc::clone(self), tasks.stop(), self.bus.subscribe());
        tasks.spawn("timers", async move {
            loop {
                let next = alerts.fire_due().await;
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = alerts.clock.sleep_until(next) => {}
                    () = alerts.rescheduled.notified() => {}
                    () = changed_elsewhere(&mut events) => {}
                    () = time_to_look(&alerts.bus) => {}
                }
            }
        });
    }

    /// Fires what is due now; when to look again. What fails of one kind of timer does not hold up the other.
    async fn fire_due(&self) -> Timestamp {
        let now = self.clock.now();
        let next = [self.fire_emergencies(now).await, self.fire_check_ins(now).await];
        let next = next.map(|fired| match fired {
            Ok(next) => next.unwrap_or(now + LOOK),
            Err(error) => {
                tracing::error!(%error, "timers could not be read; they are tried again");
                now + RETRY
            }
        });
        next.into_iter().fold(now + LOOK, Timestamp::min)
    }

    /// Fires what is due of emergencies; when the next is.
    async fn fire_emergencies(&self, now: Timestamp) -> Stored<Option<Timestamp>> {
        let mut failed = false;
        for emergency in self.store.due(now).await? {
            if let Err(error) = self.fire(&emergency, now).await {
                tracing::error!(%error, emergency = %emergency.id, "a timer could not be fired; it is tried again");
                failed = true;
            }
        }
        if failed { Ok(Some(now + RETRY)) } else { self.store.next_due().await }
    }

    /// One that fails holds up no other. Only an expiry has to know when the person's last fix came: a countdown is
    /// over though no fix can be read.
    async fn fire(&self, emergency: &Emergency, now: Timestamp) -> Result<(), AlertError> {
        let last_sign = match emergency.state {
            State::Active => self.tracking.last_sign(emergency.subject).await?,
            _ => None,
        };
        if let Some(next) = emergency.apply(Command::Wake(last_sign), now) {
            self.store_change(next, None, now).await?;
        }
        Ok(())
    }

    /// Fires what is due of check-ins; when the next is.
    async fn fire_check_ins(&self, now: Timestamp) -> Stored<Option<Timestamp>> {
        if !self.check_ins().fire_due(now).await? {
            return Ok(Some(now + RETRY));
        }
        self.store.next_check_in().await
    }
}
