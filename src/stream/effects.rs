//! What a session asks for and wants done, carried out against the services of the node.

use super::connection::Connection;
use super::mailbox::Mailbox;
use super::protocol::{End, GivenFix};
use super::registry::Registry;
use super::session::{Answer, Ask, Effect, PAGE};
use crate::alerts::{Accepted, EndWith};
use crate::bus::{Event, WatchGuard};
use crate::geo::Fix;
use crate::id::{EmergencyId, UserId};
use crate::identity::{Caller, IdentityError};
use crate::problem::Problem;
use crate::runtime::detach;
use crate::services::Services;
use crate::usecases::{emergencies, fixes, positions};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Positions of one person come to the mailbox while this lives.
pub(super) struct Listening {
    subject: UserId,
    socket: Uuid,
    registry: Arc<Registry>,
    _interest: WatchGuard,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.registry.remove_watcher(self.subject, self.socket);
    }
}

impl Connection {
    /// Finds the answer to a question.
    pub(super) async fn find_out(&mut self, ask: Ask) -> Answer {
        let (services, caller) = (&self.stream.services, *self.session.caller());
        let (alerts, user) = (&services.alerts, caller.user);
        match ask {
            Ask::Welcome { reads } => {
                let last_seq = services.tracking.last_seq(caller.device).await;
                let head = if reads { Some(alerts.inbox_head(user).await) } else { None };
                Answer::Welcome { last_seq, head }
            }
            Ask::OpenEmergencies => Answer::OpenEmergencies(alerts.open_for(user).await),
            Ask::Emergency(id) => Answer::Emergency(alerts.view(user, id).await.map(Box::new)),
            Ask::Inbox { after } => Answer::Inbox(alerts.inbox_after(user, after, PAGE).await),
            Ask::Head { resume } => {
                Answer::Head { resume, head: alerts.inbox_head(user).await.map_err(Problem::from) }
            }
            Ask::Ack(alert, state) => {
                Answer::Acked(alerts.ack(user, alert, state.into()).await.map_err(Problem::from))
            }
            Ask::Raise(body) => raise(services, caller, &body).await,
            Ask::End(given) => end(services, caller, given).await,
            Ask::Claim(id) => {
                let claimed = alerts.claim(user, id, true).await;
                Answer::Claimed { about: id, outcome: claimed.map(Box::new).map_err(Problem::from) }
            }
            Ask::Authenticate(token) => {
                Answer::Authenticated(services.identity.authenticate(&token).map_err(Problem::from))
            }
            Ask::Move(session) => {
                self.stream.registry.move_to(user, self.session.id(), session);
                Answer::Moved
            }
            Ask::OpenWayIn(given) => self.open_way_in(given).await,
            Ask::Ingest { frame, fixes } => Answer::Ingested(self.ingest(frame, fixes)),
            Ask::Visibility { subject, watching, why } => {
                Answer::Visibility { subject, why, grant: alerts.grant(user, subject, watching).await }
            }
            Ask::Newest { grant, why } => {
                let newest = alerts.newest_position(&grant).await;
                Answer::Newest { grant, why, newest: newest.map(|found| found.map(Box::new)) }
            }
            Ask::Disclose { grant, newest } => {
                let recorded = positions::disclose(services, &grant, 1).await;
                Answer::Disclosed { grant, newest, recorded }
            }
        }
    }

    /// Does what nobody waits for.
    pub(super) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Overtake => self.overtake(),
            Effect::Sent { from, to } => self.record_sent(from, to),
            Effect::ContinueInbox => self.mailbox.inbox(),
            Effect::Listen(subject) => self.listen(subject),
            Effect::Unlisten(subject) => self.listening.retain(|l| l.subject != subject),
        }
    }

    async fn open_way_in(&mut self, given: Vec<GivenFix>) -> Answer {
        let (services, caller) = (&self.stream.services, *self.session.caller());
        let opened = async {
            let retention = fixes::retention(services, caller.user).await?;
            Ok::<_, IdentityError>((fixes::attach(services, caller).await?, retention))
        };
        let retention: Result<Duration, Problem> = match opened.await {
            Ok((way_in, retention)) => {
                self.way_in = Some(way_in);
                Ok(retention)
            }
            Err(error) => Err(error.into()),
        };
        Answer::WayIn { given, retention }
    }

    /// Nothing waits here: it is the way of every fix.
    pub(super) fn ingest(&self, frame: u64, fixes: Vec<Fix>) -> bool {
        let Some(way_in) = &self.way_in else { return false };
        let (count, mailbox) = (fixes.len(), Arc::clone(&self.mailbox));
        let receipt = Box::new(move |recorded| mailbox.written(frame, count, recorded));
        self.stream.services.tracking.ingest(way_in, fixes, true, receipt)
    }

    /// Closes older sockets of the device here, and tells other nodes that the phone streams here now. Its fixes do not
    /// wait for that, and do not need it.
    fn overtake(&self) {
        let (services, caller) = (self.stream.services.clone(), *self.session.caller());
        self.mailbox.set_sends_fixes();
        self.stream.registry.replace_older(caller.user, caller.device, self.session.id());
        if !services.bus.is_shared() {
            return;
        }
        let mailbox: Arc<Mailbox> = Arc::clone(&self.mailbox);
        detach("stream-claim", async move {
            match services.tracking.claim_stream(caller.device).await {
                Ok(claim) => {
                    mailbox.set_claim(claim);
                    let (user, device) = (caller.user, caller.device);
                    services.bus.publish(Event::Streams { user, device, claim });
                }
                Err(error) => {
                    tracing::warn!(%error, "an older socket of a phone may stay open on another node");
                }
            }
        });
    }

    /// Only says how far an alert came; an app's ack says it again.
    fn record_sent(&self, from: i64, to: i64) {
        let (alerts, user) = (Arc::clone(&self.stream.services.alerts), self.session.caller().user);
        detach("sent", async move {
            if let Err(error) = alerts.sent(user, from, to).await {
                tracing::warn!(%error, "a sending could not be recorded");
            }
        });
    }

    fn listen(&mut self, subject: UserId) {
        if self.listening.iter().any(|l| l.subject == subject) {
            return;
        }
        let (socket, registry) = (self.session.id(), Arc::clone(&self.stream.registry));
        let interest = self.stream.services.bus.watch(subject);
        registry.add_watcher(subject, socket, &self.mailbox);
        self.listening.push(Listening { subject, socket, registry, _interest: interest });
    }
}

async fn raise(services: &Services, caller: Caller, body: &Value) -> Answer {
    let raise = emergencies::read_raise(services, body);
    let about = body.get("id").and_then(|id| id.as_str()?.parse::<EmergencyId>().ok());
    let raised = emergencies::raise(services, caller, raise).await;
    Answer::Accepted { about, outcome: raised.map(Box::new).map_err(Problem::from) }
}

async fn end(services: &Services, caller: Caller, end: End) -> Answer {
    let with = if end.resolve { EndWith::Resolve } else { EndWith::Cancel };
    let id = end.emergency;
    let ended = emergencies::end(services, caller, id, with, end.pin.as_deref()).await;
    let accepted = |emergency| {
        let notes = Vec::new();
        Box::new(Accepted { id, emergency, opened: false, copies: 1, copies_max: 1, notes })
    };
    Answer::Accepted { about: Some(id), outcome: ended.map(accepted).map_err(Problem::from) }
}
