//! Whether the node can take an SOS now: found out every two seconds as a raise would find out, and remembered for whoever
//! asks.

use crate::runtime::{Mechanism, Pace, Tasks};
use crate::services::{Check, Readiness};
use crate::store::Stores;
use crate::telemetry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// After that a look is no answer any more: whatever should have looked again is stuck.
const STALE: Duration = Duration::from_secs(5);

/// The last look, and whether the node was told to stop.
pub(super) struct Health {
    stores: Arc<Stores>,
    draining: AtomicBool,
    last: Mutex<(Instant, Vec<Check>)>,
}

impl Health {
    /// Looks for the first time.
    pub(super) async fn of(stores: Arc<Stores>) -> Arc<Self> {
        let last = Mutex::new((Instant::now(), look(&stores).await));
        Arc::new(Self { stores, draining: AtomicBool::new(false), last })
    }

    /// Looks again and again.
    pub(super) fn start(self: &Arc<Self>, tasks: &Tasks) {
        if !Mechanism::ReadinessProbe.works() {
            return;
        }
        let health = Arc::clone(self);
        tasks.every("readiness", Pace::of(LOOK).later(), move || {
            let health = Arc::clone(&health);
            async move { health.look().await }
        });
    }

    async fn look(&self) {
        let checks = look(&self.stores).await;
        let faults = |checks: &[Check]| -> Vec<String> {
            checks
                .iter()
                .filter_map(|check| Some(format!("{}: {}", check.name, check.fault.as_ref()?)))
                .collect()
        };
        let now = faults(&checks);
        let before = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let before = faults(&last.1);
            *last = (Instant::now(), checks);
            before
        };
        match (before.is_empty(), now.is_empty()) {
            (true, false) => tracing::warn!(faults = now.join("; "), "this node has lost what it stores in"),
            (false, true) => tracing::info!("this node has again what it stores in"),
            _ => {}
        }
    }

    /// The node was told to stop.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

async fn look(stores: &Stores) -> Vec<Check> {
    let parts = stores.health().await.into_iter();
    let checks: Vec<Check> = parts
        .map(|part| Check {
            name: part.name,
            judged: part.takes_emergencies,
            fault: part.fault.map(|e| e.to_string()),
        })
        .collect();
    let ready = checks.iter().all(|check| !check.judged || check.fault.is_none());
    metrics::gauge!("cima_ready").set(if ready { 1.0 } else { 0.0 });
    checks
}

impl Readiness for Health {
    fn checks(&self) -> Vec<Check> {
        let (looked_at, mut checks) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let age = looked_at.elapsed();
        let stale = age > STALE && Mechanism::ReadinessProbe.works();
        let fault = stale.then(|| format!("the last look was {} s ago", age.as_secs()));
        checks.push(Check { name: "probe", judged: true, fault });
        let fault = self.is_draining().then(|| "the node was told to stop".to_owned());
        checks.push(Check { name: "draining", judged: true, fault });
        checks
    }
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
    fn metrics(&self) -> String {
        telemetry::metrics().map(|m| m.render()).unwrap_or_default()
    }
}
