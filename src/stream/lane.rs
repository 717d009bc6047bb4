//! The emergency lane of a socket: raise, end, claim.

use super::actor::{Actor, Step};
use super::protocol::{End, PlainFrame};
use crate::alerts::{Accepted, EndWith};
use crate::id::EmergencyId;
use crate::usecases::emergencies;
use serde_json::Value;

impl Actor {
    /// Raises. The answer comes when it is stored.
    pub(super) async fn raise(&mut self, body: &Value) -> Step {
        let (services, caller) = (&self.stream.services, self.caller);
        let raise = emergencies::read_raise(services, body);
        let accepted = emergencies::raise(services, caller, raise).await;
        match accepted {
            Ok(accepted) => self.send_accepted(accepted).await,
            Err(error) => self.problem(error.into(), body.get("id").and_then(id_of)).await,
        }
    }

    async fn send_accepted(&mut self, accepted: Accepted) -> Step {
        let view = emergencies::shown(&accepted.emergency, self.caller);
        self.send(PlainFrame::Accepted {
            id: accepted.id,
            emergency: view.id,
            state: view.state,
            copies: accepted.copies,
            copies_max: accepted.copies_max,
            joined: view.joined.filter(|joined| joined.contains(&accepted.id)),
            notes: accepted.notes,
        })
        .await
    }

    /// Ends one's own emergency, with the PIN if one is set. Whatever PIN it was, the answer is made of the same view.
    pub(super) async fn end(&mut self, end: End) -> Step {
        let with = if end.resolve { EndWith::Resolve } else { EndWith::Cancel };
        let (services, pin) = (&self.stream.services, end.pin.as_deref());
        match emergencies::end(services, self.caller, end.emergency, with, pin).await {
            Ok(emergency) => {
                let (id, notes) = (end.emergency, Vec::new());
                self.send_accepted(Accepted { id, emergency, opened: false, copies: 1, copies_max: 1, notes })
                    .await
            }
            Err(error) => self.problem(error.into(), Some(end.emergency)).await,
        }
    }

    /// A contact is on it; everybody with part in it sees so in the emergency's next frame.
    pub(super) async fn claim(&mut self, id: EmergencyId) -> Step {
        match self.stream.services.alerts.claim(self.caller.user, id, true).await {
            Ok(view) => {
                let (state, joined, notes) = (view.state, None, Vec::new());
                self.send(PlainFrame::Accepted {
                    id,
                    emergency: view.id,
                    state,
                    copies: 1,
                    copies_max: 1,
                    joined,
                    notes,
                })
                .await
            }
            Err(error) => self.problem(error.into(), Some(id)).await,
        }
    }
}

fn id_of(value: &Value) -> Option<EmergencyId> {
    value.as_str()?.parse().ok()
}
