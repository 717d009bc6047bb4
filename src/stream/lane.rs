//! The emergency lane of a socket: raise, end, claim.

use super::actor::{Actor, Step};
use super::protocol::{End, PlainFrame};
use crate::alerts::{Accepted, EndWith, Manner, Raise, subject_view};
use crate::id::EmergencyId;
use crate::identity::PinOutcome;
use crate::runtime::detach;
use serde_json::Value;

impl Actor {
    /// Raises. The answer comes when it is stored; its fix goes the usual way beside it.
    pub(super) async fn raise(&mut self, body: &Value) -> Step {
        let (services, caller) = (self.stream.services.clone(), self.caller);
        let raise = Raise::read(body, services.clock.now(), services.tracking.retention());
        let numbered = raise.fix.clone().filter(|_| raise.fix_is_numbered);
        let accepted = services.alerts.raise(caller.user, Some(caller.device), raise).await;
        if let Some(fix) = numbered {
            let services = services.clone();
            detach("fix of a raise", async move {
                let Ok(tracked) = services.identity.tracked_or(caller.user, caller.device).await else {
                    return;
                };
                let way_in = services.tracking.attach(caller.user, caller.device, tracked);
                services.tracking.ingest(&way_in, vec![fix], false, Box::new(|_| ()));
            });
        }
        match accepted {
            Ok(accepted) => self.send_accepted(accepted).await,
            Err(error) => self.problem(error.into(), body.get("id").and_then(id_of)).await,
        }
    }

    async fn send_accepted(&mut self, accepted: Accepted) -> Step {
        let view = subject_view(&accepted.emergency, None);
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
        let (services, user) = (self.stream.services.clone(), self.caller.user);
        if let Err(error) = services.alerts.check_own(user, end.emergency).await {
            return self.problem(error.into(), Some(end.emergency)).await;
        }
        let manner = match services.identity.check_pin(user, end.pin.as_deref()).await {
            Ok(PinOutcome::Accepted) => Manner::True,
            Ok(PinOutcome::Duress) => Manner::Duress,
            Err(error) => return self.problem(error.into(), Some(end.emergency)).await,
        };
        let with = if end.resolve { EndWith::Resolve } else { EndWith::Cancel };
        match services.alerts.end(user, end.emergency, with, manner).await {
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
