//! The sweep: what has had its time is deleted, domain by domain, and what it leaves in the files is wiped.

mod store;

pub use store::ExpiryStore;

use super::Alerts;
use crate::error::Stored;
use crate::id::EmergencyId;
use crate::runtime::{Pace, Refusal, Tasks, tried};
use std::sync::Arc;
use std::time::Duration;

/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(600);
/// Emergencies asked for at a time.
const PAGE: u32 = 100;

/// What was deleted and may still be in the files. A start does not know what was before it.
pub(super) struct Unwiped {
    fixes: bool,
    emergencies: bool,
}

impl Default for Unwiped {
    fn default() -> Self {
        Self { fixes: true, emergencies: true }
    }
}

impl Alerts {
    /// Starts the task that sweeps, at once and then every ten minutes.
    pub fn start_retention(self: &Arc<Self>, tasks: &Tasks) {
        let alerts = Arc::clone(self);
        tasks.every("retention", Pace::of(EVERY).by(&self.clock).cut_short(), move || {
            let alerts = Arc::clone(&alerts);
            async move {
                if let Err(error) = alerts.sweep().await {
                    tracing::warn!(%error, "what has had its time could not all be deleted; it is tried again");
                }
            }
        });
    }

    /// Deletes what has had its time; one sweep after the other. When this returns it is done as of the call.
    ///
    /// # Errors
    /// When a store failed. What one part could not do holds up no other; the next sweep goes on.
    pub async fn sweep(&self) -> Stored<()> {
        let mut unwiped = self.sweeping.lock().await;
        let fixes = self.sweep_fixes(&mut unwiped).await;
        let emergencies = self.sweep_emergencies(&mut unwiped).await;
        let rest = self.sweep_rest().await;
        fixes.and(emergencies).and(rest).and(self.wipe(&mut unwiped).await)
    }

    async fn sweep_fixes(&self, unwiped: &mut Unwiped) -> Stored<()> {
        // Some may have been dropped before a failure.
        let before = std::mem::replace(&mut unwiped.fixes, true);
        let dropped = self.tracking.retain(self.aside.retention).await?;
        unwiped.fixes = before || dropped > 0;
        metrics::counter!("cima_fixes_expired_total").increment(dropped);
        Ok(())
    }

    async fn sweep_emergencies(&self, unwiped: &mut Unwiped) -> Stored<()> {
        let before = self.clock.now() - self.tracking.kept().incidents;
        self.store.bare_emergencies(before).await?;
        loop {
            let past = self.store.past_emergencies(before, PAGE).await?;
            let mut refused = 0;
            for id in &past {
                (unwiped.fixes, unwiped.emergencies) = (true, true);
                match tried(self.erase(*id)).await {
                    Ok(()) => {}
                    Err(Refusal::Passing(error)) => return Err(error),
                    Err(why) => {
                        self.aside.retention.note(id, why);
                        refused += 1;
                    }
                }
            }
            // Those that are refused would be asked for again.
            if past.len() < PAGE as usize || refused == past.len() {
                return Ok(());
            }
        }
    }

    async fn erase(&self, id: EmergencyId) -> Stored<()> {
        self.tracking.drop_trail(id).await?;
        self.store.erase_emergency(id).await
    }

    async fn sweep_rest(&self) -> Stored<()> {
        let (now, kept) = (self.clock.now(), self.tracking.kept());
        let alerts = self.store.expire_alerts(now - kept.alerts).await;
        let transitions = self.store.expire_transitions(now - kept.alerts, now, kept.fixes).await;
        let visits = self.store.expire_zone_visits(now - kept.fixes).await;
        let disclosures = self.trust.expire_disclosures(now - kept.disclosures).await;
        alerts.and(transitions).and(visits).and(disclosures).map(|_| ())
    }

    async fn wipe(&self, unwiped: &mut Unwiped) -> Stored<()> {
        if unwiped.fixes {
            self.tracking.wipe().await?;
            unwiped.fixes = false;
        }
        if unwiped.emergencies {
            self.store.wipe().await?;
            unwiped.emergencies = false;
        }
        Ok(())
    }
}
