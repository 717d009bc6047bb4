//! What a client sends, and how often it may be malformed.

use super::{Ask, Moment, Output, Session, Urgent};
use crate::clock::Timestamp;
use crate::identity::Caller;
use crate::problem::{Code, Problem};
use crate::stream::close::{Close, CloseCode};
use crate::stream::protocol::{ClientFrame, FrameError, PlainFrame};
use std::time::Duration;
use tokio::time::Instant;

/// A client's frame, at most.
const MAX_FRAME: usize = 64 * 1024;
/// Malformed frames in [`FAULT_WINDOW`] that close the socket.
pub(super) const FAULTS: u32 = 10;
/// Until what ends it is known.
const FOR_EVER: Timestamp = Timestamp::from_unix_ms(i64::MAX);
/// The window of malformed frames.
pub(super) const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// How a socket closes whose client sent a larger frame.
pub(super) const TOO_LARGE: Close = CloseCode::TooLarge.because("a frame is at most 64 KiB");

/// How many malformed frames came lately.
pub(super) struct Faults {
    count: u32,
    since: Instant,
}

impl Faults {
    pub(super) fn new(at: Instant) -> Self {
        Self { count: 0, since: at }
    }

    /// One more; whether that is one too many.
    fn exceeded(&mut self, at: Instant) -> bool {
        if at - self.since > FAULT_WINDOW {
            *self = Self::new(at);
        }
        self.count += 1;
        self.count >= FAULTS
    }
}

impl Session {
    pub(super) fn text(&mut self, text: &str, moment: &Moment) {
        self.liveness.heard(moment.at);
        if text.len() > MAX_FRAME {
            return self.close(TOO_LARGE);
        }
        match ClientFrame::read(text) {
            Ok(frame) => self.frame(frame, moment),
            Err(error) => self.fault(error, moment),
        }
    }

    /// The raise or end that a frame is, if it is one; every other frame waits for its turn.
    pub(in crate::stream) fn urgent(&mut self, text: &str, moment: &Moment) -> Option<Urgent> {
        if text.len() > MAX_FRAME || !ClientFrame::may_be_urgent(text) {
            return None;
        }
        let urgent = match ClientFrame::read(text) {
            Ok(ClientFrame::Emergency(raise)) => {
                self.in_emergency(FOR_EVER);
                Urgent::Raise(Box::new(raise))
            }
            Ok(ClientFrame::End(end)) => Urgent::End(end),
            _ => return None,
        };
        self.liveness.heard(moment.at);
        Some(urgent)
    }

    /// A frame for which there is no place any more. Nothing of it is taken.
    pub(super) fn overflow(&mut self, text: &str, moment: &Moment) {
        self.liveness.heard(moment.at);
        if text.len() > MAX_FRAME {
            return self.close(TOO_LARGE);
        }
        match ClientFrame::read(text) {
            Ok(ClientFrame::Fixes(given)) => self.push_back(&given, moment),
            Ok(_) => {
                metrics::counter!("cima_shed_total", "what" => "frame").increment(1);
                if self.may_tell_of_pace(moment) {
                    let detail = "more frames came than were answered; this one was not taken";
                    self.refuse(Code::RateLimited.word(), detail, None);
                }
            }
            Err(error) => self.fault(error, moment),
        }
    }

    pub(super) fn binary(&mut self, bytes: usize, moment: &Moment) {
        self.liveness.heard(moment.at);
        if bytes > MAX_FRAME {
            return self.close(TOO_LARGE);
        }
        let detail = "frames of cima.v1.json are text".to_owned();
        self.fault(FrameError { code: Code::InvalidRequest.word(), detail }, moment);
    }

    fn frame(&mut self, frame: ClientFrame, moment: &Moment) {
        match frame {
            ClientFrame::Fixes(given) => self.take_fixes(given, moment),
            ClientFrame::Emergency(raise) => {
                self.in_emergency(FOR_EVER);
                self.begin(Urgent::Raise(Box::new(raise)));
            }
            ClientFrame::End(end) => self.begin(Urgent::End(end)),
            ClientFrame::Token(token) => self.ask(Ask::Authenticate(token)),
            _ if !self.reads() => self.refuse(Code::Forbidden.word(), "a distress token reads nothing", None),
            ClientFrame::Claim(emergency) => self.ask_first(Ask::Claim(emergency)),
            ClientFrame::Ack(alert, state) => self.ask(Ask::Ack(alert, state)),
            ClientFrame::Resume(cursor) => self.ask(Ask::Head { resume: cursor }),
            ClientFrame::Watch(user) => self.watch(user, moment),
            ClientFrame::Unwatch(user) => self.unwatch(user),
        }
    }

    /// Ten malformed frames in a minute are no accident.
    fn fault(&mut self, error: FrameError, moment: &Moment) {
        metrics::counter!("cima_malformed_frames_total").increment(1);
        self.send(PlainFrame::Error { code: error.code, detail: error.detail, emergency: None });
        if self.faults.exceeded(moment.at) {
            self.out(Output::Close(CloseCode::Policy.because("too many malformed frames")));
        }
    }

    /// Takes a fresh access token of the same person and device: the socket moves to the session of that token.
    pub(super) fn move_to(&mut self, caller: Result<Caller, Problem>) {
        match caller {
            Ok(fresh) if (fresh.user, fresh.device) == (self.caller.user, self.caller.device) => {
                match fresh.session().filter(|_| self.reads()) {
                    Some(session) => {
                        self.caller = fresh;
                        self.token_is_fresh();
                        self.ask(Ask::Move(session));
                    }
                    None => self.refuse(
                        Code::Forbidden.word(),
                        "the kind of a socket's token does not change",
                        None,
                    ),
                }
            }
            Ok(_) => self.refuse(Code::Forbidden.word(), "the token is of another person or device", None),
            Err(problem) => self.problem(&problem, None),
        }
    }

    /// The registry knows the new session: what ended it before that was said to nobody.
    pub(super) fn moved(&mut self, moment: &Moment) {
        match moment.revoked {
            Some(revoked) => self.close(super::closed_for(revoked)),
            None => self.renew_all_grants(),
        }
    }
}
