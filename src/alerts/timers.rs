//! Timers of emergencies (countdowns, expiry) and of check-ins. They are rows, so a restart forgets none.

use super::{AlertError, Alerts, CheckIn, Command, Emergency, State};
use crate::bus::{Bus, Event};
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::id::{CheckInId, EmergencyId};
use crate::runtime::{Refusal, Rounds, Stuck, Tasks, caught, tried};
use crate::timekeeper::Timekeeper;
use std::future::Future;
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
    pub fn start_timers(self: &Arc<Self>, tasks: &Tasks, time: Arc<Timekeeper>) {
        let (alerts, events) = (Arc::clone(self), self.bus.subscribe());
        let (emergencies, check_ins) = (Stuck::default(), Stuck::default());
        tasks.rounds("timers", Timers { alerts, time, events, emergencies, check_ins });
    }

    /// Only an expiry has to know when the person's last fix came: a countdown is over though no fix can be read.
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
}

/// The timers of a node, and what of them is refused for good. None of that is ever given up: it is tried again, later and
/// later, and the others do not wait for it.
struct Timers {
    alerts: Arc<Alerts>,
    time: Arc<Timekeeper>,
    events: Receiver<Event>,
    emergencies: Stuck<EmergencyId>,
    check_ins: Stuck<(CheckInId, bool)>,
}

impl Rounds for Timers {
    type Next = Timestamp;

    async fn round(&mut self) -> Option<Timestamp> {
        Some(self.fire_due().await)
    }

    async fn wait(&mut self, next: Timestamp) {
        tokio::select! {
            () = self.alerts.clock.sleep_until(next) => {}
            () = self.alerts.rescheduled.notified() => {}
            () = changed_elsewhere(&mut self.events) => {}
            () = time_to_look(&self.alerts.bus) => {}
        }
    }
}

impl Timers {
    /// Fires what is due now; when to look again. What fails of one kind of timer does not hold up the other.
    async fn fire_due(&mut self) -> Timestamp {
        let now = self.alerts.clock.now();
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

    /// Whether what was found due by `now` is due: what is due moves when the store's clock is set, and may have moved since.
    async fn holds(&self, now: Timestamp) -> Stored<bool> {
        Ok(!self.time.look().await? && self.alerts.clock.now() >= now)
    }

    /// Fires what is due of emergencies; when the next is.
    async fn fire_emergencies(&mut self, now: Timestamp) -> Stored<Option<Timestamp>> {
        let (due, unreadable) = self.due_emergencies(now).await?;
        if !due.is_empty() && !self.holds(now).await? {
            return Ok(Some(now));
        }
        let mut failed = false;
        self.emergencies.retain(|id| due.iter().any(|e| e.id == id) || unreadable.iter().any(|u| u.0 == id));
        for (id, why) in unreadable {
            if self.emergencies.refused(id, now) {
                self.alerts.aside.emergency.note(id, why);
            }
        }
        for emergency in due.iter().filter(|due| !self.emergencies.waits(due.id, now)).collect::<Vec<_>>() {
            match fired(self.alerts.fire(emergency, now)).await {
                Ok(()) => self.emergencies.freed(emergency.id),
                Err(Refusal::Passing(error)) => {
                    tracing::error!(%error, emergency = %emergency.id, "a timer could not be fired; it is tried again");
                    failed = true;
                }
                Err(why) => {
                    if self.emergencies.refused(emergency.id, now) {
                        self.alerts.aside.emergency.note(emergency.id, why);
                    }
                }
            }
        }
        // What is stuck is due, and hides when the next of the others is.
        let looks_soon = failed || self.emergencies.next().is_some();
        if looks_soon { Ok(Some(now + RETRY)) } else { self.alerts.store.next_due().await }
    }

    /// What is due, and what of that cannot be read.
    async fn due_emergencies(&self, now: Timestamp) -> Stored<(Vec<Emergency>, Vec<(EmergencyId, Refusal)>)> {
        let store = &self.alerts.store;
        if let Some(due) = readable(tried(store.due(now)).await)? {
            return Ok((due, Vec::new()));
        }
        let (mut due, mut unreadable) = (Vec::new(), Vec::new());
        for id in store.due_ids(now).await? {
            match tried(store.emergency(id)).await {
                Ok(found) => due.extend(found),
                Err(Refusal::Passing(error)) => return Err(error),
                Err(why) => unreadable.push((id, why)),
            }
        }
        Ok((due, unreadable))
    }

    /// As [`Timers::due_emergencies`].
    async fn due_check_ins(&self, now: Timestamp) -> Stored<(Vec<CheckIn>, Vec<(CheckInId, Refusal)>)> {
        let store = &self.alerts.store;
        if let Some(due) = readable(tried(store.due_check_ins(now)).await)? {
            return Ok((due, Vec::new()));
        }
        let (mut due, mut unreadable) = (Vec::new(), Vec::new());
        for (subject, id) in store.due_check_in_ids(now).await? {
            match tried(store.check_in(subject, id)).await {
                Ok(found) => due.extend(found),
                Err(Refusal::Passing(error)) => return Err(error),
                Err(why) => unreadable.push((id, why)),
            }
        }
        Ok((due, unreadable))
    }

    /// Fires what is due of check-ins; when the next is.
    async fn fire_check_ins(&mut self, now: Timestamp) -> Stored<Option<Timestamp>> {
        let (due, unreadable) = self.due_check_ins(now).await?;
        if !due.is_empty() && !self.holds(now).await? {
            return Ok(Some(now));
        }
        let mut failed = false;
        self.check_ins
            .retain(|(id, _)| due.iter().any(|c| c.id == id) || unreadable.iter().any(|u| u.0 == id));
        for (id, why) in unreadable {
            if self.check_ins.refused((id, false), now) {
                self.alerts.aside.check_in.note(id, why);
            }
        }
        for check_in in &due {
            // A reminder that is stuck must not keep the miss waiting.
            let unit = (check_in.id, check_in.missed_at() <= now);
            if self.check_ins.waits(unit, now) {
                continue;
            }
            let is_stuck = self.check_ins.holds(unit);
            match fired(self.alerts.check_ins().fire(check_in, is_stuck, now)).await {
                Ok(()) => self.check_ins.freed(unit),
                Err(Refusal::Passing(error)) => {
                    tracing::error!(%error, check_in = %check_in.id, "a check-in could not be fired; it is tried again");
                    failed = true;
                }
                Err(why) => {
                    // A miss was told of when it was first raised alone.
                    if self.check_ins.refused(unit, now) && !unit.1 {
                        self.alerts.aside.check_in.note(check_in.id, why);
                    }
                }
            }
        }
        let looks_soon = failed || self.check_ins.next().is_some();
        if looks_soon { Ok(Some(now + RETRY)) } else { self.alerts.store.next_check_in().await }
    }
}

/// `None` if one of a list cannot be read: then each has to be read by itself.
fn readable<T>(list: Result<T, Refusal>) -> Stored<Option<T>> {
    match list {
        Ok(list) => Ok(Some(list)),
        Err(Refusal::Passing(error)) => Err(error),
        Err(Refusal::Lasting(_)) => Ok(None),
    }
}

/// What became of one timer; a panic is its own.
async fn fired(firing: impl Future<Output = Result<(), AlertError>>) -> Result<(), Refusal> {
    match caught(firing).await? {
        Ok(()) => Ok(()),
        Err(AlertError::Store(error)) => Err(error.into()),
        // It changes while it fires.
        Err(error) => Err(Refusal::Passing(StoreError::new(Fault::Conflict, error.to_string()))),
    }
}
