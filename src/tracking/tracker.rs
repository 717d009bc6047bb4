//! A tracker: a reducer. Fixes of one device go in, in event order; the state at each fence of its person comes out.

use super::{FenceState, Geofence, Membership, Ownership, Transition, Trigger, crosses, evaluate};
use crate::clock::Timestamp;
use crate::geo::Fix;
use crate::id::{DeviceId, GeofenceId, TransitionId, UserId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The key of a device's fixes in event order: (`fixed_at`, `seq`).
pub type FixKey = (Timestamp, i64);

/// A transition with the fence it belongs to and whether anybody is told.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// What happened.
    pub transition: Transition,
    /// At which fence.
    pub fence: Arc<Geofence>,
    /// Tell it, if the fence is watched for it; otherwise it is history only.
    pub tell: bool,
}

/// What a tracker found: to be stored in one transaction.
#[derive(Clone, Debug)]
pub struct TransitionBatch {
    /// Whose.
    pub owner: UserId,
    /// The tracked device.
    pub device: DeviceId,
    /// The states after it, of the fences that changed.
    pub states: Vec<FenceState>,
    /// The newest fix that is evaluated.
    pub folded_to: FixKey,
    /// In event order.
    pub crossings: Vec<Crossing>,
    /// Undone by late fixes.
    pub retracted: Vec<TransitionId>,
    /// Under which fencing token it is stored.
    pub ownership: Ownership,
    /// The last batch: with it the device is given back.
    pub last: bool,
}

/// What goes to the engine that stores transitions.
pub enum SinkMessage {
    /// Store it.
    Batch(TransitionBatch),
    /// Answer when everything sent before is stored.
    Barrier(oneshot::Sender<()>),
}

/// Where transitions go; when it is full the tracker is forgotten and built again from the store.
pub type TransitionSink = mpsc::Sender<SinkMessage>;

/// The state of a device: one membership per fence, and the newest fix that went into it.
#[derive(Clone)]
pub struct Tracker {
    owner: UserId,
    device: DeviceId,
    fences: Arc<Vec<Arc<Geofence>>>,
    states: HashMap<GeofenceId, FenceState>,
    folded_to: Option<FixKey>,
    previous: Option<Fix>,
    ownership: Ownership,
}

impl Tracker {
    /// Goes on from stored states and the newest fix in them; states of an older revision of their fence are unknown
    /// again.
    pub fn new(
        owner: UserId,
        device: DeviceId,
        fences: Arc<Vec<Arc<Geofence>>>,
        states: Vec<FenceState>,
        folded_to: Option<FixKey>,
        previous: Option<Fix>,
        ownership: Ownership,
    ) -> Self {
        let mut tracker =
            Self { owner, device, fences, states: HashMap::new(), folded_to, previous, ownership };
        for mut state in states {
            let fence = tracker.fences.iter().find(|f| f.id == state.fence && f.revision == state.revision);
            if let Some(fence) = fence {
                state.dwell_at = dwell_at(fence, &state);
                tracker.states.insert(state.fence, state);
            }
        }
        tracker
    }

    /// Whether this node still owns the device.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }
    /// The device whose fixes it takes.
    pub fn device(&self) -> DeviceId {
        self.device
    }
    /// The newest fix that went into it.
    pub fn folded_to(&self) -> Option<FixKey> {
        self.folded_to
    }
    /// Whether the fix is older than the newest one that went into it, or is that one.
    pub fn is_past(&self, fix: &Fix) -> bool {
        self.folded_to.is_some_and(|to| fix.order() <= to)
    }
    /// The membership of a fence.
    pub fn membership(&self, fence: GeofenceId) -> Membership {
        self.states.get(&fence).map_or(Membership::Unknown, |s| s.membership)
    }

    /// Takes one fix, and returns what it shows. Fixes must come in event order.
    pub fn fold(&mut self, fix: &Fix, late: bool) -> Vec<Crossing> {
        // A dwell that was over before this fix came first, whether a timer has seen it or not.
        let mut crossings = self.dwells_until(fix.fixed_at, late);
        for n in 0..self.fences.len() {
            let fence = Arc::clone(&self.fences[n]);
            crossings.extend(self.fold_one(&fence, fix, late));
        }
        self.folded_to = self.folded_to.max(Some(fix.order()));
        self.previous = Some(fix.clone());
        crossings
    }

    /// Gives fences that have no state yet their first one, from a fix that went into the tracker before.
    pub fn first_states(&mut self, newest: &Fix) -> Vec<Crossing> {
        let fences = Arc::clone(&self.fences);
        let unseen = fences.iter().filter(|f| !self.states.contains_key(&f.id)).cloned().collect::<Vec<_>>();
        unseen.iter().filter_map(|fence| self.fold_one(fence, newest, true)).collect()
    }

