//! One worker: claims what is due in its queue, sends, and writes down what became of it.
//!
//! A send runs in a task of its own, so that the worker's waits for the store hold up none. What could not be written
//! down is kept and written later; if the process dies first, the lease ends and the notification is sent again.

use super::gates::{Gates, Verdict};
use super::schedule::{is_wanted, pause};
use super::{
    ClaimKey, Claimed, Matter, Provider, PushStore, Queue, SendOutcome, Settled, Settlement, Urgency,
};
use crate::bus::{Bus, Event};
use crate::clock::{Clock, Timestamp};
use crate::id::derived;
use crate::runtime::{Backoff, Panicked, Reached, SetAside, Tasks, Writes, attempt, caught};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Sends in flight of one worker.
const SLOTS: usize = 64;
/// Of those, to one server that a person named.
const SLOTS_OF_A_SERVER: usize = 16;
/// Deliveries claimed at a time.
const CLAIM: usize = 16;
/// Between two looks at the queue when nothing wakes the worker.
const POLL: Duration = Duration::from_secs(1);
/// An emergency that is due but could not be claimed is looked at so often.
const POLL_EMERGENCY: Duration = Duration::from_millis(200);
/// Between tries while the store does not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// What a delivery is given up for whose send panicked.
const PANIC: &str = "panic";
/// What a delivery is given up for of which nothing else can be written down.
const REFUSED: &str = "refused";
/// Sends of an emergency that may panic before it is given up.
const PANICS: u32 = 3;
/// What is set aside here.
pub(super) const UNIT: &str = "delivery";
/// Sends in flight are waited for so long at a stop.
const GRACE: Duration = Duration::from_secs(1);
/// A lease outlives its send by so much.
const SPARE: Duration = Duration::from_secs(5);

/// For one send.
const fn patience(urgency: Urgency) -> Duration {
    match urgency {
        Urgency::Emergency => Duration::from_secs(10),
        Urgency::Routine => Duration::from_secs(20),
    }
}

/// What a send came to.
struct Sent {
    claimed: Claimed,
    outcome: SendOutcome,
}

/// The worker of one queue.
pub(super) struct Worker {
    queue: Queue,
    store: Arc<dyn PushStore>,
    provider: Arc<dyn Provider>,
    wake: Arc<Notify>,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    gates: Gates,
    in_flight: HashMap<ClaimKey, Claimed>,
    /// Known, and not written down yet.
    settled: Vec<Settled>,
    writes: Writes,
    backoff: Backoff,
    aside: SetAside,
    give_up: CancellationToken,
    results: (mpsc::Sender<Sent>, mpsc::Receiver<Sent>),
}

impl Worker {
    pub(super) fn new(
        queue: Queue,
        store: Arc<dyn PushStore>,
        provider: Arc<dyn Provider>,
        wake: Arc<Notify>,
        bus: Bus,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let of_a_service = match queue.channel {
            super::Channel::Webpush | super::Channel::Webhook => SLOTS_OF_A_SERVER,
            super::Channel::Fcm | super::Channel::Apns | super::Channel::Email => SLOTS,
        };
        Self {
            queue,
            store,
            provider,
            wake,
            bus,
            clock,
            tasks: tasks.clone(),
            gates: Gates::new(queue.urgency, of_a_service),
            in_flight: HashMap::new(),
            settled: Vec::new(),
            writes: Writes::of(UNIT, "cima_push_store_failures_total", Backoff::between(RETRY.0, RETRY.1)),
            backoff: Backoff::between(RETRY.0, RETRY.1),
            aside: SetAside::of(UNIT),
            give_up: CancellationToken::new(),
            results: mpsc::channel(SLOTS),
        }
    }

    /// Starts the task. What it knows outlives its death.
    pub(super) fn start_task(self) {
        let tasks = self.tasks.clone();
        let worker = Arc::new(Mutex::new(self));
        tasks.keep("push_worker", move || {
            let worker = Arc::clone(&worker);
            async move { worker.lock().await.run().await }
        });
    }

    /// Until the node stops; what is in flight then is given a moment, and given back.
    async fn run(&mut self) {
        let stop = self.tasks.stop();
        while !stop.is_cancelled() {
            let written = self.write_down().await;
            let pause = if written { Duration::ZERO } else { self.backoff.pause() };
            let next = self.take_what_is_due().await;
            tokio::select! {
                () = stop.cancelled() => break,
                Some(sent) = self.results.1.recv() => self.note_all(sent),
                () = self.wake.notified() => {}
                () = self.clock.sleep_until(next) => {}
                () = tokio::time::sleep(pause), if !written => {}
            }
        }
        self.wind_up().await;
    }

