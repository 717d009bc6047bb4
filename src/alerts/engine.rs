//! The engine: stores transitions with the alerts they make, in groups, in the order they were found.

use super::{
    AlertDraft, AlertKind, AlertsStore, Audience, Lane, Recipients, TransitionAlert, TransitionCommit,
};
use crate::bus::{Bus, Event};
use crate::id::{AlertId, derived};
use crate::runtime::Tasks;
use crate::tracking::{Crossing, SinkMessage, TransitionBatch, TransitionSink, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches that may wait; beyond, trackers are forgotten and built again from the store.
const QUEUE: usize = 4_096;
/// Batches of one transaction, at most.
const GROUP: usize = 64;
/// Between tries while the store does not answer.
const RETRY: Duration = Duration::from_millis(200);

/// The engine's task.
pub struct Engine;

impl Engine {
    /// Starts the task; returns the way to it.
    pub fn start(store: Arc<dyn AlertsStore>, bus: Bus, tasks: &Tasks) -> TransitionSink {
        let (sink, messages) = mpsc::channel(QUEUE);
        tasks.spawn_last("engine", run(store, bus, messages));
        sink
    }
}

/// Ends when every tracker is gone and the last transition is stored.
async fn run(store: Arc<dyn AlertsStore>, bus: Bus, mut messages: mpsc::Receiver<SinkMessage>) {
    let mut group = Vec::new();
    while messages.recv_many(&mut group, GROUP).await > 0 {
        let mut commits = Vec::new();
        let mut ownerships = Vec::new();
        let mut barriers = Vec::new();
        for message in group.drain(..) {
            match message {
                SinkMessage::Batch(batch) => {
                    ownerships.push(batch.ownership.clone());
                    commits.push(commit_of(batch));
                }
                SinkMessage::Barrier(done) => barriers.push(done),
            }
        }
        if !commits.is_empty() {
            let stored = loop {
                match store.commit_transitions(&commits).await {
                    Ok(stored) => break stored,
                    Err(error) => {
                        metrics::counter!("cima_engine_failures_total").increment(1);
                        tracing::error!(%error, "transitions could not be stored; they are tried again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            let transitions: usize = commits.iter().map(|c| c.transitions.len()).sum();
            metrics::counter!("cima_transitions_total").increment(transitions as u64);
            for place in &stored.refused {
                if let (Some(commit), Some(ownership)) = (commits.get(*place), ownerships.get(*place)) {
                    ownership.lose(!commit.transitions.is_empty() || !commit.retracted.is_empty());
                    metrics::counter!("cima_folds_lost_total").increment(1);
                }
            }
            if !stored.told.is_empty() {
                bus.publish(Event::Inbox(stored.told.into()));
            }
        }
        for done in barriers {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

fn commit_of(batch: TransitionBatch) -> TransitionCommit {
    TransitionCommit {
        owner: batch.owner,
        device: batch.device,
        states: batch.states,
        folded_to: batch.folded_to,
        transitions: batch.crossings.into_iter().map(alert_of).collect(),
        retracted: batch.retracted,
        token: batch.ownership.token(),
        last: batch.last,
    }
}

fn alert_of(crossing: Crossing) -> TransitionAlert {
    let Crossing { transition, fence, tell } = crossing;
    let alert = tell.then(|| AlertDraft {
        id: AlertId(derived("alert", &[transition.id.0.as_bytes()])),
        kind: AlertKind::Geofence,
        severity: fence.severity,
        subject: transition.owner,
        at: transition.at,
        template: match transition.kind {
            Trigger::Enter => "geofence.enter",
            Trigger::Exit => "geofence.exit",
            Trigger::Dwell => "geofence.dwell",
            Trigger::Cross => "geofence.cross",
        },
        params: BTreeMap::from([("geofence".to_owned(), fence.name.clone())]),
        emergency: None,
        geofence: Some(fence.id),
        transition: Some(transition.kind),
        late: transition.late,
        lane: Lane::Routine,
        recipients: Recipients::Contacts { only: fence.notify.clone(), audience: Audience::All },
    });
    TransitionAlert { transition, alert, cooldown: fence.cooldown }
}
