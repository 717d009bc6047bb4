//! Building a tracker from the store: at the first fix, after a restart, when fences change, and when late fixes came.
//!
//! Whatever the reason, it is one way: the states as they were, then every fix since, in event order. So the history
//! of a person is a function of the set of their fixes, in whatever order these arrived.

use super::person::{LATE, Person};
use super::{Crossing, FixKey, FixStore, Ownership, SinkMessage, Tracker, TrackingStore, TransitionSink};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::id::{DeviceId, NodeId, TransitionId, UserId};
use crate::runtime::{Refusal, SetAside, Stuck, attempt, detach, tried, until};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// By then a node that lost a device has stored what its socket had read, or given that up.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// Fixes read from the store at a time.
const PAGE: u32 = 2_000;
/// Fences of one person, at most.
pub(super) const MAX_FENCES: u32 = 200;

/// Before every fix.
const BEGINNING: FixKey = (Timestamp::from_unix_ms(i64::MIN), i64::MIN);

/// Somebody whose tracker is to be built.
pub struct Rebuild(pub(super) Arc<Person>);

/// A tracker that was built.
pub(super) struct Built {
    pub(super) tracker: Tracker,
    /// What was found on the way, and whether it was late.
    pub(super) found: Vec<(Crossing, bool)>,
    /// What late fixes undid.
    pub(super) retracted: Vec<TransitionId>,
    /// The fixes that were read.
    pub(super) read: HashSet<FixKey>,
    /// Another node owned the device until now, and may still store fixes from here on: look once more when it has.
    pub(super) look_again: Option<FixKey>,
}

/// What building needs.
pub(super) struct Builder {
    pub(super) store: Arc<dyn TrackingStore>,
    pub(super) fixes: Arc<dyn FixStore>,
    pub(super) sink: TransitionSink,
    pub(super) clock: Clock,
    pub(super) node: NodeId,
    pub(super) stop: CancellationToken,
    /// People whose trackers cannot be built for a reason of their own.
    pub(super) stuck: Mutex<Stuck<UserId>>,
    pub(super) aside: SetAside,
}

impl Builder {
    /// Builds the tracker of a person and gives it to them. One that fails is built again when the sweep asks, and for no
    /// reason of its own it takes nobody else's along.
    pub(super) async fn run(&self, Rebuild(person): Rebuild) {
        let (user, now) = (person.user(), self.clock.now());
        let (Some(device), owed) = person.to_build() else {
            person.abandon();
            return;
        };
        if self.with_stuck(|stuck| stuck.waits(user, now)) {
            person.abandon();
            return;
        }
        let built = match tried(self.build(user, device, owed)).await {
            Ok(built) => built,
            Err(Refusal::Passing(error)) => {
                tracing::warn!(%error, "a tracker could not be built; it is tried again");
                person.abandon();
                return;
            }
            Err(why) => {
                self.set_aside(&person, &why);
                return;
            }
        };
        if let Some(from) = built.look_again {
            self.look_again(&person, from);
        }
        match attempt(|| person.install(built, self.clock.now())) {
            Ok(()) => self.with_stuck(|stuck| stuck.freed(user)),
            Err(panicked) => self.set_aside(&person, &panicked.into()),
        }
    }

    /// What its fixes would have found is found when it can be built: they are stored.
    fn set_aside(&self, person: &Person, why: &Refusal) {
        let now = self.clock.now();
        if self.with_stuck(|stuck| stuck.refused(person.user(), now)) {
            self.aside.note(person.user(), why);
        }
        person.abandon();
    }

    fn with_stuck<T>(&self, look: impl FnOnce(&mut Stuck<UserId>) -> T) -> T {
        // Each change is one of a map: it is whole after any panic.
        look(&mut self.stuck.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn build(&self, owner: UserId, device: DeviceId, owed: Option<FixKey>) -> Stored<Built> {
        self.everything_stored().await;
        // Before anything is read: what an earlier owner finds after this is refused.
        let taken = self.store.take_device(device, self.node).await?;
        let fences = self.store.fences(owner, None, MAX_FENCES).await?;
        let fences = Arc::new(fences.into_iter().map(Arc::new).collect::<Vec<_>>());
        let tail = self.store.device_tail(device).await?;
        let again_from = owed.filter(|late| tail.folded_to.is_some_and(|to| *late <= to));
        let (states, start) = match again_from {
            Some(late) => (self.store.states_before(device, late).await?, Some((late.0, late.1 - 1))),
            None => (tail.states, tail.folded_to),
        };
        let previous = match start {
            Some(start) => self.fixes.at_or_before(device, start).await?.map(|stored| stored.fix),
            None => None,
        };
        let ownership = Ownership::new(taken.token);
        let mut tracker = Tracker::new(owner, device, fences, states, start, previous, ownership);
        let now = self.clock.now();
        let mut found = Vec::new();
        let mut read = HashSet::new();
        let mut after = start.unwrap_or(BEGINNING);
        loop {
            let page = self.fixes.after(device, after, PAGE).await?;
            for stored in &page {
                let late = again_from
                    .is_some_and(|_| tail.folded_to.is_some_and(|to| stored.fix.order() <= to))
                    || stored.fix.fixed_at < now - LATE;
                read.insert(stored.fix.order());
                found.extend(tracker.fold(&stored.fix, late).into_iter().map(|c| (c, late)));
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.fix.order(),
                _ => break,
            }
        }
        // One that came after the last page is evaluated in its turn.
        if let Some(newest) = self.fixes.newest(&[device]).await?.filter(|n| tracker.is_past(&n.fix)) {
            found.extend(tracker.first_states(&newest.fix).into_iter().map(|c| (c, true)));
        }
        let retracted = match again_from {
            Some(late) => self.reconcile(device, late, &mut found).await?,
            None => Vec::new(),
        };
        let look_again = taken.from_another.then(|| tail.folded_to.unwrap_or(BEGINNING));
        Ok(Built { tracker, found, retracted, read, look_again })
    }

    /// Evaluates again from where another node left off, once what that node had read is stored or refused.
    fn look_again(&self, person: &Arc<Person>, from: FixKey) {
        let (person, stop) = (Arc::clone(person), self.stop.clone());
        detach("second-look", async move {
            if until(&stop, tokio::time::sleep(SECOND_LOOK)).await.is_some() {
                person.look_again(from);
            }
        });
    }

    /// What late fixes undid; leaves only what is new in `found`.
    async fn reconcile(
        &self,
        device: DeviceId,
        late: FixKey,
        found: &mut Vec<(Crossing, bool)>,
    ) -> Stored<Vec<TransitionId>> {
        let history = self.store.transitions_since(device, late.0).await?;
        let history = history.iter().filter(|t| (t.transition.at, t.transition.seq) >= late);
        let now_true: HashSet<TransitionId> = found.iter().map(|(c, _)| c.transition.id).collect();
        let mut known = HashSet::new();
        let mut retracted = Vec::new();
        for old in history {
            if now_true.contains(&old.transition.id) {
                if !old.retracted {
                    known.insert(old.transition.id);
                }
            } else if !old.retracted {
                retracted.push(old.transition.id);
            }
        }
        found.retain(|(c, _)| !known.contains(&c.transition.id));
        Ok(retracted)
    }

    /// Waits until the engine has stored what was sent to it: the store's states are then the newest.
    async fn everything_stored(&self) {
        let (done, wait) = oneshot::channel();
        if self.sink.send(SinkMessage::Barrier(done)).await.is_ok() {
            // An error means that the engine stopped, and with it this process.
            let _ = wait.await;
        }
    }
}