    async fn wind_up(&mut self) {
        let ended = tokio::time::timeout(GRACE, async {
            while !self.in_flight.is_empty() {
                let Some(sent) = self.results.1.recv().await else { break };
                self.note_all(sent);
            }
        });
        // Those that did not end are given back below.
        let _ = ended.await;
        self.give_up.cancel();
        let now = self.clock.now();
        let back = self.in_flight.keys().map(|key| Settled { key: *key, settlement: Settlement::Later(now) });
        self.settled.extend(back);
        if !self.write_down().await {
            tracing::warn!(
                "pushes in flight could not be given back; they are sent again when their lease ends"
            );
        }
    }

    /// Writes down what is known. `false` if the store did not take it; it is kept.
    async fn write_down(&mut self) -> bool {
        if self.settled.is_empty() {
            return true;
        }
        let (store, urgency, now) = (Arc::clone(&self.store), self.queue.urgency, self.clock.now());
        let parts = self.writes.once(
            &self.settled,
            |part| {
                let store = Arc::clone(&store);
                Box::pin(async move { store.settle_pushes(urgency, part, now).await })
            },
            |one| ids(&one.key),
        );
        let parts = match parts.await {
            Ok(parts) => parts,
            Err(error) => {
                tracing::warn!(%error, "what became of pushes could not be stored; it is tried again");
                return false;
            }
        };
        self.backoff.reset();
        let written = std::mem::take(&mut self.settled);
        for part in parts {
            match part.answer {
                Some(told) if told.is_empty() => {}
                Some(told) => self.bus.publish(Event::Inbox(told.into())),
                // Given up, so that it is not sent for ever. If that is refused too, its lease ends.
                None => self.settled.extend(written[part.units].iter().filter_map(given_up)),
            }
        }
        self.settled.is_empty()
    }

    /// Claims and starts what is due; when to look again.
    async fn take_what_is_due(&mut self) -> Timestamp {
        let now = self.clock.now();
        let due = match self.store.next_push(self.queue).await {
            Ok(Some(due)) => due,
            Ok(None) => return now + POLL,
            Err(error) => {
                tracing::warn!(%error, "due pushes could not be read; it is tried again");
                return now + POLL_EMERGENCY;
            }
        };
        if due > now {
            return due.min(now + POLL);
        }
        let free = SLOTS.saturating_sub(self.in_flight.len() + self.settled.len()).min(CLAIM);
        let shut = self.gates.shut(self.clock.monotonic());
        let lease_until = now + patience(self.queue.urgency) + SPARE;
        let claimed = match u32::try_from(free) {
            Ok(limit) if limit > 0 => {
                self.store.claim_pushes(self.queue, &shut, limit, now, lease_until).await
            }
            _ => Ok(Vec::new()),
        };
        let claimed = claimed.unwrap_or_else(|error| {
            tracing::warn!(%error, "due pushes could not be claimed; it is tried again");
            Vec::new()
        });
        let look_again = match (claimed.len() == free && free > 0, self.queue.urgency) {
            (true, _) => now,
            (false, Urgency::Emergency) => now + POLL_EMERGENCY,
            (false, Urgency::Routine) => now + POLL,
        };
        for one in claimed {
            let key = one.key;
            if let Err(panicked) = attempt(|| self.start(one, now)) {
                self.aside.note(ids(&key), panicked);
                self.in_flight.remove(&key);
                self.settled.push(Settled { key, settlement: Settlement::Dead(PANIC) });
            }
        }
        look_again
    }

