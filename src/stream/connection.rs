//! One socket and the task that owns it: gives the session what happens, and carries out what it says.
//!
//! The session is asked for one thing after the other, and nothing of that holds up the reading: while an answer is awaited
//! or the client is slow to take a frame, what comes from it is parked, and raises and ends go into the lane of the socket.

use super::close::{Close, CloseCode};
use super::effects::{Finder, Found, Listening};
use super::lane::Lane;
use super::mailbox::{Mailbox, Waiting};
use super::parked::Parked;
use super::protocol::ServerFrame;
use super::registry::{Registration, Socket};
use super::session::{Answer, Input, Moment, Output, Peers, Session, Urgent, UrgentAnswer};
use super::upgrade::Stream;
use crate::id::fresh;
use crate::identity::Caller;
use crate::runtime::{Mechanism, detach};
use crate::tracking::Ingest;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// For the client to answer a close.
const LINGER: Duration = Duration::from_secs(3);

/// How a connection ends.
enum Ended {
    /// The client closed or is gone.
    Gone,
    /// The server closes.
    Close(Close),
}

/// What a connection waits for.
enum Happened {
    /// Something came in from the client, or its end.
    Read(Option<Result<Message, axum::Error>>),
    /// The client has the frame that was being written.
    Written(Result<(), axum::Error>),
    /// The session's question is answered.
    Found(Found),
    /// A raise or an end is answered.
    Urgent(UrgentAnswer),
    /// Something waited in the mailbox.
    Waiting(Waiting),
    /// The time has come for the session to look around, or for a write to have ended.
    Due,
}

/// A frame on its way to the client.
struct Writing {
    /// Until the socket has taken it.
    message: Option<Message>,
    /// A client that has not taken all of it by then is closed and resumes by its cursor.
    deadline: Instant,
}

/// A socket, its session, and what the session's effects need.
pub(super) struct Connection {
    pub(super) stream: Arc<Stream>,
    pub(super) session: Session,
    pub(super) mailbox: Arc<Mailbox>,
    /// Where the fixes of the device go, from the first one on.
    pub(super) way_in: Option<Ingest>,
    /// Whose positions come to the mailbox.
    pub(super) listening: Vec<Listening>,
    /// The question that the session waits for.
    asking: Option<BoxFuture<'static, Found>>,
    writing: Option<Box<Writing>>,
    /// Raises and ends, from the first one on.
    lane: Option<Box<Lane>>,
    /// What came while something else was going on.
    parked: Option<Box<Parked>>,
    socket: WebSocket,
    _registration: Registration,
}

/// Serves a socket until it ends. An idle socket costs what this future and the connection hold, so they hold little.
pub(super) async fn run(mut connection: Box<Connection>) {
    let moment = connection.moment();
    connection.session.take(Input::Opened, &moment);
    let ended = loop {
        if let Err(ended) = connection.advance() {
            break ended;
        }
        let happened = connection.wait().await;
        if let Err(ended) = connection.take(happened) {
            break ended;
        }
    };
    Box::pin(connection.finish(ended)).await;
}

/// Reads on until the client has answered the close: only then is the closing clean.
async fn drain_until_closed(mut socket: WebSocket) {
    // A client that does not answer in time is broken off.
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
}

/// Closes a socket that has no session.
pub(super) async fn refuse(mut socket: WebSocket, close: Close) {
    // The client may have gone already.
    let _ = socket.send(close.into()).await;
    drain_until_closed(socket).await;
}

/// Writes and reads side by side, so that a client which is slow to take a frame is heard all the same.
async fn on_the_wire(socket: &mut WebSocket, writing: &mut Option<Box<Writing>>, reads: bool) -> Happened {
    poll_fn(|context| {
        if let Some(frame) = writing
            && let Poll::Ready(written) = poll_write(socket, &mut frame.message, context)
        {
            *writing = None;
            return Poll::Ready(Happened::Written(written));
        }
        if reads {
            return socket.poll_next_unpin(context).map(Happened::Read);
        }
        Poll::Pending
    })
    .await
}

fn poll_write(
    socket: &mut WebSocket,
    message: &mut Option<Message>,
    context: &mut Context<'_>,
) -> Poll<Result<(), axum::Error>> {
    if message.is_some() {
        ready!(socket.poll_ready_unpin(context))?;
        if let Some(message) = message.take() {
            socket.start_send_unpin(message)?;
        }
    }
    socket.poll_flush_unpin(context)
}

async fn answered(asking: &mut Option<BoxFuture<'static, Found>>) -> Happened {
    match asking {
        Some(asked) => Happened::Found(asked.await),
        None => pending().await,
    }
}

async fn of_the_lane(lane: &mut Option<Box<Lane>>) -> Happened {
    match lane {
        Some(lane) => Happened::Urgent(lane.answer().await),
        None => pending().await,
    }
}

