//! Raise, end, claim. They go in front of everything that is queued, and depend on nothing else of the session.

use super::{Ask, Session};
use crate::alerts::{Accepted, EmergencyView};
use crate::id::EmergencyId;
use crate::problem::Problem;
use crate::stream::protocol::PlainFrame;
use crate::usecases::emergencies;

impl Session {
    /// Asks before anything else is done.
    pub(super) fn ask_first(&mut self, ask: Ask) {
        self.ahead(|session| session.ask(ask));
    }

    /// Answers a raise or an end. Whatever PIN an end had, the answer is made of the same view.
    pub(super) fn send_accepted(
        &mut self,
        about: Option<EmergencyId>,
        outcome: Result<Box<Accepted>, Problem>,
    ) {
        match outcome {
            Ok(accepted) => {
                let view = emergencies::shown(&accepted.emergency, self.caller);
                self.send(PlainFrame::Accepted {
                    id: accepted.id,
                    emergency: view.id,
                    state: view.state,
                    copies: accepted.copies,
                    copies_max: accepted.copies_max,
                    joined: view.joined.filter(|joined| joined.contains(&accepted.id)),
                    notes: accepted.notes,
                });
            }
            Err(problem) => self.problem(&problem, about),
        }
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
                notes: Vec::new(),
            }),
            Err(problem) => self.problem(&problem, Some(about)),
        }
    }
}
