//! One socket and the task that owns it: gives the session what happens, and carries out what it says.

use super::close::{Close, CloseCode};
use super::effects::Listening;
use super::mailbox::Mailbox;
use super::protocol::ServerFrame;
use super::registry::{Registration, Socket};
use super::session::{Answer, Ask, Input, Moment, Output, Peers, Session};
use super::upgrade::Stream;
use crate::id::fresh;
use crate::identity::Caller;
use crate::tracking::Ingest;
use axum::extract::ws::{Message, WebSocket};
use std::sync::Arc;
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

/// A socket, its session, and what the session's effects need.
pub(super) struct Connection {
    pub(super) stream: Arc<Stream>,
    pub(super) session: Session,
    pub(super) mailbox: Arc<Mailbox>,
    /// Where the fixes of the device go, from the first one on.
    pub(super) way_in: Option<Ingest>,
    /// Whose positions come to the mailbox.
    pub(super) listening: Vec<Listening>,
    socket: WebSocket,
    _registration: Registration,
}

/// Serves a socket until it ends. An idle socket costs what this future and the connection hold, so they hold little.
pub(super) async fn run(mut connection: Box<Connection>) {
    let mut step = Box::pin(connection.step(Input::Opened)).await;
    let ended = loop {
        match step {
            Ok(()) => step = connection.turn().await,
            Err(ended) => break ended,
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
            socket,
            _registration: registration,
        })
    }

    /// One turn: what waits for the client or what comes from it, in fair turns, so that neither a long replay nor a
    /// busy phone keeps the other side out.
    async fn turn(&mut self) -> Result<(), Ended> {
        let mailbox = Arc::clone(&self.mailbox);
        let (wakes_at, takes_frames) = (self.session.wakes_at(), self.session.takes_frames(Instant::now()));
        tokio::select! {
            waiting = mailbox.take() => Box::pin(self.step(Input::Waiting(waiting))).await,
            () = sleep_until(wakes_at) => {
                let tick = Input::Tick(self.peers());
                Box::pin(self.step(tick)).await
            }
            message = self.socket.recv(), if takes_frames => match message {
                Some(Ok(message)) => Box::pin(self.message(message)).await,
                Some(Err(error)) => Box::pin(self.broken(error)).await,
                None => Err(Ended::Gone),
            }
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), Ended> {
        match message {
            Message::Text(text) => self.step(Input::Text(&text)).await,
            Message::Binary(bytes) => self.step(Input::Binary(bytes.len())).await,
            Message::Ping(_) | Message::Pong(_) => self.step(Input::Beat).await,
            Message::Close(_) => Err(Ended::Gone),
        }
    }

    async fn broken(&mut self, error: axum::Error) -> Result<(), Ended> {
        let text = error.to_string();
        if text.contains("too long") || text.contains("too big") {
            return self.step(Input::TooLarge).await;
        }
        tracing::debug!(socket = %self.session.id(), error = text, "a socket broke");
        Err(Ended::Gone)
    }

    /// Gives the session an input and carries out all that follows from it.
    async fn step(&mut self, input: Input<'_>) -> Result<(), Ended> {
        let mut moment = self.moment();
        self.session.take(input, &moment);
        while let Some(output) = self.session.next(&moment) {
            match output {
                Output::Send(frame) => self.send(&frame).await?,
                Output::Ping => self.write(Message::Ping(Default::default())).await?,
                Output::Ask(ask) => {
                    let answer = match ask {
                        Ask::Ingest { frame, fixes } => Answer::Ingested(self.ingest(frame, fixes)),
                        ask => Box::pin(self.find_out(ask)).await,
                    };
                    moment = self.moment();
                    self.session.answer(answer, &moment);
                }
                Output::Do(effect) => self.effect(effect),
                Output::Close(close) => return Err(Ended::Close(close)),
                Output::Abandon => return Err(Ended::Gone),
            }
            self.mailbox.set_sent_to(self.session.sent_to());
            moment = self.moment();
        }
        Ok(())
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

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), Ended> {
        match serde_json::to_string(frame) {
            Ok(text) => self.write(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a frame could not be written");
                Err(Ended::Close(CloseCode::Internal.because("a fault of ours")))
            }
        }
    }

    /// Every write has a deadline: a client that does not read is closed and resumes by its cursor.
    async fn write(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(self.stream.settings.write_deadline, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Gone),
            Err(_) => {
                let moment = self.moment();
                self.session.take(Input::Stalled, &moment);
                Ok(())
            }
        }
    }

    async fn finish(mut self: Box<Self>, ended: Ended) {
        self.listening.clear();
        if let Ended::Close(close) = ended {
            // The client may be gone, or may not read: then there is nobody to tell.
            let _ = timeout(self.stream.settings.write_deadline, self.socket.send(close.into())).await;
        }
        drain_until_closed(self.socket).await;
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
        assert!(connection <= 480, "{connection} bytes");
        assert!(future <= 512, "{future} bytes");
    }
}