impl Connection {
    /// The connection of a socket that was just opened; the registry knows it from now on.
    pub(super) fn new(stream: Arc<Stream>, caller: Caller, socket: WebSocket) -> Box<Self> {
        let id = fresh(&stream.services.clock);
        let mailbox = Arc::new(Mailbox::default());
        let (device, session) = (caller.device, caller.session());
        let registered = Socket { id, device, session, mailbox: Arc::clone(&mailbox) };
        let registration = stream.registry.join(caller.user, registered);
        let session = Session::new(id, caller, stream.settings, Instant::now());
        Box::new(Self {
            stream,
            session,
            mailbox,
            way_in: None,
            listening: Vec::new(),
            asking: None,
            writing: None,
            lane: None,
            parked: None,
            socket,
            _registration: registration,
        })
    }

    /// Waits for whatever happens next, in fair turns, so that neither a long replay nor a busy phone keeps the other side
    /// out. The session hears of its mailbox and of the time when it has nothing else to do.
    async fn wait(&mut self) -> Happened {
        let mailbox = Arc::clone(&self.mailbox);
        let (is_writing, is_idle) = (self.writing.is_some(), !self.is_busy());
        let due = self.writing.as_ref().map_or_else(|| self.session.wakes_at(), |frame| frame.deadline);
        let reads = self.lane.as_ref().is_none_or(|lane| lane.has_room());
        tokio::select! {
            happened = on_the_wire(&mut self.socket, &mut self.writing, reads) => happened,
            happened = answered(&mut self.asking) => happened,
            happened = of_the_lane(&mut self.lane), if !is_writing => happened,
            waiting = mailbox.take(), if is_idle => Happened::Waiting(waiting),
            () = sleep_until(due), if is_writing || is_idle => Happened::Due,
        }
    }

    /// Whether the session waits for an answer or for the client.
    fn is_busy(&self) -> bool {
        self.asking.is_some() || self.writing.is_some()
    }

    fn take(&mut self, happened: Happened) -> Result<(), Ended> {
        let moment = self.moment();
        match happened {
            Happened::Read(None) => return Err(Ended::Gone),
            Happened::Read(Some(Err(error))) => return self.broken(&error, &moment),
            Happened::Read(Some(Ok(message))) => return self.message(message, &moment),
            Happened::Written(Ok(())) => {}
            Happened::Written(Err(error)) => {
                tracing::debug!(socket = %self.session.id(), %error, "a socket broke while it was written to");
                return Err(Ended::Gone);
            }
            Happened::Found(Found { answer, way_in }) => {
                self.asking = None;
                self.way_in = way_in.or(self.way_in.take());
                self.session.answer(answer, &moment);
            }
            Happened::Urgent(answer) => {
                let frame = self.session.accepted(answer);
                self.send(&frame)?;
            }
            Happened::Waiting(waiting) => self.session.take(Input::Waiting(waiting), &moment),
            Happened::Due if self.writing.take().is_some() => {
                self.asking = None;
                self.session.take(Input::Stalled, &moment);
            }
            Happened::Due => self.session.take(Input::Tick(self.peers()), &moment),
        }
        Ok(())
    }

    fn message(&mut self, message: Message, moment: &Moment) -> Result<(), Ended> {
        match message {
            Message::Text(text) => self.text(text, moment),
            Message::Binary(bytes) => self.session.take(Input::Binary(bytes.len()), moment),
            Message::Ping(_) | Message::Pong(_) => self.session.take(Input::Beat, moment),
            Message::Close(_) => return Err(Ended::Gone),
        }
        Ok(())
    }

    /// Gives a frame to the session, or to the lane if it must not wait, or parks it.
    fn text(&mut self, text: Utf8Bytes, moment: &Moment) {
        if !self.is_busy() {
            return self.session.take(Input::Text(&text), moment);
        }
        if Mechanism::SocketLane.works()
            && let Some(urgent) = self.session.urgent(&text, moment)
        {
            return self.begin(urgent);
        }
        let parked = self.parked.get_or_insert_default();
        if let Err(text) = parked.park(text, self.stream.settings.window) {
            self.session.take(Input::Overflow(&text), moment);
        }
    }

    fn broken(&mut self, error: &axum::Error, moment: &Moment) -> Result<(), Ended> {
        let text = error.to_string();
        if text.contains("too long") || text.contains("too big") {
            self.session.take(Input::TooLarge, moment);
            return Ok(());
        }
        tracing::debug!(socket = %self.session.id(), error = text, "a socket broke");
        Err(Ended::Gone)
    }