    /// Dwells that are over at `now`, also when no fix says so any more.
    pub fn dwells_until(&mut self, now: Timestamp, late: bool) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for n in 0..self.fences.len() {
            let fence = Arc::clone(&self.fences[n]);
            let Some(state) = self.states.get_mut(&fence.id) else { continue };
            let Some(at) = state.dwell_at.filter(|at| *at <= now) else { continue };
            (state.dwelled, state.dwell_at) = (true, None);
            let seq = state.since_seq;
            crossings.push(self.crossing(&fence, Trigger::Dwell, at, seq, false, late));
        }
        crossings
    }

    fn fold_one(&mut self, fence: &Arc<Geofence>, fix: &Fix, late: bool) -> Option<Crossing> {
        let before = self.membership(fence.id);
        let after = evaluate(before, &fence.shape, fix);
        if after == before {
            let outside = after == Membership::Outside && fence.triggers.contains(&Trigger::Cross);
            let passed = outside && self.previous.as_ref().is_some_and(|p| crosses(fence, p, fix));
            return passed.then(|| self.crossing(fence, Trigger::Cross, fix.fixed_at, fix.seq, false, late));
        }
        let kind = after.trigger()?;
        let mut state = FenceState {
            fence: fence.id,
            revision: fence.revision,
            membership: after,
            since: fix.fixed_at,
            since_seq: fix.seq,
            dwelled: false,
            dwell_at: None,
        };
        state.dwell_at = dwell_at(fence, &state);
        self.states.insert(fence.id, state);
        let initial = before == Membership::Unknown;
        Some(self.crossing(fence, kind, fix.fixed_at, fix.seq, initial, late))
    }

    fn crossing(
        &self,
        fence: &Arc<Geofence>,
        kind: Trigger,
        at: Timestamp,
        seq: i64,
        initial: bool,
        late: bool,
    ) -> Crossing {
        let transition = Transition {
            id: Transition::id_of(self.device, fence, kind, seq),
            owner: self.owner,
            device: self.device,
            fence: fence.id,
            kind,
            at,
            seq,
            initial,
            late,
        };
        Crossing { transition, fence: Arc::clone(fence), tell: false }
    }

    /// The batch that stores `crossings`, the states they led to and how far fixes are evaluated; `None` before the first
    /// fix.
    pub fn batch(&self, crossings: Vec<Crossing>) -> Option<TransitionBatch> {
        let changed = |id: &GeofenceId| crossings.iter().any(|c| c.transition.fence == *id);
        let states = self.states.values().filter(|s| changed(&s.fence)).copied().collect();
        self.batch_of(states, crossings, Vec::new())
    }

    /// The batch that stores what a build found, with all states: any may differ from what is stored.
    pub fn rebuilt(&self, crossings: Vec<Crossing>, retracted: Vec<TransitionId>) -> Option<TransitionBatch> {
        self.batch_of(self.states.values().copied().collect(), crossings, retracted)
    }

    fn batch_of(
        &self,
        states: Vec<FenceState>,
        crossings: Vec<Crossing>,
        retracted: Vec<TransitionId>,
    ) -> Option<TransitionBatch> {
        let (owner, device, folded_to) = (self.owner, self.device, self.folded_to?);
        let ownership = self.ownership.clone();
        Some(TransitionBatch {
            owner,
            device,
            states,
            folded_to,
            crossings,
            retracted,
            ownership,
            last: false,
        })
    }
}

/// When a state will have been a dwell; `None` if it is none, was one, or nobody wants to know.
fn dwell_at(fence: &Geofence, state: &FenceState) -> Option<Timestamp> {
    let waits =
        state.membership == Membership::Inside && !state.dwelled && fence.triggers.contains(&Trigger::Dwell);
    waits.then(|| state.since + fence.dwell)
}

impl Crossing {
    /// Whether anybody could be told of it: not a first state, and the fence is watched for it.
    pub fn is_news(&self) -> bool {
        !self.transition.initial && self.fence.triggers.contains(&self.transition.kind)
    }
    /// The membership it led to, or that it needs to still mean something.
    pub fn led_to(&self) -> Membership {
        match self.transition.kind {
            Trigger::Enter | Trigger::Dwell => Membership::Inside,
            Trigger::Exit | Trigger::Cross => Membership::Outside,
        }
    }
    /// Whether it ended the visit or the absence that earlier ones were about.
    pub fn changes_membership(&self) -> bool {
        matches!(self.transition.kind, Trigger::Enter | Trigger::Exit)
    }
}
