//! Fixes on a socket: read, checked, handed over, and acked when they are on disk.

use super::actor::{Actor, Step};
use super::protocol::PlainFrame;
use crate::bus::Event;
use crate::geo::{FixRefusal, RawFix};
use crate::tracking::{Ingest, Recorded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// What a socket knows of its fixes.
#[derive(Default)]
pub(super) struct Fixes {
    /// Whether this socket has sent any; the registry looks at it.
    pub(super) any: Arc<AtomicBool>,
    /// Its claim to be the device's stream among all nodes; 0 while it has none.
    pub(super) claim: Arc<AtomicI64>,
    /// Fixes handed over and not yet on disk.
    pub(super) unacked: usize,
    way_in: Option<(Ingest, Duration)>,
    /// Frames handed over and not yet on disk: their number here and the lowest `seq` in them.
    in_flight: Vec<(u64, i64)>,
    frames: u64,
    /// The highest `seq` that came in a frame.
    top: i64,
    acked: i64,
}

impl Actor {
    /// Takes a frame of fixes: each is stored or refused on its own.
    pub(super) async fn take_fixes(&mut self, given: Vec<Result<RawFix, (Option<i64>, FixRefusal)>>) -> Step {
        if self.fixes.way_in.is_none() && !self.open_way_in().await? {
            return Ok(());
        }
        let retention = self.fixes.way_in.as_ref().map_or(Duration::ZERO, |(_, kept)| *kept);
        let now = self.stream.services.clock.now();
        let mut fixes = Vec::with_capacity(given.len());
        for read in given {
            let seq = match &read {
                Ok(raw) => Some(raw.seq),
                Err((seq, _)) => *seq,
            };
            let checked = read.map_err(|(_, refusal)| refusal).and_then(|raw| raw.check(now, retention));
            match checked {
                Ok(fix) => fixes.push(fix),
                Err(refusal) => {
                    metrics::counter!("cima_fixes_rejected_total", "code" => refusal.code()).increment(1);
                    self.send(PlainFrame::Rejected { seq, code: refusal.code() }).await?;
                }
            }
            // A number that no fix can have must not swallow the acks of those that come after.
            if let Some(seq) = seq.filter(|s| (1..=crate::geo::MAX_SEQ).contains(s)) {
                self.fixes.top = self.fixes.top.max(seq);
            }
        }
        if fixes.is_empty() {
            return self.ack_if_idle().await;
        }
        self.fixes.frames += 1;
        let (frame, count, mailbox) = (self.fixes.frames, fixes.len(), Arc::clone(&self.mailbox));
        let lowest = fixes.iter().map(|f| f.seq).min().unwrap_or(self.fixes.top);
        self.fixes.unacked += count;
        self.fixes.in_flight.push((frame, lowest));
        let receipt = Box::new(move |recorded: Recorded| mailbox.recorded(frame, count, recorded));
        if let Some((way_in, _)) = &self.fixes.way_in
            && !self.stream.services.tracking.ingest(way_in, fixes, true, receipt)
        {
            return self.refuse("unavailable", "the node is stopping", None).await;
        }
        Ok(())
    }

    /// At the first fix: which device drives the person's fences, how long fixes are kept, and older sockets go.
    async fn open_way_in(&mut self) -> Result<bool, super::actor::Ended> {
        let (services, caller) = (&self.stream.services, self.caller);
        let tracked = services.identity.tracked_or(caller.user, caller.device).await;
        let retention = services.identity.retention(caller.user).await;
        match (tracked, retention) {
            (Ok(tracked), Ok(retention)) => {
                let way_in = services.tracking.attach(caller.user, caller.device, tracked);
                self.fixes.way_in = Some((way_in, retention.unwrap_or(services.tracking.retention())));
                self.fixes.any.store(true, Ordering::Relaxed);
                self.stream.registry.replace_older(caller.user, caller.device, self.id);
                self.claim_stream();
                Ok(true)
            }
            (Err(error), _) | (_, Err(error)) => {
                self.problem(error.into(), None).await?;
                Ok(false)
            }
        }
    }

    /// Tells other nodes that the phone streams here now. Its fixes do not wait for that, and do not need it.
    fn claim_stream(&self) {
        let (services, user, device) = (self.stream.services.clone(), self.caller.user, self.caller.device);
        if !services.bus.is_shared() {
            return;
        }
        let claim = Arc::clone(&self.fixes.claim);
        crate::runtime::detach("stream-claim", async move {
            match services.tracking.claim_stream(device).await {
                Ok(newest) => {
                    claim.store(newest, Ordering::Relaxed);
                    services.bus.publish(Event::Streams { user, device, claim: newest });
                }
                Err(error) => {
                    tracing::warn!(%error, "an older socket of a phone may stay open on another node")
                }
            }
        });
    }

    /// Frames are on disk: acks up to the lowest fix that is not, whatever order they came in.
    pub(super) async fn take_recorded(&mut self, recorded: Vec<(u64, usize, Recorded)>) -> Step {
        if recorded.is_empty() {
            return Ok(());
        }
        for (frame, count, outcome) in recorded {
            self.fixes.unacked -= count;
            self.fixes.in_flight.retain(|(n, _)| *n != frame);
            for seq in outcome.conflicts {
                let code = FixRefusal::SeqConflict.code();
                self.send(PlainFrame::Rejected { seq: Some(seq), code }).await?;
            }
        }
        let lowest = self.fixes.in_flight.iter().map(|(_, lowest)| *lowest).min();
        let durable = lowest.map_or(self.fixes.top, |lowest| self.fixes.top.min(lowest - 1));
        if lowest.is_some() && durable <= self.fixes.acked {
            return Ok(());
        }
        self.ack(durable).await
    }

    async fn ack_if_idle(&mut self) -> Step {
        if !self.fixes.in_flight.is_empty() || self.fixes.top == 0 {
            return Ok(());
        }
        self.ack(self.fixes.top).await
    }

    async fn ack(&mut self, seq: i64) -> Step {
        self.fixes.acked = seq;
        self.send(PlainFrame::Acked { seq }).await
    }
}
