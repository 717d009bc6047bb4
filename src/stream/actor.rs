//! The actor of one socket: a loop that takes what waits for the client first, and the client's next frame after.

use super::fixes::Fixes;
use super::mailbox::{Close, Mailbox, Waiting};
use super::protocol::{ClientFrame, FrameError, PlainFrame, ServerFrame};
use super::registry::{Registration, Socket};
use super::upgrade::{MAX_FRAME, Stream};
use super::watch::Watches;
use crate::error::StoreError;
use crate::id::{EmergencyId, fresh};
use crate::identity::{Caller, TokenKind};
use crate::runtime::detach;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

/// Alerts sent in a row before the client's frames are looked at again.
const PAGE: u32 = 100;
/// Malformed frames in [`FAULT_WINDOW`] that close the socket.
const FAULTS: u32 = 10;
/// The window of malformed frames.
const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// Between looks at grants while somebody is watched.
const WATCH_TICK: Duration = Duration::from_secs(1);
/// For the last acks before a stopping node closes a socket, and between looks for them.
const ACKS: Duration = Duration::from_secs(1);
/// See [`ACKS`].
const ACK_TICK: Duration = Duration::from_millis(20);
/// For the client to answer a close.
const LINGER: Duration = Duration::from_secs(3);

/// How a socket ends.
pub(super) enum Ended {
    /// The client closed or is gone.
    Gone,
    /// The server closes.
    Close(u16, &'static str),
}

/// What a step of the actor returns.
pub(super) type Step = Result<(), Ended>;

pub(super) struct Actor {
    pub(super) stream: Stream,
    pub(super) caller: Caller,
    pub(super) id: Uuid,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) fixes: Fixes,
    pub(super) watches: Watches,
    socket: WebSocket,
    resuming: bool,
    faults: u32,
    faults_since: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    looked_at: Instant,
    /// The node is stopping: when this socket closes.
    closes_at: Option<Instant>,
    _registration: Registration,
}

/// Serves a socket until it ends. An idle socket costs what this future holds and the actor, so it holds little.
pub(super) async fn run(mut actor: Box<Actor>) {
    let ended = match Box::pin(actor.welcome()).await {
        Ok(()) => loop {
            if let Err(ended) = actor.turn().await {
                break ended;
            }
        },
        Err(ended) => ended,
    };
    Box::pin(actor.finish(ended)).await;
}

/// Reads on until the client has answered the close: only then is the closing clean.
pub(super) async fn drain_until_closed(mut socket: WebSocket) {
    // A client that does not answer in time is broken off.
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
}

/// A store that does not answer ends the welcome: the client comes back, to another node perhaps.
fn not_ready(error: &StoreError) -> Ended {
    tracing::error!(%error, "a socket could not be welcomed");
    Ended::Close(1012, "not ready; come back")
}

impl Actor {
    /// The actor of a socket that was just opened; the registry knows it from now on.
    pub(super) fn new(stream: Stream, caller: Caller, socket: WebSocket) -> Box<Self> {
        let id = fresh(&stream.services.clock);
        let mailbox = Arc::new(Mailbox::default());
        let fixes = Fixes::default();
        let registered = Socket {
            id,
            device: caller.device,
            session: caller.session(),
            mailbox: Arc::clone(&mailbox),
            sends_fixes: Arc::clone(&fixes.any),
            claim: Arc::clone(&fixes.claim),
        };
        let registration = stream.registry.join(caller.user, registered);
        let watches = Watches::new(id, Arc::clone(&stream.registry), Arc::clone(&mailbox));
        let now = Instant::now();
        Box::new(Self {
            stream,
            caller,
            id,
            mailbox,
            fixes,
            watches,
            socket,
            resuming: false,
            faults: 0,
            faults_since: now,
            heard_at: now,
            pinged_at: now,
            looked_at: now,
            closes_at: None,
            _registration: registration,
        })
    }

    /// Whether this socket may read: a distress token's may not.
    pub(super) fn reads(&self) -> bool {
        matches!(self.caller.kind, TokenKind::Access(_))
    }

