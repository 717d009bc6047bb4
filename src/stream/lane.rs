//! The lane of a socket: a raise or an end is begun the moment it is read, beside whatever else the socket is doing, and
//! is finished also if the socket ends meanwhile.

use super::session::{Urgent, UrgentAnswer};
use crate::alerts::{Accepted, EndWith};
use crate::identity::Caller;
use crate::problem::Problem;
use crate::runtime::{caught, detach};
use crate::services::Services;
use crate::stream::protocol::End;
use crate::usecases::emergencies;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Raises and ends that wait on one socket for the one before them. With more the socket is not read until there is room.
const DEPTH: usize = 16;

/// A raise or an end that was read.
struct Work {
    caller: Caller,
    urgent: Urgent,
    read_at: Instant,
}

/// The lane of one socket, from its first raise on.
pub(super) struct Lane {
    work: mpsc::Sender<Work>,
    answers: mpsc::Receiver<UrgentAnswer>,
}

impl Lane {
    /// Starts the task that works on them, one after the other: an end must find what was raised just before it.
    pub(super) fn start(services: Services) -> Self {
        let (work, mut to_do) = mpsc::channel::<Work>(DEPTH);
        let (done, answers) = mpsc::channel(DEPTH);
        detach("socket-lane", async move {
            while let Some(work) = to_do.recv().await {
                let about = work.urgent.about();
                let answer = match caught(carry_out(&services, work)).await {
                    Ok(outcome) => UrgentAnswer { about, outcome: outcome.map(Box::new) },
                    Err(panicked) => {
                        tracing::error!(reason = %panicked, "a raise or an end on a socket died");
                        UrgentAnswer { about, outcome: Err(Problem::internal()) }
                    }
                };
                // The socket may be gone; what was begun on it is done all the same.
                let _ = done.send(answer).await;
            }
        });
        Self { work, answers }
    }

    /// Whether one more fits.
    pub(super) fn has_room(&self) -> bool {
        self.work.capacity() > 0
    }

    /// Begins one, if it fits. What is read does, since the socket is read only while there is room; what was parked may not.
    pub(super) fn begin(&self, caller: Caller, urgent: Urgent) -> bool {
        self.work.try_send(Work { caller, urgent, read_at: Instant::now() }).is_ok()
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> UrgentAnswer {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The task lives as long as this does.
            None => std::future::pending().await,
        }
    }

    /// An answer that is there already.
    pub(super) fn answered(&mut self) -> Option<UrgentAnswer> {
        self.answers.try_recv().ok()
    }

    /// Takes no more; what is left to be answered.
    pub(super) fn finish(self) -> mpsc::Receiver<UrgentAnswer> {
        self.answers
    }
}

async fn carry_out(services: &Services, work: Work) -> Result<Accepted, Problem> {
    let Work { caller, urgent, read_at } = work;
    match urgent {
        Urgent::Raise(body) => {
            let raise = emergencies::read_raise(services, &body);
            Ok(emergencies::raise(services, caller, raise, read_at).await?)
        }
        Urgent::End(given) => end(services, caller, given).await,
    }
}

async fn end(services: &Services, caller: Caller, end: End) -> Result<Accepted, Problem> {
    let with = if end.resolve { EndWith::Resolve } else { EndWith::Cancel };
    let id = end.emergency;
    let emergency = emergencies::end(services, caller, id, with, end.pin.as_deref()).await?;
    Ok(Accepted { id, emergency, opened: false, copies: 1, copies_max: 1, tells: None, notes: Vec::new() })
}
