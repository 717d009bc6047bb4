//! The service of tracking: takes fixes from the transports, keeps the people whose fixes come in, answers where they
//! are.

use super::event_order::SET_BACK;
use super::person::Person;
use super::rebuild::{Builder, Rebuild};
use super::zones::{Around, Windows, follow};
use super::{
    Fences, FixKey, FixStore, Kept, Receipt, Recorded, Recorder, StoredFix, TrackPage, TrackingStore,
    TransitionSink, ZoneSink, ZoneStore, newest_of,
};
use crate::bus::{Bus, Event};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, NodeId, UserId};
use crate::runtime::{Pace, Refusal, SetAside, Tasks, attempt, tried, until};
use crate::trust::{Basis, Grant};
use dashmap::DashMap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Trackers that may wait to be built; beyond, the sweep asks again.
const REBUILDS: usize = 1_024;
/// Trackers that are built at a time.
const AT_ONCE: usize = 8;
/// How often late transitions and stale trackers are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// People taken up for a due dwell in one sweep.
const WOKEN: u32 = 256;
/// A dwell that its node has not found for so long is any node's.
const OVERDUE: Duration = Duration::from_secs(5);
/// Between two heartbeats of this node, with a look for devices of nodes that have none.
const LIVES: Duration = Duration::from_secs(5);
/// Orphans taken in one look.
const ORPHANS: u32 = 256;
/// How long somebody is kept in memory whose stream has stopped, until what was found is decided.
const LINGER: Duration = Duration::from_secs(30);

/// What is set aside here.
const UNIT: &str = "tracker";

/// One device's way in: its person, kept while a transport has it.
pub struct Ingest {
    person: Arc<Person>,
    device: DeviceId,
}

/// What a node needs to evaluate fixes.
pub struct Evaluation {
    /// To the engine that stores transitions.
    pub sink: TransitionSink,
    /// Public zones.
    pub zones: Arc<dyn ZoneStore>,
    /// To whoever stores who is in them.
    pub zone_sink: ZoneSink,
}

/// The service.
pub struct Tracking {
    pub(super) store: Arc<dyn TrackingStore>,
    pub(super) fixes: Arc<dyn FixStore>,
    recorder: Recorder,
    pub(super) people: DashMap<UserId, Weak<Person>>,
    sink: TransitionSink,
    rebuilds: mpsc::Sender<Rebuild>,
    /// The zones; `None` on a node that only stores fixes and evaluates nothing.
    zones: Option<Arc<Windows>>,
    pub(super) bus: Bus,
    pub(super) clock: Clock,
    pub(super) kept: Kept,
    node: NodeId,
    stop: CancellationToken,
    pub(super) aside: SetAside,
}

impl Tracking {
    /// The service and its tasks. Without `evaluation` this node only stores fixes, and others evaluate them.
    pub fn start(
        store: Arc<dyn TrackingStore>,
        fixes: Arc<dyn FixStore>,
        evaluation: Option<Evaluation>,
        bus: Bus,
        clock: Clock,
        kept: Kept,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let evaluates = evaluation.is_some();
        let (sink, zones) = match evaluation {
            Some(Evaluation { sink, zones, zone_sink }) => {
                let windows = Windows::start(Arc::clone(&zones), zone_sink, clock.clone(), tasks);
                (sink, Some((zones, windows)))
            }
            None => (mpsc::channel(1).0, None),
        };
        let (rebuilds, asked) = mpsc::channel::<Rebuild>(REBUILDS);
        let node = NodeId::fresh(&clock);
        let builder = Builder {
            store: Arc::clone(&store),
            fixes: Arc::clone(&fixes),
            sink: sink.clone(),
            clock: clock.clone(),
            node,
            stop: tasks.stop(),
            stuck: Mutex::default(),
            aside: SetAside::of(UNIT),
        };
        let recorder = Recorder::start(Arc::clone(&fixes), tasks);
        let tracking = Arc::new(Self {
            store,
            fixes,
            recorder,
            people: DashMap::new(),
            sink,
            rebuilds,
            zones: zones.as_ref().map(|(_, windows)| Arc::clone(windows)),
            bus,
            clock,
            kept,
            node,
            stop: tasks.stop(),
            aside: SetAside::of(UNIT),
        });
        if evaluates {
            tracking.start_evaluating(builder, asked, tasks);
        }
        if let Some((store, windows)) = zones {
            follow(store, windows, Arc::downgrade(&tracking), tasks);
        }
        tracking
    }