    fn start(&mut self, claimed: Claimed, now: Timestamp) {
        let settle = |settlement| Settled { key: claimed.key, settlement };
        if claimed.notification.until <= now {
            self.count(&claimed, "late");
            self.settled.push(settle(Settlement::Dead("late")));
        } else if !is_wanted(self.queue.urgency, claimed.received, claimed.seen) {
            self.count(&claimed, "unneeded");
            self.settled.push(settle(Settlement::Unneeded));
        } else if !self.gates.enter(&claimed.target.service(), self.clock.monotonic()) {
            self.settled.push(settle(Settlement::Later(now + POLL_EMERGENCY)));
        } else {
            if claimed.tries == 0 && claimed.notification.matter == Matter::Emergency {
                Reached::Asked.after(now.since(claimed.at));
            }
            self.in_flight.insert(claimed.key, claimed.clone());
            let (provider, results) = (Arc::clone(&self.provider), self.results.0.clone());
            let (give_up, within) = (self.give_up.clone(), patience(self.queue.urgency));
            self.tasks.spawn("push_send", async move {
                let send = async { provider.send(&claimed.notification, &claimed.target).await };
                let outcome = tokio::select! {
                    () = give_up.cancelled() => return,
                    outcome = tokio::time::timeout(within, caught(send)) => outcome,
                };
                let outcome = match outcome {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(panicked)) => after_panic(&claimed, &panicked),
                    Err(_) => SendOutcome::retry("timeout"),
                };
                // There is a place for each that is in flight; the worker may have ended meanwhile.
                let _ = results.send(Sent { claimed, outcome }).await;
            });
        }
    }

    fn note_all(&mut self, sent: Sent) {
        self.note(sent);
        while let Ok(more) = self.results.1.try_recv() {
            self.note(more);
        }
    }

    fn note(&mut self, Sent { claimed, outcome }: Sent) {
        self.in_flight.remove(&claimed.key);
        self.count(&claimed, outcome.word());
        let verdict = match outcome {
            // The fault is here, and no other delivery's.
            SendOutcome::Retry { fault: PANIC, .. } => Verdict::Served,
            SendOutcome::Retry { after: Some(asked), .. } => Verdict::Asked(asked),
            SendOutcome::Retry { after: None, .. } => Verdict::Failed,
            SendOutcome::Accepted | SendOutcome::Unregistered { .. } | SendOutcome::Rejected { .. } => {
                Verdict::Served
            }
        };
        self.gates.leave(&claimed.target.service(), verdict, self.clock.monotonic());
        let settlement = self.settlement(&claimed, &outcome);
        self.settled.push(Settled { key: claimed.key, settlement });
    }

    fn settlement(&self, claimed: &Claimed, outcome: &SendOutcome) -> Settlement {
        let (now, channel) = (self.clock.now(), self.queue.channel.word());
        match outcome {
            SendOutcome::Accepted => Settlement::Accepted,
            SendOutcome::Unregistered { since } => Settlement::Gone(*since),
            SendOutcome::Rejected { fault: PANIC } => {
                self.aside.note(ids(&claimed.key), PANIC);
                Settlement::Dead(PANIC)
            }
            SendOutcome::Rejected { fault } => {
                tracing::warn!(channel, fault, alert = %claimed.key.alert, "a push was refused for good");
                Settlement::Dead(fault)
            }
            SendOutcome::Retry { after, fault } => {
                let tries = claimed.tries.saturating_add(1);
                let at = now + pause(self.queue.urgency, tries, seed(claimed, tries), *after);
                tracing::info!(channel, fault, tries, alert = %claimed.key.alert, "a push is tried again");
                if at < claimed.notification.until { Settlement::Retry(at) } else { Settlement::Dead("late") }
            }
        }
    }

    fn count(&self, claimed: &Claimed, outcome: &'static str) {
        let labels = [("channel", self.queue.channel.word()), ("urgency", self.queue.urgency.word())];
        metrics::counter!("cima_pushes_total", "channel" => labels[0].1, "urgency" => labels[1].1, "outcome" => outcome)
            .increment(1);
        if outcome == SendOutcome::Accepted.word() {
            let waited = self.clock.now().since(claimed.queued_at).as_secs_f64();
            metrics::histogram!("cima_push_handed_over_seconds", &labels).record(waited);
            if claimed.notification.matter == Matter::Emergency {
                Reached::Accepted.after(self.clock.now().since(claimed.at));
            }
        }
    }
}

/// A send that panicked would panic again. An emergency is tried again all the same, in its turn, before it is given up.
fn after_panic(claimed: &Claimed, panicked: &Panicked) -> SendOutcome {
    tracing::error!(delivery = ids(&claimed.key), reason = %panicked, "the send of a push died");
    match claimed.notification.urgency {
        Urgency::Emergency if claimed.tries + 1 < PANICS => SendOutcome::retry(PANIC),
        Urgency::Emergency | Urgency::Routine => SendOutcome::Rejected { fault: PANIC },
    }
}

/// What is written down instead of something that the store refuses.
fn given_up(refused: &Settled) -> Option<Settled> {
    let dead = Settlement::Dead(REFUSED);
    (refused.settlement != dead).then_some(Settled { key: refused.key, settlement: dead })
}

/// The ids of a delivery, for the log.
fn ids(key: &ClaimKey) -> String {
    format!("{} {}", key.alert, key.endpoint)
}

/// Spreads the tries of different deliveries.
fn seed(claimed: &Claimed, tries: u32) -> u64 {
    let key = &claimed.key;
    let id =
        derived("push pause", &[key.alert.0.as_bytes(), key.endpoint.0.as_bytes(), &tries.to_be_bytes()]);
    // The last eight bytes but their two fixed bits.
    id.as_u64_pair().1 << 2
}

#[cfg(test)]
mod tests;
