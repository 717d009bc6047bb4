//! The router: hears the bus and puts each event into the mailboxes it concerns.

use super::Registry;
use crate::bus::{Bus, Event};
use crate::runtime::Tasks;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

impl Registry {
    /// Starts the router.
    pub fn start_router(self: &Arc<Self>, bus: &Bus, tasks: &Tasks) {
        let (registry, mut events, stop) = (Arc::clone(self), bus.subscribe(), tasks.stop());
        tasks.spawn("router", async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => break,
                    event = events.recv() => event,
                };
                match event {
                    Ok(event) => registry.route(&event),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "the router fell behind; every socket looks for itself");
                        metrics::counter!("cima_router_lagged_total").increment(1);
                        registry.each(|s| s.mailbox.resync());
                    }
                    Err(RecvError::Closed) => break,
                }
            }
        });
    }

    pub(super) fn route(&self, event: &Event) {
        match event {
            Event::Inbox(people) => {
                for person in people.iter() {
                    self.each_of(*person, |s| s.mailbox.inbox());
                }
            }
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
            Event::Resync => self.each(|s| s.mailbox.resync()),
        }
    }
}
