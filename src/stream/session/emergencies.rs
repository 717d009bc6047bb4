//! Raise, end, claim. A raise and an end depend on nothing else of the session and wait for nothing in it: they are begun
//! beside whatever is asked or queued. A claim goes in front of what is queued.

use super::{Ask, Output, Session};
use crate::alerts::{Accepted, EmergencyView};
use crate::id::EmergencyId;
use crate::problem::Problem;
use crate::stream::protocol::{End, PlainFrame, ServerFrame};
use crate::usecases::emergencies;
use serde_json::Value;

/// What must not wait.
pub(in crate::stream) enum Urgent {
    /// Raise an emergency.
    Raise(Box<Value>),
    /// End one.
    End(End),
}

impl Urgent {
    /// Which emergency it is about, as far as it was said.
    pub(in crate::stream) fn about(&self) -> Option<EmergencyId> {
        match self {
            Self::Raise(body) => body.get("id").and_then(|id| id.as_str()?.parse().ok()),
            Self::End(end) => Some(end.emergency),
        }
    }
}

/// What became of it.
pub(in crate::stream) struct UrgentAnswer {
    /// Which it was about, as far as it was said.
    pub(in crate::stream) about: Option<EmergencyId>,
    /// The emergency, or why not.
    pub(in crate::stream) outcome: Result<Box<Accepted>, Problem>,
}

impl Session {
    /// Begins before anything else is done.
    pub(super) fn begin(&mut self, urgent: Urgent) {
        self.ahead(|session| session.out(Output::Begin(urgent)));
    }

    /// Asks before anything else is done.
    pub(super) fn ask_first(&mut self, ask: Ask) {
        self.ahead(|session| session.ask(ask));
    }

    /// A raise or an end does not fit now: its phone is told, and repeats it.
    pub(in crate::stream) fn has_no_room(&mut self, about: Option<EmergencyId>) {
        let why = Problem::unavailable("too many raises and ends wait on this socket; send it again");
        let frame = self.accepted(UrgentAnswer { about, outcome: Err(why) });
        self.ahead(|session| session.out(Output::Send(frame)));
    }

    /// The frame that answers a raise or an end. Whatever PIN an end had, it is made of the same view.
    pub(in crate::stream) fn accepted(&self, answer: UrgentAnswer) -> ServerFrame {
        let frame = match answer.outcome {
            Ok(accepted) => {
                let view = emergencies::shown(&accepted.emergency, self.caller);
                PlainFrame::Accepted {
                    id: accepted.id,
                    emergency: view.id,
                    state: view.state,
                    copies: accepted.copies,
                    copies_max: accepted.copies_max,
                    joined: view.joined.filter(|joined| joined.contains(&accepted.id)),
                    tells: accepted.tells,
                    notes: accepted.notes,
                }
            }
            Err(problem) => PlainFrame::Error {
                code: problem.code().word(),
                detail: problem.detail().to_owned(),
                emergency: answer.about,
            },
        };
        frame.into()
    }

    /// Answers a claim; everybody with part in the emergency sees it in its next frame.
    pub(super) fn send_claimed(&mut self, about: EmergencyId, outcome: Result<Box<EmergencyView>, Problem>) {
        match outcome {
            Ok(view) => self.send(PlainFrame::Accepted {
                id: about,
                emergency: view.id,
                state: view.state,
                copies: 1,
                copies_max: 1,
                joined: None,
                tells: None,
                notes: Vec::new(),
            }),
            Err(problem) => self.problem(&problem, Some(about)),
        }
    }
}
