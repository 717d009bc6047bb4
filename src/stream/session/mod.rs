//! The session of one socket: a state machine without a socket, a store or a clock of its own.
//!
//! Frames, what waited in the mailbox and ticks go in ([`Input`]); frames to send, questions, effects or a close come out
//! ([`Output`]). Whoever owns the socket gives an input, carries out what [`Session::next`] says until it says nothing
//! more, and gives back the answer to each question. Nothing in here waits.
//!
//! - `exchange`: what goes in and out; `questions`: what is asked, and what may be answered.
//! - `frames`: what a client sends, and how often it may be malformed.
//! - `emergencies`: raise, end, claim. A raise and an end are begun beside everything else, whatever is asked or queued; a
//!   claim goes in front of what is queued.
//! - `fixes`: the window of fixes that are handed over and not yet on disk.
//! - `inbox`: welcome, alerts, `resume`, open emergencies.
//! - `positions`: who is watched by which grant.
//! - `liveness`: pings, a dead peer, draining, and when to wake up.

mod emergencies;
mod exchange;
mod fixes;
mod frames;
mod inbox;
mod liveness;
mod positions;
mod questions;
#[cfg(test)]
mod tests;

pub(super) use emergencies::{Urgent, UrgentAnswer};
pub(super) use exchange::{Effect, Input, Moment, Output, Peers};
pub(super) use inbox::PAGE;
pub(super) use questions::{Answer, Ask, GrantFor, NewestFor, WayIn};

use super::StreamSettings;
use super::close::{Close, CloseCode};
use super::mailbox::Waiting;
use super::protocol::{PlainFrame, ServerFrame};
use crate::bus::Sealed;
use crate::id::{EmergencyId, UserId};
use crate::identity::{Caller, Revoked, TokenKind};
use crate::problem::Problem;
use fixes::Window;
use frames::Faults;
use inbox::Inbox;
use liveness::Liveness;
use positions::Positions;
use std::collections::VecDeque;
use tokio::time::Instant;
use uuid::Uuid;

/// One socket's session.
pub(super) struct Session {
    id: Uuid,
    caller: Caller,
    settings: StreamSettings,
    /// What is to be done, in order. Empty, and without memory, between two inputs.
    queue: VecDeque<Work>,
    faults: Faults,
    window: Window,
    inbox: Inbox,
    positions: Positions,
    liveness: Liveness,
}

/// What a session still has to do. What depends on the answers before it is decided when its turn comes.
enum Work {
    /// Decided already.
    Out(Output),
    /// Ask again whether this person's position may be seen.
    Renew(UserId, GrantFor),
    /// Show a position that came. If its grant is over by then, that is renewed first.
    Position(UserId, Sealed),
    /// Show it, if it may be seen then.
    Show(UserId, Sealed),
    /// Read the inbox from where it was sent to by then.
    Inbox,
    /// Read the newest position of somebody of whom nothing was heard.
    ReadSilent(UserId),
}

impl Session {
    /// A session of a socket that was just opened.
    pub(super) fn new(id: Uuid, caller: Caller, settings: StreamSettings, at: Instant) -> Self {
        Self {
            id,
            caller,
            settings,
            queue: VecDeque::new(),
            faults: Faults::new(at),
            window: Window::default(),
            inbox: Inbox::default(),
            positions: Positions::default(),
            liveness: Liveness::new(at),
        }
    }

    /// The socket's name in the registry and in logs.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// Whose session it is, by the newest token it was given.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How far the inbox was sent; beyond every inbox for a socket that reads none.
    pub(super) fn sent_to(&self) -> i64 {
        self.inbox.sent_to
    }

    /// Takes what happened.
    pub(super) fn take(&mut self, input: Input<'_>, moment: &Moment) {
        match input {
            Input::Opened => self.open(moment),
            Input::Text(text) => self.text(text, moment),
            Input::Overflow(text) => self.overflow(text, moment),
            Input::Binary(bytes) => self.binary(bytes, moment),
            Input::Beat => self.liveness.heard(moment.at),
            Input::TooLarge => self.close(frames::TOO_LARGE),
            Input::Waiting(waiting) => self.deliver(waiting, moment),
            Input::Tick(peers) => self.tick(peers, moment),
            Input::Stalled => {
                metrics::counter!("cima_slow_consumers_total").increment(1);
                self.close(CloseCode::SlowConsumer.because("slow consumer"));
            }
        }
    }

    /// What is to be done now; `None` until the next input.
    pub(super) fn next(&mut self, moment: &Moment) -> Option<Output> {
        while let Some(work) = self.queue.pop_front() {
            let output = match work {
                Work::Out(output) => Some(output),
                Work::Renew(subject, why) => self.renew_grant(subject, why),
                Work::Inbox => Some(Output::Ask(self.inbox.question())),
                Work::Position(subject, sealed) => self.position(subject, sealed, moment),
                Work::Show(subject, sealed) => self.show(subject, &sealed, moment),
                Work::ReadSilent(subject) => self.read_silent(subject, moment),
            };
            if matches!(output, Some(Output::Close(_) | Output::Abandon)) {
                self.queue.clear();
            }
            if output.is_some() {
                return output;
            }
        }
        // An idle socket keeps no memory for it.
        self.queue = VecDeque::new();
        None
    }

