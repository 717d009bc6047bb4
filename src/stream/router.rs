//! The router: hears the bus and puts each event into the mailboxes it concerns.

use super::Registry;
use crate::bus::{Bus, Event};
use crate::runtime::{Tasks, until};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

impl Registry {
    /// Starts the router.
    pub fn start_router(self: &Arc<Self>, bus: &Bus, tasks: &Tasks) {
        let (registry, bus, stop) = (Arc::clone(self), bus.clone(), tasks.stop());
        let mut subscribed = Some(bus.subscribe());
        tasks.keep("router", move || {
            let (registry, stop) = (Arc::clone(&registry), stop.clone());
            let mut events = subscribed.take().unwrap_or_else(|| {
                // Nobody heard what was said since the task died: from here on it is heard, and what was before is found.
                let events = bus.subscribe();
                registry.resync();
                events
            });
            async move {
                until(&stop, registry.listen(&mut events)).await;
            }
        });
    }

    async fn listen(&self, events: &mut Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.route(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the router fell behind; what it missed is looked for");
                    metrics::counter!("cima_router_lagged_total").increment(1);
                    self.resync();
                }
                Err(RecvError::Closed) => break,
            }
        }
    }

    pub(super) fn route(&self, event: &Event) {
        match event {
            Event::Inbox(people) => {
                for person in people.iter() {
                    self.each_of(*person, |s| s.mailbox.inbox());
                }
            }
            Event::Seen { user, alert, at } => self.each_of(*user, |s| s.mailbox.seen(*alert, *at)),
            Event::Emergency { id, people } => {
                for person in people.iter() {
                    self.each_of(*person, |s| s.mailbox.emergency(*id));
                }
            }
            Event::Visibility { subject } => {
                self.each_watcher(*subject, |mailbox| mailbox.visibility(*subject));
            }
            Event::Position { subject, sealed } => {
                self.each_watcher(*subject, |mailbox| mailbox.position(*subject, sealed.clone()));
            }
            Event::DeviceRemoved(device) => {
                self.each(|s| {
                    if s.device == *device {
                        s.mailbox.removed();
                    }
                });
            }
            Event::Streams { user, device, claim } => self.replace_claimed_before(*user, *device, *claim),
            Event::SessionEnded(session) => {
                self.each(|s| {
                    if s.session == Some(*session) {
                        s.mailbox.ended(*session);
                    }
                });
            }
            // Not for sockets.
            Event::FencesChanged { .. }
            | Event::TrackedChanged { .. }
            | Event::FixesRecorded { .. }
            | Event::Rescheduled => {}
            Event::Resync => self.resync(),
        }
    }
}