    /// Carries out what is to be done up to where something has to be waited for.
    fn advance(&mut self) -> Result<(), Ended> {
        while self.writing.is_none() {
            if let Some(answer) = self.lane.as_mut().and_then(|lane| lane.answered()) {
                let frame = self.session.accepted(answer);
                self.send(&frame)?;
                continue;
            }
            if self.asking.is_some() && !self.session.is_closing() {
                break;
            }
            let moment = self.moment();
            match self.session.next(&moment) {
                Some(output) => self.carry_out(output, &moment)?,
                None => match self.parked.as_mut().and_then(|parked| parked.take()) {
                    Some(text) => {
                        self.look_around(&moment);
                        self.session.take(Input::Text(&text), &moment);
                    }
                    None => {
                        // An idle socket keeps no memory for it.
                        self.parked = None;
                        break;
                    }
                },
            }
            self.mailbox.set_sent_to(self.session.sent_to());
        }
        Ok(())
    }

    /// Between two frames that were parked, what else waits has its turn.
    fn look_around(&mut self, moment: &Moment) {
        self.session.take(Input::Waiting(self.mailbox.take_now()), moment);
        if self.session.wakes_at() <= moment.at {
            self.session.take(Input::Tick(self.peers()), moment);
        }
    }

    fn carry_out(&mut self, output: Output, moment: &Moment) -> Result<(), Ended> {
        match output {
            Output::Send(frame) => self.send(&frame)?,
            Output::Ping => self.write(Message::Ping(Default::default())),
            Output::Ingest { frame, fixes } => {
                let taken = self.ingest(frame, fixes);
                self.session.answer(Answer::Ingested(taken), moment);
            }
            Output::Ask(ask) => self.asking = Some(Box::pin(Finder::of(self).find_out(ask))),
            Output::Begin(urgent) => self.begin(urgent),
            Output::Do(effect) => self.effect(effect),
            Output::Close(close) => return Err(Ended::Close(close)),
            Output::Abandon => return Err(Ended::Gone),
        }
        Ok(())
    }

    fn begin(&mut self, urgent: Urgent) {
        let lane = self.lane.get_or_insert_with(|| Box::new(Lane::start(self.stream.services.clone())));
        let about = urgent.about();
        if !lane.begin(*self.session.caller(), urgent) {
            self.session.has_no_room(about);
        }
    }

    fn moment(&self) -> Moment {
        let services = &self.stream.services;
        Moment {
            at: Instant::now(),
            now: services.clock.now(),
            monotonic: services.clock.monotonic(),
            revoked: services.identity.revoked(self.session.caller()),
        }
    }

    fn peers(&self) -> Peers {
        let bus = &self.stream.services.bus;
        match (bus.is_shared(), bus.is_suspect()) {
            (false, _) => Peers::None,
            (true, false) => Peers::Heard,
            (true, true) => Peers::Suspect,
        }
    }

    fn send(&mut self, frame: &ServerFrame) -> Result<(), Ended> {
        match serde_json::to_string(frame) {
            Ok(text) => {
                self.write(Message::Text(text.into()));
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "a frame could not be written");
                Err(Ended::Close(CloseCode::Internal.because("a fault of ours")))
            }
        }
    }

    /// Begins to write; nothing else is written before the client has it.
    fn write(&mut self, message: Message) {
        let deadline = Instant::now() + self.stream.settings.write_deadline;
        self.writing = Some(Box::new(Writing { message: Some(message), deadline }));
    }

    /// Answers what was begun, closes and lets go. What a client that is gone has begun is waited for too: a node that stops
    /// ends when its sockets have.
    async fn finish(mut self: Box<Self>, ended: Ended) {
        self.listening.clear();
        let patience = self.stream.settings.write_deadline;
        let mut accepted = Vec::new();
        if let Some(lane) = self.lane.take() {
            let mut answers = lane.finish();
            let answered = timeout(patience, async {
                while let Some(answer) = answers.recv().await {
                    accepted.push(self.session.accepted(answer));
                }
            });
            if answered.await.is_err() {
                tracing::warn!("a raise or an end outlives its socket");
            }
        }
        if let Ended::Close(close) = ended {
            // The client may be gone, or may not read: then there is nobody to tell.
            let socket = &mut self.socket;
            let told = async {
                for text in accepted.iter().filter_map(|frame| serde_json::to_string(frame).ok()) {
                    socket.send(Message::Text(text.into())).await?;
                }
                socket.send(close.into()).await
            };
            let _ = timeout(patience, told).await;
        }
        // Nothing more is done here, and a client that does not answer its close holds up no stop.
        detach("closing", drain_until_closed(self.socket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// A hundred thousand of them wait at a time.
    #[test]
    fn an_idle_connection_is_small() {
        let connection = size_of::<Connection>() - size_of::<WebSocket>();
        let future = size_of_future(run);
        let shared = size_of::<Mailbox>() + size_of::<Socket>();
        println!(
            "beside its socket, a connection has {connection} bytes, its future {future}, its mailbox and entry {shared}"
        );
        assert!(connection <= 552, "{connection} bytes");
        assert!(future <= 576, "{future} bytes");
    }
}
