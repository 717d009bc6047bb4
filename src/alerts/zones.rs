//! Tells people of the public zones they enter, and keeps who is in which.

use super::{AlertDraft, AlertKind, AlertsStore, Lane, Recipients, VisitCommit};
use crate::bus::{Bus, Event};
use crate::clock::Timestamp;
use crate::id::{AlertId, UserId, derived};
use crate::runtime::{Backoff, Gathers, SetAside, Tasks, Writes, attempt};
use crate::tracking::{Zone, ZoneMoves, ZoneSink, ZoneStep};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Moves that may wait; beyond, windows are forgotten and find theirs again.
const QUEUE: usize = 1_024;
/// Moves of one transaction, at most.
const GROUP: usize = 64;
/// Between tries while the store does not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// What is set aside here.
const UNIT: &str = "zones";

/// Starts the task; returns the way to it. It ends when every window is gone and the last move is stored.
pub fn start_zones(store: Arc<dyn AlertsStore>, bus: Bus, tasks: &Tasks) -> ZoneSink {
    let (sink, moves) = mpsc::channel(QUEUE);
    let writes = Writes::of(UNIT, "cima_zone_store_failures_total", Backoff::between(RETRY.0, RETRY.1));
    tasks.gather("zones", moves, GROUP, Visits { store, bus, writes, aside: SetAside::of(UNIT) });
    sink
}

struct Visits {
    store: Arc<dyn AlertsStore>,
    bus: Bus,
    writes: Writes,
    aside: SetAside,
}

impl Gathers for Visits {
    type Item = ZoneMoves;

    async fn take(&mut self, group: Vec<ZoneMoves>) {
        let mut commits = Vec::new();
        for moves in group {
            let user = moves.user;
            match attempt(move || commit_of(moves)) {
                Ok(commit) => commits.push(commit),
                Err(panicked) => self.aside.note(user, panicked),
            }
        }
        let store = Arc::clone(&self.store);
        let parts = self.writes.all(
            &commits,
            |part| {
                let store = Arc::clone(&store);
                Box::pin(async move { store.commit_visits(part).await })
            },
            name,
        );
        for part in parts.await {
            let Some(told) = part.answer else { continue };
            let entered: usize = commits[part.units].iter().map(|commit| commit.entered.len()).sum();
            metrics::counter!("cima_zone_entries_total").increment(entered as u64);
            if !told.is_empty() {
                self.bus.publish(Event::Inbox(told.into()));
            }
        }
    }
}

/// The ids of a commit, for the log.
fn name(commit: &VisitCommit) -> String {
    let zones = commit.entered.iter().map(|(step, _)| step).chain(&commit.left);
    let zones: Vec<String> = zones.map(|step| step.zone.to_string()).collect();
    format!("{} [{}]", commit.user, zones.join(" "))
}

fn commit_of(moves: ZoneMoves) -> VisitCommit {
    let user = moves.user;
    let entered = moves.entered.iter().map(|(zone, at)| {
        let step = ZoneStep { zone: zone.id, revision: zone.revision, at: *at };
        (step, alert_of(user, zone, *at))
    });
    VisitCommit { user, entered: entered.collect(), left: moves.left }
}

fn alert_of(user: UserId, zone: &Zone, at: Timestamp) -> AlertDraft {
    let cause = [
        &user.0.as_bytes()[..],
        zone.id.0.as_bytes(),
        &zone.revision.to_be_bytes(),
        &at.unix_ms().to_be_bytes(),
    ];
    AlertDraft {
        id: AlertId(derived("zone_alert", &cause)),
        kind: AlertKind::Zone,
        severity: zone.severity,
        subject: user,
        at,
        template: "zone.enter",
        params: BTreeMap::from([("zone".to_owned(), zone.name.clone())]),
        emergency: None,
        geofence: None,
        transition: None,
        late: false,
        lane: Lane::Routine,
        recipients: Recipients::Person(user),
    }
}
