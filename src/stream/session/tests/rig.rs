//! A session and the time around it.

use super::node::{ADA, NOW, Node};
use super::words::shown;
use crate::clock::{Clock, Timestamp};
use crate::id::{DeviceId, SessionId, UserId};
use crate::identity::{Caller, Revoked, TokenKind};
use crate::stream::StreamSettings;
use crate::stream::mailbox::Mailbox;
use crate::stream::session::{Answer, Effect, Input, Moment, Output, Peers, Session};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

pub(super) const PHONE: DeviceId = DeviceId(Uuid::from_u128(0xf0));
pub(super) const FIRST: SessionId = SessionId(Uuid::from_u128(1));
pub(super) const SECOND: SessionId = SessionId(Uuid::from_u128(2));
pub(super) const WINDOW: usize = 4;
pub(super) const HEARTBEAT: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) node: Node,
    pub(super) revoked: Option<Revoked>,
    clock: Clock,
    at: Instant,
    /// What the session was told to listen to and has not been told to leave.
    pub(super) listening: BTreeSet<UserId>,
}

pub(super) fn caller(kind: TokenKind) -> Caller {
    Caller { user: ADA, device: PHONE, kind, until: NOW + Duration::from_secs(900) }
}

impl Rig {
    /// A session of Ada's phone, before anything happened.
    pub(super) fn new(kind: TokenKind) -> Self {
        let (clock, at) = (Clock::manual(NOW), Instant::now());
        let write_deadline = Duration::from_secs(10);
        let settings = StreamSettings { window: WINDOW, heartbeat: HEARTBEAT, write_deadline };
        let session = Session::new(Uuid::from_u128(9), caller(kind), settings, at);
        Self { session, node: Node::default(), revoked: None, clock, at, listening: BTreeSet::new() }
    }

    /// One that was welcomed.
    pub(super) fn welcomed() -> Self {
        let mut rig = Self::new(TokenKind::Access(FIRST));
        assert_eq!(rig.give(Input::Opened), ["ask welcome", "welcome", "ask open emergencies"]);
        rig
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.at += time;
    }

    /// Lets time pass up to the next tick, and ticks.
    pub(super) fn tick(&mut self, peers: Peers) -> Vec<String> {
        let left = self.wakes_in();
        self.pass(left);
        self.give(Input::Tick(peers))
    }

    pub(super) fn wakes_in(&self) -> Duration {
        self.session.wakes_at().saturating_duration_since(self.at)
    }

    pub(super) fn moment(&self) -> Moment {
        let (at, now, monotonic) = (self.at, self.clock.now(), self.clock.monotonic());
        Moment { at, now, monotonic, revoked: self.revoked }
    }

    /// A frame of the client.
    pub(super) fn frame(&mut self, frame: Value) -> Vec<String> {
        self.give(Input::Text(&frame.to_string()))
    }

    /// What other tasks put into the mailbox.
    pub(super) fn mail(&mut self, put: impl FnOnce(&Mailbox)) -> Vec<String> {
        let mailbox = Mailbox::default();
        put(&mailbox);
        self.give(Input::Waiting(mailbox.take_now()))
    }

    /// Gives an input, answers what is asked, and says what came out.
    pub(super) fn give(&mut self, input: Input<'_>) -> Vec<String> {
        let moment = self.moment();
        self.session.take(input, &moment);
        let mut said = Vec::new();
        while let Some(output) = self.session.next(&self.moment()) {
            said.push(shown(&output));
            match output {
                Output::Ask(ask) => {
                    let answer = self.node.answer(ask, self.clock.now());
                    self.pass(self.node.takes);
                    let moment = self.moment();
                    self.session.answer(answer, &moment);
                }
                Output::Ingest { frame, fixes } => {
                    let taken = self.node.ingest(frame, &fixes);
                    let moment = self.moment();
                    self.session.answer(Answer::Ingested(taken), &moment);
                }
                Output::Begin(urgent) => {
                    let frame = self.session.accepted(self.node.carry_out(&urgent));
                    said.push(shown(&Output::Send(frame)));
                }
                Output::Do(Effect::Listen(subject)) => {
                    self.listening.insert(subject);
                }
                Output::Do(Effect::Unlisten(subject)) => {
                    self.listening.remove(&subject);
                }
                Output::Send(_) | Output::Ping | Output::Do(_) | Output::Close(_) | Output::Abandon => {}
            }
        }
        said
    }
}