    fn start_evaluating(
        self: &Arc<Self>,
        builder: Builder,
        mut asked: mpsc::Receiver<Rebuild>,
        tasks: &Tasks,
    ) {
        let stop = tasks.stop();
        // A build that dies is one person's; see the builder.
        tasks.spawn("trackers", async move {
            let mut building = FuturesUnordered::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some(rebuild) = asked.recv(), if building.len() < AT_ONCE => building.push(builder.run(rebuild)),
                    Some(()) = building.next() => {}
                }
            }
        });
        let sweeper = Arc::downgrade(self);
        tasks.every("tracker-sweep", Pace::of(SWEEP).later(), move || {
            let tracking = sweeper.upgrade();
            async move {
                let Some(tracking) = tracking else { return };
                tracking.sweep();
                if let Err(error) = tracking.wake_dwelling().await {
                    tracing::warn!(%error, "due dwells could not be read; they are looked at again");
                }
            }
        });
        self.start_listening(tasks);
    }

    fn sweep(&self) {
        let people: Vec<Arc<Person>> = self.people.iter().filter_map(|p| p.value().upgrade()).collect();
        let now = self.clock.now();
        for person in people {
            if let Err(panicked) = attempt(|| person.settle(now)) {
                self.aside.note(person.user(), panicked);
                person.abandon();
            }
        }
        self.people.retain(|_, person| person.strong_count() > 0);
    }

    /// Takes up people of whom a dwell is due and whose stream has stopped; the sweep then finds it.
    async fn wake_dwelling(&self) -> Stored<()> {
        let now = self.clock.now();
        for (user, device) in self.store.due_dwells(now, self.node, now - OVERDUE, WOKEN).await? {
            let known = self.people.get(&user).is_some_and(|p| p.strong_count() > 0);
            if !known {
                let ingest = self.attach(user, device, Some(device));
                ingest.person.rebuild();
                self.keep_for(ingest, LINGER);
            }
        }
        Ok(())
    }

    /// The fences of people.
    pub fn fences(&self) -> Fences<'_> {
        Fences(self)
    }

    /// How long fixes are kept, unless a person chose otherwise.
    pub fn retention(&self) -> Duration {
        self.kept.fixes
    }

    /// Opens a device's way in. `tracked` is the person's tracked device.
    pub fn attach(&self, user: UserId, device: DeviceId, tracked: Option<DeviceId>) -> Ingest {
        let Some(zones) = &self.zones else {
            let person = Person::new(user, None, self.sink.clone(), self.rebuilds.clone(), None);
            return Ingest { person: Arc::new(person), device };
        };
        let mut entry = self.people.entry(user).or_default();
        let person = entry.upgrade().unwrap_or_else(|| {
            let (sink, rebuilds) = (self.sink.clone(), self.rebuilds.clone());
            let person = Arc::new(Person::new(user, tracked, sink, rebuilds, Some(zones.around(user))));
            *entry = Arc::downgrade(&person);
            person
        });
        drop(entry);
        person.track(tracked);
        Ingest { person, device }
    }

    /// Takes checked fixes: stores them, evaluates them, and shows the newest to whoever may see it. `receipt` is called
    /// when they are on disk. `false` if the node is stopping.
    pub fn ingest(&self, from: &Ingest, fixes: Vec<Fix>, streamed: bool, receipt: Receipt) -> bool {
        let now = self.clock.now();
        let fixes: Arc<[Fix]> = fixes.into();
        let position = from.person.observe(from.device, &fixes, now);
        let receipt = {
            let (person, device, fixes) = (Arc::clone(&from.person), from.device, Arc::clone(&fixes));
            let elsewhere = self.zones.is_none().then(|| self.bus.clone());
            Box::new(move |recorded: Recorded| {
                person.recorded(device, &fixes, &recorded);
                if let (Some(bus), Some(from)) = (elsewhere, fixes.iter().map(Fix::order).min()) {
                    bus.publish_elsewhere(&Event::FixesRecorded { user: person.user(), device, from });
                }
                receipt(recorded);
            })
        };
        if !self.recorder.submit(from.device, fixes, now, streamed, receipt) {
            return false;
        }
        if let Some(position) = position.filter(|p| self.bus.is_watched(p.user())) {
            self.bus.publish(Event::Position { subject: position.user(), sealed: position.seal() });
        }
        true
    }

    /// Somebody whose fixes are coming in here.
    pub(super) fn person(&self, user: UserId) -> Option<Arc<Person>> {
        self.people.get(&user).and_then(|person| person.upgrade())
    }

    /// The zones around everybody whose fixes come in here.
    pub(super) fn surroundings(&self) -> Vec<Arc<Around>> {
        let people = self.people.iter().filter_map(|person| person.value().upgrade());
        people.filter_map(|person| person.zones().cloned()).collect()
    }

    /// Trackers that wait to be built.
    pub(super) fn rebuilds_waiting(&self) -> usize {
        self.rebuilds.max_capacity() - self.rebuilds.capacity()
    }

    /// The person's fences changed: the owner of their device reads the new ones.
    pub(super) fn fences_changed(&self, owner: UserId) {
        if let Some(person) = self.person(owner) {
            person.rebuild();
        }
        self.bus.publish_elsewhere(&Event::FencesChanged { owner });
    }

    /// The person's tracked device changed.
    pub fn tracked_changed(&self, user: UserId, device: Option<DeviceId>) {
        if let Some(person) = self.person(user) {
            person.track(device);
        }
        self.bus.publish_elsewhere(&Event::TrackedChanged { user });
    }

    /// Takes devices whose owner is gone, and evaluates fixes that were acked and not evaluated yet. `brought` are devices
    /// whose fixes the journal brought to the store at the start, each with the first of them.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn recover(&self, brought: &HashMap<DeviceId, FixKey>) -> Stored<usize> {
        let mut behind = Vec::new();
        for left in self.store.orphans(ORPHANS).await? {
            let newest = match tried(self.fixes.newest(&[left.device])).await {
                Ok(newest) => newest,
                Err(Refusal::Passing(error)) => return Err(error),
                Err(why) => {
                    self.aside.note(left.device, why);
                    continue;
                }
            };
            let from = brought.get(&left.device).copied();
            let newest = newest.map(|stored| stored.fix);
            if from.is_some()
                || newest.as_ref().is_some_and(|n| left.folded_to.is_none_or(|to| n.order() > to))
            {
                behind.push((left, from, newest));
            }
        }
        let count = behind.len();
        for (left, from, newest) in behind {
            let ingest = self.attach(left.user, left.device, Some(left.device));
            ingest.person.rebuild_from(from);
            if let (Some(zones), Some(newest)) = (ingest.person.zones(), newest) {
                zones.see(&[newest], self.clock.now());
            }
            self.keep_for(ingest, LINGER);
        }
        Ok(count)
    }

    /// Starts to say that this node lives, and to take up what nodes left that do not. Only where there are others.
    pub fn start_living(self: &Arc<Self>, tasks: &Tasks) {
        let tracking = Arc::downgrade(self);
        tasks.every("node", Pace::of(LIVES), move || {
            let tracking = tracking.upgrade();
            async move {
                if let Some(tracking) = tracking
                    && let Err(error) = tracking.live().await
                {
                    tracing::warn!(%error, "other nodes cannot know that this one lives");
                }
            }
        });
    }

    async fn live(&self) -> Stored<()> {
        self.store.heartbeat(self.node).await?;
        let taken_up = self.recover(&HashMap::new()).await?;
        if taken_up > 0 {
            tracing::info!(people = taken_up, "devices of a node that is gone are taken here");
        }
        Ok(())
    }

    /// The id under which this node owns devices.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Says that a socket of the device sends fixes here. The number grows with every claim, on whatever node.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn claim_stream(&self, device: DeviceId) -> Stored<i64> {
        self.store.claim_stream(device).await
    }

    /// The newest claims of devices.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn stream_claims(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        self.store.stream_claims(devices).await
    }

    /// Keeps a person for so long, so that what was found late is decided.
    pub fn keep_for(&self, ingest: Ingest, for_: Duration) {
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        crate::runtime::detach("tracker-hold", async move {
            // What a stop leaves undecided is decided when the person goes.
            until(&stop, clock.sleep(for_)).await;
            drop(ingest);
        });
    }

    /// Waits until everything found so far is stored; tests and the stop use it.
    pub async fn settled(&self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        if self.sink.send(super::SinkMessage::Barrier(done)).await.is_ok() {
            // An error means that the engine stopped: there is nothing to wait for.
            let _ = wait.await;
        }
    }

    /// The newest fix that a grant covers, whatever its age: of the tracked device; in an emergency, of the one that raised it,
    /// or of any if that has none. Of a device it is the one that it sent last, by its own count: its clock may have been set
    /// back.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn newest_fix(&self, grant: &Grant) -> Stored<Option<StoredFix>> {
        let devices = self.covered_devices(grant).await?;
        if devices.is_empty() {
            return Ok(None);
        }
        let mut newest = None;
        for device in &devices {
            let latest = self.fixes.latest(*device).await?;
            if latest.is_some() && grant.raised_on() == Some(*device) {
                return Ok(latest);
            }
            let shown = match grant.basis() {
                Basis::Emergency(_) => latest,
                Basis::Own | Basis::LiveLocation => self.not_overtaken(*device, latest).await?,
            };
            newest = newest_of(newest.into_iter().chain(shown));
        }
        // What is in a trail alone is older than any fix.
        if newest.is_some() {
            return Ok(newest);
        }
        let parts = self.trails(grant).await?;
        if parts.is_empty() { Ok(None) } else { self.fixes.newest_of_trail(&devices, &parts).await }
    }

    /// The newest fix of a device by its time; but `latest`, the one with the highest number, if the device has sent nothing
    /// newer for a while: then its clock was set back.
    async fn not_overtaken(&self, device: DeviceId, latest: Option<StoredFix>) -> Stored<Option<StoredFix>> {
        let newest = self.fixes.newest(&[device]).await?;
        let set_back = |newest: &StoredFix| {
            latest.as_ref().is_some_and(|latest| latest.received_at >= newest.received_at + SET_BACK)
        };
        Ok(newest.filter(|newest| !set_back(newest)).or(latest))
    }

    /// When a fix of the person was last received, as far as the last one of each device tells; what keeps an emergency from
    /// expiring. Of removed devices too: what they sent was sent.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn last_sign(&self, user: UserId) -> Stored<Option<Timestamp>> {
        let devices = self.store.every_device_of(user).await?;
        let mut last = None;
        for device in &devices {
            let latest = self.fixes.latest(*device).await?;
            last = last.max(latest.map(|fix| fix.received_at));
        }
        if last.is_none() {
            last = self.newest_in_incidents(user, &devices).await?.map(|fix| fix.received_at);
        }
        Ok(last)
    }

    /// A page of the part of a track that a grant covers: of one device, or of all that it covers.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn track(
        &self,
        grant: &Grant,
        of: Option<DeviceId>,
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>> {
        let since = grant.trail_from().unwrap_or(page.since);
        let mut devices = self.covered_devices(grant).await?;
        devices.retain(|device| of.is_none_or(|of| of == *device));
        if !matches!(grant.basis(), Basis::Emergency(_)) {
            let from = since.max(page.from);
            return self.merged(grant, &devices, TrackPage { from, since, ..page }).await;
        }
        let mut found = Vec::new();
        for device in devices {
            let from = (since - self.lag(device, since).await?).max(page.from);
            if from < page.to {
                found.extend(self.merged(grant, &[device], TrackPage { from, since, ..page }).await?);
            }
        }
        Ok(page.first_of(found))
    }

    /// By how much the clock of a device was slow when it sent its last fix, if that was since then, or how late it sent it: in an
    /// emergency what it takes is to be seen all the same. Of what it took before that fix, as its clock has it, no more is
    /// covered than of any other.
    async fn lag(&self, device: DeviceId, since: Timestamp) -> Stored<Duration> {
        let last = self.fixes.latest(device).await?.filter(|last| last.received_at >= since);
        Ok(last.map_or(Duration::ZERO, |last| last.received_at.since(last.fix.fixed_at)))
    }

    /// The devices whose track a grant covers, the tracked one first.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn covered_devices(&self, grant: &Grant) -> Stored<Vec<DeviceId>> {
        match grant.basis() {
            Basis::LiveLocation => {
                Ok(self.store.tracked_device(grant.subject()).await?.into_iter().collect())
            }
            Basis::Own | Basis::Emergency(_) => self.store.devices_of(grant.subject()).await,
        }
    }

    /// The newest `seq` of the device that is on disk, whatever way it came.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        self.fixes.last_seq(device).await
    }

    /// What is stored of the device that was taken at one of these times.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn taken_at(&self, device: DeviceId, times: &[Timestamp]) -> Stored<Vec<Fix>> {
        Ok(self.fixes.at(device, times).await?.into_iter().map(|stored| stored.fix).collect())
    }

    /// The fences a person is in.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn fences_inside(&self, user: UserId) -> Stored<Vec<(GeofenceId, String)>> {
        match self.store.tracked_device(user).await? {
            Some(device) => self.store.fences_inside(user, device).await,
            None => Ok(Vec::new()),
        }
    }
}
