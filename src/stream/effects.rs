//! What a session asks for and wants done, carried out against the services of the node.

use super::connection::Connection;
use super::mailbox::Mailbox;
use super::protocol::GivenFix;
use super::registry::Registry;
use super::session::{Answer, Ask, Effect, PAGE, WayIn};
use super::upgrade::Stream;
use crate::bus::{Event, WatchGuard};
use crate::error::{StoreError, Stored};
use crate::geo::Fix;
use crate::id::UserId;
use crate::identity::{Caller, IdentityError};
use crate::problem::Problem;
use crate::runtime::{Reached, detach};
use crate::services::Services;
use crate::tracking::Ingest;
use crate::usecases::{fixes, positions};
use futures_util::future::join;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use uuid::Uuid;

/// For each thing that `welcome` says.
const WELCOME: Duration = Duration::from_secs(1);

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

/// The answer to a question, and what came with it that is not the session's.
pub(super) struct Found {
    pub(super) answer: Answer,
    /// Where the fixes of the device go, if that was asked for.
    pub(super) way_in: Option<Ingest>,
}

/// Finds answers for one session, while its connection goes on.
pub(super) struct Finder {
    stream: Arc<Stream>,
    socket: Uuid,
    caller: Caller,
}

impl Finder {
    pub(super) fn of(connection: &Connection) -> Self {
        let (stream, session) = (Arc::clone(&connection.stream), &connection.session);
        Self { stream, socket: session.id(), caller: *session.caller() }
    }

    /// Finds the answer to a question.
    pub(super) async fn find_out(self, ask: Ask) -> Found {
        let (services, caller) = (&self.stream.services, self.caller);
        let (alerts, user) = (&services.alerts, caller.user);
        let answer = match ask {
            Ask::Welcome { reads } => welcome(services, caller, reads).await,
            Ask::OpenEmergencies => Answer::OpenEmergencies(alerts.open_for(user).await),
            Ask::Emergency(id) => Answer::Emergency(alerts.view(user, id).await.map(Box::new)),
            Ask::Inbox { after } => Answer::Inbox(alerts.inbox_after(user, after, PAGE).await),
            Ask::Place => Answer::Place(alerts.inbox_head(user).await),
            Ask::Head { resume } => {
                Answer::Head { resume, head: alerts.inbox_head(user).await.map_err(Problem::from) }
            }
            Ask::Ack(alert, state) => {
                Answer::Acked(alerts.ack(user, alert, state.into()).await.map_err(Problem::from))
            }
            Ask::Claim(id) => {
                let claimed = alerts.claim(user, id, true).await;
                Answer::Claimed { about: id, outcome: claimed.map(Box::new).map_err(Problem::from) }
            }
            Ask::Authenticate(token) => {
                Answer::Authenticated(services.identity.authenticate(&token).map_err(Problem::from))
            }
            Ask::Move(session) => {
                self.stream.registry.move_to(user, self.socket, session);
                Answer::Moved
            }
            Ask::OpenWayIn(given) => return open_way_in(services, caller, given).await,
            Ask::Visibility { subject, watching, why } => {
                Answer::Visibility { subject, why, grant: alerts.grant(user, subject, watching).await }
            }
            Ask::Names(subject) => {
                Answer::Names(subject, Box::new(positions::names(services, subject).await))
            }
            Ask::Newest { grant, why } => {
                let newest = alerts.newest_position(&grant).await;
                Answer::Newest { grant, why, newest: newest.map(|found| found.map(Box::new)) }
            }
            Ask::Disclose { grant, newest } => {
                let recorded = positions::disclose(services, &grant, 1).await;
                Answer::Disclosed { grant, newest, recorded }
            }
        };
        Found { answer, way_in: None }
    }
}

/// What cannot be read in time is left out: a phone is welcomed all the same.
async fn welcome(services: &Services, caller: Caller, reads: bool) -> Answer {
    let (tracking, alerts) = (&services.tracking, &services.alerts);
    let last_seq = timeout(WELCOME, tracking.last_seq(caller.device));
    let head = async {
        match reads {
            true => Some(timeout(WELCOME, alerts.inbox_head(caller.user)).await),
            false => None,
        }
    };
    let (last_seq, head) = join(last_seq, head).await;
    let in_time = |read: Result<Stored<i64>, Elapsed>| read.unwrap_or_else(|_| Err(StoreError::late()));
    Answer::Welcome { last_seq: in_time(last_seq), head: head.map(in_time) }
}

async fn open_way_in(services: &Services, caller: Caller, given: Vec<GivenFix>) -> Found {
    let opened = async {
        let retention = fixes::retention(services, caller.user).await?;
        let any_time_until = fixes::any_time_until(services, caller.user).await;
        let way_in = fixes::attach(services, caller).await?;
        Ok::<_, IdentityError>((way_in, WayIn { retention, any_time_until }))
    };
    let (ingest, way_in) = match opened.await {
        Ok((ingest, way_in)) => (Some(ingest), Ok(way_in)),
        Err(error) => (None, Err(error.into())),
    };
    Found { answer: Answer::WayIn { given, way_in }, way_in: ingest }
}

impl Connection {
    /// Does what nobody waits for.
    pub(super) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Overtake => self.overtake(),
            Effect::Sent { from, to } => self.record_sent(from, to),
            Effect::Told(raised_at) => {
                Reached::Written.after(self.stream.services.clock.now().since(raised_at))
            }
            Effect::ContinueInbox => self.mailbox.inbox(),
            Effect::Listen(subject) => self.listen(subject),
            Effect::Unlisten(subject) => self.listening.retain(|l| l.subject != subject),
        }
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
