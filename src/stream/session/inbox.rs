//! What a person is told: the welcome, the alerts of their inbox in order, and the emergencies they have part in.

use super::{Ask, Effect, Moment, Output, Session, Work};
use crate::alerts::{AlertError, AlertKind, AlertView, EmergencyView};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::problem::Problem;
use crate::stream::protocol::{PlainFrame, ServerFrame};

/// Alerts of one page: then everything else has its turn.
pub(in crate::stream) const PAGE: u32 = 100;

/// Where a session is in its person's inbox.
pub(super) struct Inbox {
    /// The newest cursor that was sent; beyond every inbox for a socket that reads none.
    pub(super) sent_to: i64,
    /// What happened before the welcome or a `resume` says nothing of how fast news are told.
    news_from: Timestamp,
    /// A `resume` was asked for and its replay is not over.
    resuming: bool,
    /// The head could not be read at the welcome: where to go on from is found out first.
    is_lost: bool,
}

impl Inbox {
    /// What is asked next.
    pub(super) fn question(&self) -> Ask {
        if self.is_lost { Ask::Place } else { Ask::Inbox { after: self.sent_to } }
    }
}

impl Inbox {
    /// When an SOS was raised that happened while this socket was there, and is sent on it for the first time.
    fn raised_just_now(&self, alert: &AlertView) -> Option<Timestamp> {
        let content = alert.content.as_ref().filter(|content| content.kind == AlertKind::Emergency)?;
        Some(content.at).filter(|at| *at >= self.news_from)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            sent_to: i64::MAX,
            news_from: Timestamp::from_unix_ms(i64::MAX),
            resuming: false,
            is_lost: false,
        }
    }
}

impl Session {
    pub(super) fn open(&mut self, moment: &Moment) {
        // Removed between its check and its registration: no hint will come for it.
        match moment.revoked {
            Some(revoked) => self.close(super::closed_for(revoked)),
            None => self.ask(Ask::Welcome { reads: self.reads() }),
        }
    }

    pub(super) fn welcome(&mut self, last_seq: Stored<i64>, head: Option<Stored<i64>>, moment: &Moment) {
        // From 0 the phone sends again what it has not seen acked, which loses nothing; an SOS must not wait for it.
        let last_seq = last_seq.unwrap_or_else(|error| {
            tracing::error!(%error, "the newest seq of a device cannot be read; its phone starts from 0");
            0
        });
        // A cursor of 0 moves no client's own: what it has not seen is sent when the inbox can be read.
        let head = head.map(|head| {
            head.unwrap_or_else(|error| {
                tracing::warn!(%error, "an inbox cannot be read; its person is welcomed without it");
                self.inbox.is_lost = true;
                0
            })
        });
        self.inbox.sent_to = head.unwrap_or(i64::MAX);
        self.inbox.news_from = moment.now;
        self.send(PlainFrame::Welcome {
            session: self.id,
            now: moment.now,
            last_seq,
            cursor: head.unwrap_or(0),
            window: self.settings.window,
            heartbeat_s: self.settings.heartbeat.as_secs(),
        });
        if self.inbox.is_lost {
            self.resync_soon(moment);
        } else if self.reads() {
            self.ask(Ask::OpenEmergencies);
        }
    }

    /// Goes on from a page before the head: what came since the welcome is in it, and a client knows by its id what it
    /// had before.
    pub(super) fn find_place(&mut self, head: Stored<i64>, moment: &Moment) {
        match head {
            // A `resume` has said it meanwhile.
            Ok(_) if !self.inbox.is_lost => {}
            Ok(head) => {
                self.inbox.is_lost = false;
                self.inbox.sent_to = (head - i64::from(PAGE)).max(0);
            }
            Err(error) => {
                tracing::warn!(%error, "an inbox could not be read; it is looked at soon");
                return self.resync_soon(moment);
            }
        }
        self.ask_inbox();
    }

    /// Hints were lost: what they would have said is read again.
    pub(super) fn look_at_inbox_anew(&mut self) {
        if self.reads() {
            self.ask(Ask::OpenEmergencies);
            self.ask_inbox();
        }
    }

    pub(super) fn ask_inbox(&mut self) {
        self.queue.push_back(Work::Inbox);
    }

    pub(super) fn send_emergency(&mut self, found: Result<Box<EmergencyView>, AlertError>, moment: &Moment) {
        match found {
            Ok(emergency) => self.emergency(*emergency),
            Err(AlertError::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "an emergency could not be read; all are looked at soon");
                self.resync_soon(moment);
            }
        }
    }

    pub(super) fn send_open_emergencies(
        &mut self,
        found: Result<Vec<EmergencyView>, AlertError>,
        moment: &Moment,
    ) {
        match found {
            Ok(open) => open.into_iter().for_each(|emergency| self.emergency(emergency)),
            Err(error) => {
                tracing::warn!(%error, "open emergencies could not be read; they are looked at soon");
                self.resync_soon(moment);
            }
        }
    }

    fn emergency(&mut self, emergency: EmergencyView) {
        if emergency.subject == self.caller.user {
            self.in_emergency(emergency.any_time_until());
        }
        self.send(PlainFrame::Emergency { emergency: EmergencyView { deliveries: None, ..emergency } });
    }

    /// Sends a page of the inbox, and goes on with the next one after everything else.
    pub(super) fn send_page(&mut self, page: Stored<Vec<AlertView>>, moment: &Moment) {
        let page = match page {
            Ok(page) => {
                self.was_answered();
                page
            }
            Err(error) => {
                tracing::warn!(%error, "an inbox could not be read; it is looked at soon");
                return self.resync_soon(moment);
            }
        };
        let (from, full) = (self.inbox.sent_to + 1, page.len() == PAGE as usize);
        let mut of_emergencies = false;
        for alert in page {
            of_emergencies |= alert.content.as_ref().is_some_and(|c| c.emergency.is_some());
            let raised_at = self.inbox.raised_just_now(&alert);
            self.inbox.sent_to = self.inbox.sent_to.max(alert.cursor.unwrap_or(0));
            self.send(ServerFrame::Alert(Box::new(alert)));
            if let Some(at) = raised_at {
                self.out(Output::Do(Effect::Told(at)));
            }
        }
        if of_emergencies {
            self.out(Output::Do(Effect::Sent { from, to: self.inbox.sent_to }));
        }
        if full {
            self.out(Output::Do(Effect::ContinueInbox));
        } else if std::mem::take(&mut self.inbox.resuming) {
            self.send(PlainFrame::Resumed { complete: true });
        }
    }

    /// Replays the inbox after a cursor. One beyond its head was never given out: then nothing can be promised.
    pub(super) fn resume_from(&mut self, resume: i64, head: Result<i64, Problem>, moment: &Moment) {
        match head {
            Ok(head) if (0..=head).contains(&resume) => {
                self.inbox.is_lost = false;
                self.inbox.sent_to = resume;
                self.inbox.news_from = moment.now;
                self.inbox.resuming = true;
                self.ask_inbox();
            }
            Ok(_) => self.send(PlainFrame::Resumed { complete: false }),
            Err(problem) => self.problem(&problem, None),
        }
    }
}