    async fn welcome(&mut self) -> Step {
        let (services, user) = (self.stream.services.clone(), self.caller.user);
        // Removed between its check and its registration: no bell will ring for it.
        if services.identity.is_removed(&self.caller) {
            return Err(Ended::Close(4403, "the device was removed"));
        }
        // From 0 the phone sends again what it has not seen acked, which loses nothing; an SOS must not wait for it.
        let last_seq = services.tracking.last_seq(self.caller.device).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the newest seq of a device cannot be read; its phone starts from 0");
            0
        });
        if self.reads() {
            let head = services.alerts.inbox_head(user).await;
            self.mailbox.set_sent_to(head.map_err(|e| not_ready(&e))?);
        }
        let settings = self.stream.settings;
        self.send(PlainFrame::Welcome {
            session: self.id,
            now: services.clock.now(),
            last_seq,
            cursor: if self.reads() { self.mailbox.sent_to() } else { 0 },
            window: settings.window,
            heartbeat_s: settings.heartbeat.as_secs(),
        })
        .await?;
        if self.reads() { self.send_open_emergencies().await } else { Ok(()) }
    }

    /// One turn: what waits for the client or what comes from it, in fair turns, so that neither a long replay nor a
    /// busy phone keeps the other side out.
    async fn turn(&mut self) -> Step {
        let mailbox = Arc::clone(&self.mailbox);
        let next_tick = self.next_tick();
        tokio::select! {
            waiting = mailbox.take() => Box::pin(self.deliver(waiting)).await,
            () = sleep_until(next_tick) => Box::pin(self.tick()).await,
            message = self.socket.recv(), if self.takes_frames() => {
                match message {
                    Some(Ok(message)) => {
                        self.heard_at = Instant::now();
                        self.message(message).await
                    }
                    Some(Err(error)) => Err(self.broken(&error)),
                    None => Err(Ended::Gone),
                }
            }
        }
    }

    /// A full window stops the reading, and so does a close that only waits for acks.
    fn takes_frames(&self) -> bool {
        self.fixes.unacked < self.stream.settings.window && !self.is_due_to_close()
    }

    fn is_due_to_close(&self) -> bool {
        self.closes_at.is_some_and(|at| at <= Instant::now())
    }

    fn broken(&self, error: &axum::Error) -> Ended {
        let text = error.to_string();
        if text.contains("too long") || text.contains("too big") {
            Ended::Close(1009, "a frame is at most 64 KiB")
        } else {
            tracing::debug!(socket = %self.id, error = text, "a socket broke");
            Ended::Gone
        }
    }

    async fn message(&mut self, message: Message) -> Step {
        match message {
            Message::Text(text) if text.len() <= MAX_FRAME => match ClientFrame::read(&text) {
                Ok(frame) => Box::pin(self.frame(frame)).await,
                Err(error) => self.fault(error).await,
            },
            Message::Binary(bytes) if bytes.len() <= MAX_FRAME => {
                let detail = "frames of cima.v1.json are text".to_owned();
                self.fault(FrameError { code: "invalid_request", detail }).await
            }
            Message::Text(_) | Message::Binary(_) => Err(Ended::Close(1009, "a frame is at most 64 KiB")),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(Ended::Gone),
        }
    }

    async fn frame(&mut self, frame: ClientFrame) -> Step {
        match frame {
            ClientFrame::Fixes(fixes) => self.take_fixes(fixes).await,
            ClientFrame::Emergency(raise) => self.raise(&raise).await,
            ClientFrame::End(end) => self.end(end).await,
            ClientFrame::Token(token) => self.renew(&token).await,
            _ if !self.reads() => self.refuse("forbidden", "a distress token reads nothing", None).await,
            ClientFrame::Claim(emergency) => self.claim(emergency).await,
            ClientFrame::Ack(alert, state) => {
                match self.stream.services.alerts.ack(self.caller.user, alert, state.into()).await {
                    Ok(()) => Ok(()),
                    Err(error) => self.problem(error.into(), None).await,
                }
            }
            ClientFrame::Resume(cursor) => self.resume(cursor).await,
            ClientFrame::Watch(user) => self.watch(user).await,
            ClientFrame::Unwatch(user) => {
                self.watches.remove(user);
                Ok(())
            }
        }
    }

    /// Ten malformed frames in a minute are no accident.
    async fn fault(&mut self, error: FrameError) -> Step {
        metrics::counter!("cima_malformed_frames_total").increment(1);
        if self.faults_since.elapsed() > FAULT_WINDOW {
            (self.faults, self.faults_since) = (0, Instant::now());
        }
        self.faults += 1;
        self.send(PlainFrame::Error { code: error.code, detail: error.detail, emergency: None }).await?;
        if self.faults >= FAULTS { Err(Ended::Close(1008, "too many malformed frames")) } else { Ok(()) }
    }

    pub(super) async fn refuse(
        &mut self,
        code: &'static str,
        detail: &str,
        emergency: Option<EmergencyId>,
    ) -> Step {
        self.send(PlainFrame::Error { code, detail: detail.to_owned(), emergency }).await
    }

    pub(super) async fn problem(
        &mut self,
        problem: crate::problem::Problem,
        emergency: Option<EmergencyId>,
    ) -> Step {
        self.send(PlainFrame::Error {
            code: problem.code().word(),
            detail: problem.detail().to_owned(),
            emergency,
        })
        .await
    }

    pub(super) async fn send(&mut self, frame: impl Into<ServerFrame>) -> Step {
        match serde_json::to_string(&frame.into()) {
            Ok(text) => self.write(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a frame could not be written");
                Err(Ended::Close(1011, "a fault of ours"))
            }
        }
    }

    /// Every write has a deadline: a client that does not read is closed and resumes by its cursor.
    async fn write(&mut self, message: Message) -> Step {
        match timeout(self.stream.settings.write_deadline, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Gone),
            Err(_) => {
                metrics::counter!("cima_slow_consumers_total").increment(1);
                Err(Ended::Close(4408, "slow consumer"))
            }
        }
    }

    /// Hands over what waited: ends first, then emergencies, then alerts, then acks, then positions.
    async fn deliver(&mut self, waiting: Waiting) -> Step {
        match waiting.close {
            Some(Close::SignedOut) => return Err(Ended::Close(4401, "the session ended")),
            Some(Close::DeviceRemoved) => return Err(Ended::Close(4403, "the device was removed")),
            Some(Close::Replaced) => {
                return Err(Ended::Close(4409, "a newer socket of this device sends fixes"));
            }
            // A lost bell may have been the one that closes.
            None if waiting.resync && self.stream.services.identity.is_removed(&self.caller) => {
                return Err(Ended::Close(4403, "the device was removed"));
            }
            None => {}
        }
        if let Some(after) = waiting.drain {
            self.closes_at.get_or_insert(Instant::now() + after);
            self.send(PlainFrame::Drain { after_s: after.as_secs_f64().ceil() as u64 }).await?;
        }
        if self.reads() {
            for id in &waiting.emergencies {
                self.send_emergency(*id).await?;
            }
            if waiting.resync {
                self.send_open_emergencies().await?;
            }
            if waiting.inbox || waiting.resync {
                self.send_inbox().await?;
            }
        }
        self.take_recorded(waiting.recorded).await?;
        for subject in waiting.visibility {
            self.look_again(subject).await?;
        }
        if waiting.resync {
            self.look_at_all_again().await?;
        }
        for (subject, sealed) in waiting.positions {
            self.send_position(subject, &sealed).await?;
        }
        Ok(())
    }

    async fn send_emergency(&mut self, id: EmergencyId) -> Step {
        match self.stream.services.alerts.view(self.caller.user, id).await {
            Ok(mut emergency) => {
                emergency.deliveries = None;
                self.send(PlainFrame::Emergency { emergency }).await
            }
            Err(crate::alerts::AlertError::NotFound(_)) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "an emergency could not be read; all are looked at soon");
                self.mailbox_resync_later();
                Ok(())
            }
        }
    }

    async fn send_open_emergencies(&mut self) -> Step {
        match self.stream.services.alerts.open_for(self.caller.user).await {
            Ok(open) => {
                for mut emergency in open {
                    emergency.deliveries = None;
                    self.send(PlainFrame::Emergency { emergency }).await?;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "open emergencies could not be read; they are looked at soon");
                self.mailbox_resync_later();
            }
        }
        Ok(())
    }

    fn mailbox_resync_later(&self) {
        let mailbox = Arc::clone(&self.mailbox);
        detach("resync", async move {
            tokio::time::sleep(WATCH_TICK).await;
            mailbox.resync();
        });
    }

    /// Sends the inbox from where this socket is, a page at a time.
    async fn send_inbox(&mut self) -> Step {
        let (user, alerts) = (self.caller.user, Arc::clone(&self.stream.services.alerts));
        let page = match alerts.inbox_after(user, self.mailbox.sent_to(), PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "an inbox could not be read; it is looked at soon");
                self.mailbox_resync_later();
                return Ok(());
            }
        };
        let (from, full) = (self.mailbox.sent_to() + 1, page.len() == PAGE as usize);
        let mut of_emergencies = false;
        for alert in page {
            let cursor = alert.cursor.unwrap_or(0);
            of_emergencies |= alert.content.as_ref().is_some_and(|c| c.emergency.is_some());
            self.send(ServerFrame::Alert(Box::new(alert))).await?;
            self.mailbox.set_sent_to(self.mailbox.sent_to().max(cursor));
        }
        if of_emergencies {
            let to = self.mailbox.sent_to();
            // Only says how far an alert came; an app's ack says it again.
            detach("sent", async move {
                if let Err(error) = alerts.sent(user, from, to).await {
                    tracing::warn!(%error, "a sending could not be recorded");
                }
            });
        }
        if full {
            self.mailbox.inbox();
            return Ok(());
        }
        if std::mem::take(&mut self.resuming) {
            return self.send(PlainFrame::Resumed { complete: true }).await;
        }
        Ok(())
    }

    /// Replays the inbox after a cursor. One beyond its head was never given out: then nothing can be promised.
    async fn resume(&mut self, cursor: i64) -> Step {
        let head = match self.stream.services.alerts.inbox_head(self.caller.user).await {
            Ok(head) => head,
            Err(error) => return self.problem(error.into(), None).await,
        };
        if !(0..=head).contains(&cursor) {
            return self.send(PlainFrame::Resumed { complete: false }).await;
        }
        self.mailbox.set_sent_to(cursor);
        self.resuming = true;
        self.send_inbox().await
    }

    /// Takes a fresh access token of the same person and device; positions go on with it.
    async fn renew(&mut self, token: &str) -> Step {
        match self.stream.services.identity.authenticate(token) {
            Ok(fresh) if (fresh.user, fresh.device) == (self.caller.user, self.caller.device) => {
                if self.reads() && fresh.session().is_some() {
                    self.caller = fresh;
                    return self.look_at_all_again().await;
                }
                self.refuse("forbidden", "the kind of a socket's token does not change", None).await
            }
            Ok(_) => self.refuse("forbidden", "the token is of another person or device", None).await,
            Err(error) => self.problem(error.into(), None).await,
        }
    }

    fn next_tick(&self) -> Instant {
        let ping = self.pinged_at + self.stream.settings.heartbeat;
        let tick = if self.watches.is_empty() { ping } else { ping.min(self.looked_at + WATCH_TICK) };
        match self.closes_at {
            // Looks soon again for the last acks.
            Some(at) => tick.min(at.max(self.looked_at + ACK_TICK)),
            None => tick,
        }
    }

    /// Pings, notices a dead peer, and looks again at what a lost bell may have hidden.
    async fn tick(&mut self) -> Step {
        let heartbeat = self.stream.settings.heartbeat;
        self.looked_at = Instant::now();
        // What was read is acked before the close, unless the disk does not answer: then the phone sends it again.
        if let Some(at) = self.closes_at
            && at <= self.looked_at
            && (self.fixes.unacked == 0 || at + ACKS <= self.looked_at)
        {
            return Err(Ended::Close(1012, "restart"));
        }
        if self.pinged_at.elapsed() >= heartbeat {
            if self.heard_at.elapsed() > heartbeat * 2 + heartbeat / 2 && self.fixes.unacked == 0 {
                return Err(Ended::Gone);
            }
            if self.stream.services.identity.is_removed(&self.caller) {
                return Err(Ended::Close(4403, "the device was removed"));
            }
            self.pinged_at = Instant::now();
            self.write(Message::Ping(Default::default())).await?;
            if self.reads() {
                self.send_inbox().await?;
            }
        }
        self.look_at_ended_leases().await?;
        self.look_at_silent().await
    }

    async fn finish(mut self: Box<Self>, ended: Ended) {
        self.watches.clear();
        if let Ended::Close(code, reason) = ended {
            let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            // The client may be gone, or may not read: then there is nobody to tell.
            let _ = timeout(self.stream.settings.write_deadline, self.socket.send(close)).await;
        }
        drain_until_closed(self.socket).await;
    }
}
