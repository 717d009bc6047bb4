//! The engine: stores transitions with the alerts they make, in groups, in the order they were found.

use super::{
    AlertDraft, AlertKind, AlertsStore, Audience, Lane, Recipients, TransitionAlert, TransitionCommit,
};
use crate::bus::{Bus, Event};
use crate::id::{AlertId, derived};
use crate::runtime::{Backoff, Gathers, SetAside, Tasks, Writes, attempt};
use crate::tracking::{Crossing, SinkMessage, TransitionBatch, TransitionSink, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches that may wait; beyond, trackers are forgotten and built again from the store.
const QUEUE: usize = 4_096;
/// Rows of one transaction, about: it has to be over in time however busy the store is.
const GROUP: usize = 256;
/// Transitions of one commit; a batch with more is stored in parts.
const PART: usize = 128;
/// Between tries while the store does not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// What is set aside here.
const UNIT: &str = "transitions";

/// The engine's task.
pub struct Engine {
    store: Arc<dyn AlertsStore>,
    bus: Bus,
    writes: Writes,
    aside: SetAside,
}

impl Engine {
    /// Starts the task; returns the way to it. It ends when every tracker is gone and the last transition is stored.
    pub fn start(store: Arc<dyn AlertsStore>, bus: Bus, tasks: &Tasks) -> TransitionSink {
        let (sink, messages) = mpsc::channel(QUEUE);
        let writes = Writes::of(UNIT, "cima_engine_failures_total", Backoff::between(RETRY.0, RETRY.1));
        tasks.gather("engine", messages, GROUP, Self { store, bus, writes, aside: SetAside::of(UNIT) });
        sink
    }

    /// Stores batches. What was found of a device that another node has taken is refused, and its tracker gets to know.
    ///
    /// A commit that is set aside changes nothing for its tracker: to evaluate again would find the same.
    async fn commit(&mut self, batches: Vec<TransitionBatch>) {
        let (mut commits, mut ownerships) = (Vec::new(), Vec::new());
        for batch in batches {
            let (device, ownership) = (batch.device, batch.ownership.clone());
            match attempt(move || commits_of(batch)) {
                Ok(parts) => {
                    ownerships.extend(parts.iter().map(|_| ownership.clone()));
                    commits.extend(parts);
                }
                Err(panicked) => self.aside.note(device, panicked),
            }
        }
        let store = Arc::clone(&self.store);
        let parts = self.writes.all(
            &commits,
            |part| {
                let store = Arc::clone(&store);
                Box::pin(async move { store.commit_transitions(part).await })
            },
            name,
        );
        for part in parts.await {
            let Some(answer) = part.answer else { continue };
            let commits = &commits[part.units.clone()];
            let transitions: usize = commits.iter().map(|c| c.transitions.len()).sum();
            metrics::counter!("cima_transitions_total").increment(transitions as u64);
            for refused in &answer.refused {
                let ownership = ownerships.get(part.units.start + refused);
                if let (Some(commit), Some(ownership)) = (commits.get(*refused), ownership) {
                    ownership.lose(!commit.transitions.is_empty() || !commit.retracted.is_empty());
                    metrics::counter!("cima_folds_lost_total").increment(1);
                }
            }
            if !answer.told.is_empty() {
                self.bus.publish(Event::Inbox(answer.told.into()));
            }
        }
    }
}

impl Gathers for Engine {
    type Item = SinkMessage;

    fn weight(message: &SinkMessage) -> usize {
        match message {
            SinkMessage::Batch(batch) => {
                1 + batch.crossings.len() + batch.states.len() + batch.retracted.len()
            }
            SinkMessage::Barrier(_) => 0,
        }
    }

    async fn take(&mut self, group: Vec<SinkMessage>) {
        let (mut batches, mut barriers) = (Vec::new(), Vec::new());
        for message in group {
            match message {
                SinkMessage::Batch(batch) => batches.push(batch),
                SinkMessage::Barrier(done) => barriers.push(done),
            }
        }
        if !batches.is_empty() {
            self.commit(batches).await;
        }
        for done in barriers {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

/// The ids of a commit, for the log.
fn name(commit: &TransitionCommit) -> String {
    let transitions: Vec<String> =
        commit.transitions.iter().map(|found| found.transition.id.to_string()).collect();
    format!("{} [{}]", commit.device, transitions.join(" "))
}

/// What is stored of a batch: one commit, or several of which the last one moves the states and how far the device is
/// evaluated. After a fault in between, the device is evaluated again and the same transitions are found.
fn commits_of(batch: TransitionBatch) -> Vec<TransitionCommit> {
    let mut transitions: Vec<TransitionAlert> = batch.crossings.into_iter().map(alert_of).collect();
    let mut whole = TransitionCommit {
        owner: batch.owner,
        device: batch.device,
        states: batch.states,
        folded_to: batch.folded_to,
        transitions: Vec::new(),
        retracted: batch.retracted,
        token: batch.ownership.token(),
        last: batch.last,
        goes_on: false,
    };
    let mut parts = Vec::new();
    while transitions.len() > PART {
        let rest = transitions.split_off(PART);
        let transitions = std::mem::replace(&mut transitions, rest);
        let retracted = std::mem::take(&mut whole.retracted);
        parts.push(TransitionCommit { transitions, retracted, last: false, goes_on: true, ..whole.clone() });
    }
    whole.transitions = transitions;
    parts.push(whole);
    parts
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::geo::{RawShape, Shape};
    use crate::id::{DeviceId, GeofenceId, TransitionId, UserId};
    use crate::tracking::{FencingToken, Geofence, Ownership, Severity, Transition};
    use uuid::Uuid;

    fn batch(crossings: u128) -> TransitionBatch {
        let (owner, device) = (UserId(Uuid::from_u128(1)), DeviceId(Uuid::from_u128(2)));
        let circle = r#"{"type":"Circle","center":[16.4,48.2],"radius_m":100}"#;
        let raw: RawShape = serde_json::from_str(circle).unwrap();
        let fence = Arc::new(Geofence {
            id: GeofenceId(Uuid::from_u128(3)),
            owner,
            name: "home".to_owned(),
            shape: Arc::new(Shape::try_from(raw).unwrap()),
            triggers: vec![Trigger::Enter],
            dwell: Duration::ZERO,
            cooldown: Duration::ZERO,
            severity: Severity::Info,
            notify: None,
            revision: 1,
            created_at: Timestamp::from_unix_ms(0),
        });
        let crossing = |n: u128| Crossing {
            transition: Transition {
                id: TransitionId(Uuid::from_u128(n)),
                owner,
                device,
                fence: fence.id,
                kind: Trigger::Enter,
                at: Timestamp::from_unix_ms(0),
                seq: 1,
                initial: false,
                late: false,
            },
            fence: Arc::clone(&fence),
            tell: true,
        };
        TransitionBatch {
            owner,
            device,
            states: Vec::new(),
            folded_to: (Timestamp::from_unix_ms(0), 1),
            crossings: (0..crossings).map(crossing).collect(),
            retracted: vec![TransitionId(Uuid::from_u128(9_999))],
            ownership: Ownership::new(FencingToken(1)),
            last: true,
        }
    }

    #[test]
    fn a_large_batch_is_stored_in_parts_of_which_the_last_one_ends_it() {
        let parts = commits_of(batch(300));
        let sizes: Vec<usize> = parts.iter().map(|part| part.transitions.len()).collect();
        assert_eq!(sizes, [PART, PART, 300 - 2 * PART]);
        let ids: Vec<u128> =
            parts.iter().flat_map(|part| &part.transitions).map(|t| t.transition.id.0.as_u128()).collect();
        assert_eq!(ids, (0..300).collect::<Vec<u128>>(), "in their order");
        let ends: Vec<(bool, bool)> = parts.iter().map(|part| (part.goes_on, part.last)).collect();
        assert_eq!(ends, [(true, false), (true, false), (false, true)]);
        let retracted: Vec<usize> = parts.iter().map(|part| part.retracted.len()).collect();
        assert_eq!(retracted, [1, 0, 0], "once");
        assert_eq!(commits_of(batch(3)).len(), 1);
    }
}
