//! Timers of emergencies: countdowns and expiry. They are rows, so a restart forgets none.

use super::{Alerts, Command};
use crate::error::Stored;
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;

/// Looks at least so often, whatever the store said was next.
const LOOK: Duration = Duration::from_secs(30);
/// Between tries while the store does not answer.
const RETRY: Duration = Duration::from_millis(500);

impl Alerts {
    /// Starts the task that fires what is due.
    pub fn start_timers(self: &Arc<Self>, tasks: &Tasks) {
        let (alerts, stop) = (Arc::clone(self), tasks.stop());
        tasks.spawn("timers", async move {
            loop {
                let wait = match alerts.fire_due().await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::error!(%error, "timers could not be read; they are tried again");
                        RETRY
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = alerts.clock.sleep(wait) => {}
                    () = alerts.rescheduled.notified() => {}
                }
            }
        });
    }

    /// Fires what is due now; how long until the next.
    async fn fire_due(&self) -> Stored<Duration> {
        let now = self.clock.now();
        for emergency in self.store.due(now).await? {
            let last_sign = self.tracking.last_sign(emergency.subject).await?;
            if let Some(next) = emergency.apply(Command::Due(last_sign), now)
                && let Err(error) = self.store_change(next, None, now).await
            {
                tracing::error!(%error, emergency = %emergency.id, "a timer could not be fired; it is tried again");
                return Ok(RETRY);
            }
        }
        let next = self.store.next_due().await?;
        Ok(next.map_or(LOOK, |due| due.since(self.clock.now()).min(LOOK)))
    }
}
