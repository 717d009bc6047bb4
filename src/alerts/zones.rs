//! Tells people of the public zones they enter, and keeps who is in which.

use super::{AlertDraft, AlertKind, AlertsStore, Lane, Recipients, VisitCommit};
use crate::bus::{Bus, Event};
use crate::clock::Timestamp;
use crate::id::{AlertId, UserId, derived};
use crate::runtime::Tasks;
use crate::tracking::{Zone, ZoneMoves, ZoneSink, ZoneStep};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Moves that may wait; beyond, windows are forgotten and find theirs again.
const QUEUE: usize = 1_024;
/// Moves of one transaction, at most.
const GROUP: usize = 64;
/// Between tries while the store does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Starts the task; returns the way to it.
pub fn start_zones(store: Arc<dyn AlertsStore>, bus: Bus, tasks: &Tasks) -> ZoneSink {
    let (sink, moves) = mpsc::channel(QUEUE);
    tasks.spawn_last("zones", run(store, bus, moves));
    sink
}

/// Ends when every window is gone and the last move is stored.
async fn run(store: Arc<dyn AlertsStore>, bus: Bus, mut moves: mpsc::Receiver<ZoneMoves>) {
    let mut group = Vec::new();
    while moves.recv_many(&mut group, GROUP).await > 0 {
        let commits: Vec<VisitCommit> = group.drain(..).map(commit_of).collect();
        let told = loop {
            match store.commit_visits(&commits).await {
                Ok(told) => break told,
                Err(error) => {
                    metrics::counter!("cima_zone_store_failures_total").increment(1);
                    tracing::error!(%error, "who is in which zone could not be stored; it is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let entered: usize = commits.iter().map(|commit| commit.entered.len()).sum();
        metrics::counter!("cima_zone_entries_total").increment(entered as u64);
        if !told.is_empty() {
            bus.publish(Event::Inbox(told.into()));
        }
    }
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
