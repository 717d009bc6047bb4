//! Whether the node can take an SOS now: found out every two seconds as a raise would find out, and remembered for whoever
//! asks.

use crate::runtime::{Mechanism, Pace, Tasks};
use crate::services::{Check, Readiness};
use crate::store::{Stored, Stores};
use crate::telemetry;
use crate::timekeeper::{Timekeeper, WRONG};
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
    time: Arc<Timekeeper>,
    draining: AtomicBool,
    last: Mutex<(Instant, Vec<Check>)>,
}

impl Health {
    /// Looks for the first time.
    pub(super) async fn of(stores: Arc<Stores>, time: Arc<Timekeeper>) -> Arc<Self> {
        let last = Mutex::new((Instant::now(), look(&stores, &time).await));
        Arc::new(Self { stores, time, draining: AtomicBool::new(false), last })
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
        let checks = look(&self.stores, &self.time).await;
        let faults = |checks: &[Check]| -> Vec<String> {
            checks
                .iter()
                .filter_map(|check| Some(format!("{}: {}", check.name, check.fault.as_ref()?)))
                .collect()
        };
        let (now, ready) = (faults(&checks), Check::all_hold(&checks));
        let before = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let before = faults(&last.1);
            *last = (Instant::now(), checks);
            before
        };
        match (before.is_empty(), now.is_empty()) {
            (true, false) => {
                tracing::warn!(faults = now.join("; "), ready, "something that this node needs has failed");
            }
            (false, true) => tracing::info!("this node has again everything that it needs"),
            _ => {}
        }
    }

    /// The node was told to stop.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

async fn look(stores: &Stores, time: &Timekeeper) -> Vec<Check> {
    let check =
        |name, judged, looked: Stored<()>| Check { name, judged, fault: looked.err().map(|e| e.to_string()) };
    let (taken, others) = tokio::join!(time.look(), stores.other_parts());
    let mut checks = vec![check("store", true, taken.map(|_| ()))];
    checks.extend(others.into_iter().map(|(name, looked)| check(name, false, looked)));
    checks.push(Check { name: "clock", judged: false, fault: wrong_clock(time) });
    metrics::gauge!("cima_ready").set(f64::from(u8::from(Check::all_hold(&checks))));
    checks
}

/// This machine's clock is not what the node goes by, so it is shown and not judged.
fn wrong_clock(time: &Timekeeper) -> Option<String> {
    let off = time.system_offset_s();
    let way = if off > 0.0 { "ahead of" } else { "behind" };
    let wrong = off.abs() > WRONG.as_secs_f64();
    wrong.then(|| {
        format!("this machine's clock is {:.0} s {way} the store's, which is the one that counts", off.abs())
    })
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
