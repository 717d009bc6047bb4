//! When a session wakes up by itself: pings, a peer that is gone, a node that stops, and what is to be looked at again.

use super::{GrantFor, Moment, Output, Peers, Session, Work};
use crate::stream::close::CloseCode;
use crate::stream::protocol::PlainFrame;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks at grants while somebody is watched, and before a read that failed is tried again for the first time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Before it is tried again, at most. Sockets that failed together come back spread over the second half of a pause, so that a
/// store which is in trouble is not kept there by them.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(30);
/// For the last acks before a stopping node closes a socket.
const LAST_ACKS: Duration = Duration::from_secs(1);
/// Between looks for them.
const ACK_TICK: Duration = Duration::from_millis(20);

/// The moments that matter to a connection.
pub(super) struct Liveness {
    heard_at: Instant,
    pinged_at: Instant,
    /// Pings since the peer was last heard.
    unanswered: u16,
    /// Reads that failed since one was answered.
    failed: u16,
    ticked_at: Instant,
    /// The node is stopping: when this socket closes.
    closes_at: Option<Instant>,
    /// Something could not be read: when everything is looked at again.
    resync_at: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            heard_at: at,
            pinged_at: at,
            unanswered: 0,
            failed: 0,
            ticked_at: at,
            closes_at: None,
            resync_at: None,
        }
    }

    /// Anything came from the peer.
    pub(super) fn heard(&mut self, at: Instant) {
        self.heard_at = at;
        self.unanswered = 0;
    }

    pub(super) fn is_due_to_close(&self, at: Instant) -> bool {
        self.closes_at.is_some_and(|closes_at| closes_at <= at)
    }
}

impl Session {
    /// When the next tick is due.
    pub(in crate::stream) fn wakes_at(&self) -> Instant {
        let Liveness { pinged_at, ticked_at, closes_at, resync_at, .. } = self.liveness;
        let ping = pinged_at + self.settings.heartbeat;
        let watching = (!self.positions.is_empty()).then_some(ticked_at + LOOK_AGAIN);
        // Looks soon again for the last acks.
        let closing = closes_at.map(|at| at.max(ticked_at + ACK_TICK));
        [watching, closing, resync_at].into_iter().flatten().fold(ping, Instant::min)
    }

    /// The node is stopping: says when this socket closes.
    pub(super) fn drain(&mut self, after: Duration, moment: &Moment) {
        self.liveness.closes_at.get_or_insert(moment.at + after);
        self.send(PlainFrame::Drain { after_s: after.as_secs_f64().ceil() as u64 });
    }

    /// Something could not be read: everything is looked at again soon, and later each time that it fails.
    pub(super) fn resync_soon(&mut self, moment: &Moment) {
        if self.liveness.resync_at.is_none() {
            let whole = LOOK_AGAIN.saturating_mul(1 << self.liveness.failed.min(8)).min(LOOK_AGAIN_AT_MOST);
            // Ids are random in their second half.
            let share = self.id.as_u64_pair().1 as f64 / u64::MAX as f64;
            self.liveness.failed = self.liveness.failed.saturating_add(1);
            self.liveness.resync_at = Some(moment.at + whole.mul_f64(0.5 + 0.5 * share));
        }
    }

    /// A read was answered.
    pub(super) fn was_answered(&mut self) {
        self.liveness.failed = 0;
    }

    /// Pings, notices a dead peer, and looks again at what a lost hint may have hidden.
    pub(super) fn tick(&mut self, peers: Peers, moment: &Moment) {
        self.liveness.ticked_at = moment.at;
        // What was read is acked before the close, unless the disk does not answer: then the phone sends it again.
        if let Some(closes_at) = self.liveness.closes_at
            && closes_at <= moment.at
            && (self.window.is_empty() || closes_at + LAST_ACKS <= moment.at)
        {
            return self.close(CloseCode::Restart.because("restart"));
        }
        if self.liveness.resync_at.is_some_and(|at| at <= moment.at) {
            self.liveness.resync_at = None;
            self.resync(moment);
            if moment.revoked.is_some() {
                return;
            }
        }
        if moment.at - self.liveness.pinged_at >= self.settings.heartbeat && !self.beat(peers, moment) {
            return;
        }
        self.tell_of_expiry(moment);
        self.queue
            .extend(self.positions.lapsed(moment).map(|subject| Work::Renew(subject, GrantFor::Renewal)));
        self.queue.extend(self.positions.silent(peers, moment.at).map(Work::ReadSilent));
    }

    /// A heartbeat; `false` if it was the last.
    fn beat(&mut self, peers: Peers, moment: &Moment) -> bool {
        let heartbeat = self.settings.heartbeat;
        let silent = moment.at - self.liveness.heard_at > heartbeat * 2 + heartbeat / 2;
        if silent && self.liveness.unanswered >= 2 && self.window.is_empty() {
            self.queue.clear();
            self.out(Output::Abandon);
            return false;
        }
        if let Some(revoked) = moment.revoked {
            self.close(super::closed_for(revoked));
            return false;
        }
        self.liveness.pinged_at = moment.at;
        self.liveness.unanswered = self.liveness.unanswered.saturating_add(1);
        self.out(Output::Ping);
        // Beside other nodes this one looks at the inboxes of all its sockets at once, and more often.
        if self.reads() && peers == Peers::None {
            self.ask_inbox();
        }
        true
    }
}