    /// Goes on with the answer to a question, before everything else that is queued.
    pub(super) fn answer(&mut self, answer: Answer, moment: &Moment) {
        self.ahead(|session| match answer {
            Answer::Welcome { last_seq, head } => session.welcome(last_seq, head, moment),
            Answer::OpenEmergencies(found) => session.send_open_emergencies(found, moment),
            Answer::Emergency(found) => session.send_emergency(found, moment),
            Answer::Inbox(page) => session.send_page(page, moment),
            Answer::Place(head) => session.find_place(head, moment),
            Answer::Head { resume, head } => session.resume_from(resume, head, moment),
            Answer::Acked(outcome) => session.if_refused(outcome, None),
            Answer::Claimed { about, outcome } => session.send_claimed(about, outcome),
            Answer::Authenticated(caller) => session.move_to(caller),
            Answer::Moved => session.moved(moment),
            Answer::WayIn { given, way_in } => session.way_in_opened(given, way_in, moment),
            Answer::Ingested(taken) => session.ingested(taken),
            Answer::Visibility { subject, why, grant } => session.granted(subject, why, grant, moment),
            Answer::Names(subject, names) => session.named(subject, *names, moment),
            Answer::Newest { grant, why, newest } => session.newest_read(&grant, why, newest, moment),
            Answer::Disclosed { grant, newest, recorded } => {
                session.disclosed(&grant, *newest, recorded, moment);
            }
        });
    }

    /// Takes what waited: ends first, then emergencies, alerts, acks, grants and positions.
    fn deliver(&mut self, waiting: Waiting, moment: &Moment) {
        if let Some(close) = self.ended_by(&waiting, moment) {
            return self.close(close);
        }
        if let Some(after) = waiting.drain {
            self.drain(after, moment);
        }
        if self.reads() {
            for id in &waiting.emergencies {
                self.ask(Ask::Emergency(*id));
            }
            for (alert, at) in &waiting.seen {
                self.send(PlainFrame::Seen { alert: *alert, at: *at });
            }
        }
        if waiting.resync {
            self.look_at_inbox_anew();
        } else if waiting.inbox && self.reads() {
            self.ask_inbox();
        }
        self.take_written(waiting.written);
        if waiting.resync {
            self.renew_all_grants();
        } else {
            let changed = |subject| Work::Renew(subject, GrantFor::Changed);
            self.queue.extend(waiting.visibility.into_iter().map(changed));
        }
        self.queue
            .extend(waiting.positions.into_iter().map(|(subject, sealed)| Work::Position(subject, sealed)));
    }

    /// Whether what waited ends this session. What was said of another session of the device does not.
    fn ended_by(&self, waiting: &Waiting, moment: &Moment) -> Option<Close> {
        if waiting.removed {
            return Some(closed_for(Revoked::Device(self.caller.device)));
        }
        if let Some(session) = waiting.ended.filter(|ended| Some(*ended) == self.caller.session()) {
            return Some(closed_for(Revoked::Session(session)));
        }
        if waiting.replaced {
            return Some(CloseCode::Replaced.because("a newer socket of this device sends fixes"));
        }
        // The hint that would have closed it may be among those that were lost.
        moment.revoked.filter(|_| waiting.resync).map(closed_for)
    }

    /// Everything may have changed: hints were lost.
    fn resync(&mut self, moment: &Moment) {
        if let Some(revoked) = moment.revoked {
            return self.close(closed_for(revoked));
        }
        self.look_at_inbox_anew();
        self.renew_all_grants();
    }

    /// Whether it is over, whatever is asked still.
    pub(super) fn is_closing(&self) -> bool {
        let closes = |work: &Work| matches!(work, Work::Out(Output::Close(_) | Output::Abandon));
        self.queue.iter().any(closes)
    }

    /// Whether this socket may read: a distress token's may not.
    fn reads(&self) -> bool {
        matches!(self.caller.kind, TokenKind::Access(_))
    }

    /// Puts what `work` queues in front of what is queued already.
    fn ahead(&mut self, work: impl FnOnce(&mut Self)) {
        let mut rest = std::mem::take(&mut self.queue);
        work(self);
        self.queue.append(&mut rest);
    }

    fn out(&mut self, output: Output) {
        self.queue.push_back(Work::Out(output));
    }

    fn ask(&mut self, ask: Ask) {
        self.out(Output::Ask(ask));
    }

    fn send(&mut self, frame: impl Into<ServerFrame>) {
        self.out(Output::Send(frame.into()));
    }

    /// Nothing that is queued is done any more.
    fn close(&mut self, close: Close) {
        self.queue.clear();
        self.out(Output::Close(close));
    }

    fn refuse(&mut self, code: &'static str, detail: &str, emergency: Option<EmergencyId>) {
        self.send(PlainFrame::Error { code, detail: detail.to_owned(), emergency });
    }

    fn problem(&mut self, problem: &Problem, emergency: Option<EmergencyId>) {
        self.refuse(problem.code().word(), problem.detail(), emergency);
    }

    fn if_refused<T>(&mut self, outcome: Result<T, Problem>, emergency: Option<EmergencyId>) {
        if let Err(problem) = outcome {
            self.problem(&problem, emergency);
        }
    }
}

/// How a socket closes whose caller is not believed any more.
fn closed_for(revoked: Revoked) -> Close {
    match revoked {
        Revoked::Device(_) => CloseCode::DeviceRemoved.because("the device was removed"),
        Revoked::Session(_) => CloseCode::Token.because("the session ended"),
    }
}
