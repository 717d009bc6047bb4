//! Looks for what other nodes may have hinted at and nobody here heard: a query a node, not one a socket. Often while hints
//! may be lost, now and then while they are not.

use super::Registry;
use crate::alerts::Versions;
use crate::id::{DeviceId, UserId};
use crate::runtime::{Backoff, Tasks, caught};
use crate::services::Services;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks while hints may be lost.
const SUSPECT: Duration = Duration::from_millis(500);
/// Between looks while it is not, and between looks at grants while it is.
const TRUSTED: Duration = Duration::from_secs(5);
/// People in one query.
const PEOPLE: usize = 500;

/// What a node compares with what it finds.
struct Poll {
    services: Services,
    registry: Arc<Registry>,
    /// Open emergencies as they were at the last look and at the one before it. Hints may have been lost for a while before
    /// the bus suspects it, so the older is what the first suspicious look is compared with.
    open: Option<Versions>,
    before: Option<Versions>,
    grants_at: Instant,
}

/// Before a look after lost hints that failed is repeated, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Starts the looking, if there may be other nodes at all.
pub fn start_poll(services: &Services, registry: &Arc<Registry>, tasks: &Tasks) {
    if !services.bus.is_shared() {
        return;
    }
    let (services, registry, stop) = (services.clone(), Arc::clone(registry), tasks.stop());
    registry.set_polled();
    let mut poll = Poll { services, registry, open: None, before: None, grants_at: Instant::now() };
    tasks.spawn("poll", async move {
        let (mut looked_at, mut was_suspect) = (Instant::now(), false);
        let (mut lost, mut backoff) = (false, Backoff::between(AGAIN.0, AGAIN.1));
        loop {
            let pause = if lost { backoff.pause() } else { SUSPECT };
            let told = tokio::select! {
                () = stop.cancelled() => break,
                () = poll.registry.lost() => true,
                () = tokio::time::sleep(pause) => false,
            };
            lost |= told;
            let suspect = poll.services.bus.is_suspect();
            if lost || suspect || looked_at.elapsed() >= TRUSTED {
                match caught(poll.look(suspect, was_suspect, lost)).await {
                    Ok(true) => {
                        lost = false;
                        backoff.reset();
                    }
                    Ok(false) => {}
                    Err(panicked) => {
                        tracing::error!(reason = %panicked, "the poll for what lost hints told of died; it is repeated");
                    }
                }
                (looked_at, was_suspect) = (Instant::now(), suspect);
            }
        }
    });
}

impl Poll {
    /// Looks; whether all could be read. After lost hints it is also looked who is not believed any more and what changed of
    /// open emergencies, and everybody who watches somebody looks at their grant.
    async fn look(&mut self, suspect: bool, was_suspect: bool, lost: bool) -> bool {
        if lost {
            let identity = &self.services.identity;
            self.registry.end_revoked(|device, session| identity.is_revoked(device, session));
        }
        let older = if was_suspect { &self.open } else { &self.before };
        // With nothing known yet, all that is open may be news.
        let nothing = Versions::default();
        let known = match older {
            Some(older) => (suspect || lost).then_some(older),
            None => lost.then_some(&nothing),
        };
        let emergencies = match self.services.alerts.publish_changed(known).await {
            Ok(open) => {
                self.before = self.open.replace(open);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "open emergencies could not be read; they are looked at again");
                false
            }
        };
        // One that cannot be read keeps none of the others from being looked at.
        let (inboxes, claims) = (self.look_at_inboxes().await, self.look_at_claims().await);
        let all = emergencies && inboxes && claims;
        if (lost && all) || (suspect && self.grants_at.elapsed() >= TRUSTED) {
            self.registry.hint_grants();
            self.grants_at = Instant::now();
        }
        all
    }

    async fn look_at_claims(&self) -> bool {
        let streaming: HashMap<DeviceId, UserId> =
            self.registry.streaming().into_iter().map(|(user, device)| (device, user)).collect();
        for devices in streaming.keys().copied().collect::<Vec<_>>().chunks(PEOPLE) {
            match self.services.tracking.stream_claims(devices).await {
                Ok(claims) => claims.into_iter().for_each(|(device, claim)| {
                    if let Some(user) = streaming.get(&device) {
                        self.registry.replace_claimed_before(*user, device, claim);
                    }
                }),
                Err(error) => {
                    tracing::warn!(%error, "newer sockets of phones could not be looked for; they are again");
                    return false;
                }
            }
        }
        true
    }

    async fn look_at_inboxes(&self) -> bool {
        for people in self.registry.people().chunks(PEOPLE) {
            match self.services.alerts.inbox_heads(people).await {
                Ok(heads) => heads.into_iter().for_each(|(user, head)| self.registry.hint_inbox(user, head)),
                Err(error) => {
                    tracing::warn!(%error, "inboxes could not be read; they are looked at again");
                    return false;
                }
            }
        }
        true
    }
}
