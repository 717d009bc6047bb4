//! What other nodes change of the people whose fixes come in here: their fences, their tracked device, and fixes that
//! a node stored which does not own the device.

use super::Tracking;
use crate::bus::Event;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::runtime::{Refusal, Rounds, Tasks, tried, until};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// While hints may be lost, between looks at everybody.
const SUSPECT: Duration = Duration::from_secs(20);
/// Between looks whether hints may be lost.
const LOOK: Duration = Duration::from_secs(1);
/// After a look at everybody: what is asked for meanwhile is one more look.
const PAUSE: Duration = Duration::from_secs(2);
/// Builds that a look at everybody lets wait: evaluation stops for the few whose turn it is, not for all at once.
const AT_ONCE: usize = 16;
/// Between looks whether they are built.
const TURN: Duration = Duration::from_millis(10);

impl Tracking {
    /// Starts the tasks that take over what other nodes change, if there are any.
    pub(super) fn start_listening(self: &Arc<Self>, tasks: &Tasks) {
        if !self.bus.is_shared() {
            return;
        }
        let everybody = Arc::new(Notify::new());
        let (tracking, stop, wanted) = (Arc::clone(self), tasks.stop(), Arc::clone(&everybody));
        let mut subscribed = Some(self.bus.subscribe());
        tasks.keep("tracking-hints", move || {
            let (tracking, stop, wanted) = (Arc::clone(&tracking), stop.clone(), Arc::clone(&wanted));
            let mut events = subscribed.take().unwrap_or_else(|| {
                // What was said since the task died was heard by nobody.
                wanted.notify_one();
                tracking.bus.subscribe()
            });
            async move {
                until(&stop, tracking.listen(&mut events, &wanted)).await;
            }
        });
        tasks.rounds("tracking-look", Looks { tracking: Arc::clone(self), everybody, waited: false });
    }

    async fn listen(&self, events: &mut Receiver<Event>, everybody: &Notify) {
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => Event::Resync,
                Err(RecvError::Closed) => break,
            };
            if let Err(error) = self.hear(&event, everybody).await {
                tracing::warn!(%error, "what another node changed could not be read; everybody is looked at");
                everybody.notify_one();
            }
        }
    }

    /// Until somebody says that hints were lost, or hints may have been lost for some time.
    async fn until_to_look(&self, everybody: &Notify) {
        let since = Instant::now();
        let suspect = async {
            while since.elapsed() < SUSPECT || !self.bus.is_suspect() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = everybody.notified() => {}
            () = suspect => {}
        }
    }

    async fn hear(&self, event: &Event, everybody: &Notify) -> Stored<()> {
        match event {
            Event::FencesChanged { owner } => {
                if let Some(person) = self.person(*owner) {
                    person.rebuild();
                }
                Ok(())
            }
            Event::TrackedChanged { user } => self.look_at_tracked(*user).await,
            Event::FixesRecorded { user, device, from } => {
                self.evaluate_again(*user, *device, *from);
                Ok(())
            }
            Event::Resync => {
                everybody.notify_one();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Of a person who is not in memory here nothing is done: the next build reads all fixes.
    fn evaluate_again(&self, user: UserId, device: DeviceId, from: (Timestamp, i64)) {
        if let Some(person) = self.person(user)
            && person.to_build().0 == Some(device)
        {
            person.rebuild_from(Some(from));
        }
    }

    async fn look_at_tracked(&self, user: UserId) -> Stored<()> {
        if let Some(person) = self.person(user) {
            person.track(self.store.tracked_device(user).await?);
        }
        Ok(())
    }

    /// Hints were lost: what they told of is in the store.
    async fn look_at_everybody(&self) -> Stored<()> {
        let people: Vec<UserId> = self.people.iter().map(|person| *person.key()).collect();
        for user in people {
            match tried(self.look_at_tracked(user)).await {
                Ok(()) => {}
                Err(Refusal::Passing(error)) => return Err(error),
                Err(why) => self.aside.note(user, why),
            }
            if let Some(person) = self.person(user) {
                person.rebuild();
            }
            while self.rebuilds_waiting() >= AT_ONCE {
                tokio::time::sleep(TURN).await;
            }
        }
        Ok(())
    }
}

/// Looks at everybody when hints were lost, or may have been.
struct Looks {
    tracking: Arc<Tracking>,
    everybody: Arc<Notify>,
    waited: bool,
}

impl Rounds for Looks {
    type Next = ();

    async fn round(&mut self) -> Option<()> {
        if std::mem::replace(&mut self.waited, true) {
            if let Err(error) = self.tracking.look_at_everybody().await {
                tracing::warn!(%error, "what other nodes changed could not be read; it is looked at again");
                self.everybody.notify_one();
            }
            tokio::time::sleep(PAUSE).await;
        }
        Some(())
    }

    async fn wait(&mut self, (): ()) {
        self.tracking.until_to_look(&self.everybody).await;
    }

    fn is_cut_short(&self) -> bool {
        true
    }
}
