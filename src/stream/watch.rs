//! Positions on a socket: sent only against a grant that holds now, and recorded before they leave.

use super::actor::{Actor, Step};
use super::mailbox::Mailbox;
use super::protocol::PlainFrame;
use super::registry::Registry;
use crate::bus::{Sealed, WatchGuard};
use crate::clock::{Monotonic, Timestamp};
use crate::error::Stored;
use crate::id::{EmergencyId, UserId};
use crate::tracking::{Position, StoredFix};
use crate::trust::{Basis, Grant, LEASE};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// People one socket watches, at most.
const MAX_WATCHED: usize = 100;
/// Of whom nothing was heard for so long, the newest position is read from the store: while other nodes can be heard, and
/// while they perhaps cannot.
const SILENT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

struct Watch {
    subject: UserId,
    grant: Grant,
    /// The grant is asked for again after this, whatever its own end.
    leased_until: Monotonic,
    /// When the bus last said something of them, or the store was looked at because it did not.
    heard_at: Instant,
    /// The newest fix that was shown, in event order.
    shown: Option<(Timestamp, i64)>,
    _guard: WatchGuard,
}

/// Whom a socket watches.
pub(super) struct Watches {
    socket: Uuid,
    registry: Arc<Registry>,
    mailbox: Arc<Mailbox>,
    watched: Vec<Watch>,
    told_expired: bool,
}

impl Watches {
    pub(super) fn new(socket: Uuid, registry: Arc<Registry>, mailbox: Arc<Mailbox>) -> Self {
        Self { socket, registry, mailbox, watched: Vec::new(), told_expired: false }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }
    fn add(&mut self, watch: Watch) {
        self.remove(watch.subject);
        self.registry.watch(watch.subject, self.socket, &self.mailbox);
        self.watched.push(watch);
    }
    pub(super) fn remove(&mut self, subject: UserId) {
        if let Some(n) = self.watched.iter().position(|w| w.subject == subject) {
            self.watched.swap_remove(n);
            self.registry.unwatch(subject, self.socket);
        }
    }
    pub(super) fn clear(&mut self) {
        for watch in std::mem::take(&mut self.watched) {
            self.registry.unwatch(watch.subject, self.socket);
        }
    }
    fn get(&mut self, subject: UserId) -> Option<&mut Watch> {
        self.watched.iter_mut().find(|w| w.subject == subject)
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Actor {
    /// Positions need a token that is good now; a socket outlives its token for everything else.
    async fn has_current_token(&mut self) -> Result<bool, super::actor::Ended> {
        let current = self.stream.services.clock.now() < self.caller.until;
        if current && self.stream.services.identity.revoked(&self.caller).is_none() {
            self.watches.told_expired = false;
            return Ok(true);
        }
        if !self.watches.told_expired {
            self.watches.told_expired = true;
            self.refuse("token_expired", "positions need a current token; send a token frame", None).await?;
        }
        Ok(false)
    }

    /// Starts to watch: the newest position at once, then each as it comes. A refused watch is forgotten.
    pub(super) async fn watch(&mut self, subject: UserId) -> Step {
        if !self.has_current_token().await? {
            return Ok(());
        }
        if self.watches.watched.len() >= MAX_WATCHED && self.watches.get(subject).is_none() {
            return self.refuse("limit_reached", "a socket watches at most 100 people", None).await;
        }
        // Watched before the newest is read, so that none is missed in between.
        let guard = self.stream.services.bus.watch(subject);
        let grant = match self.ask(subject, None).await {
            Ok(Some(grant)) => grant,
            Ok(None) => return self.send_unavailable(subject).await,
            Err(error) => return self.problem(error.into(), None).await,
        };
        let leased_until = self.stream.services.clock.monotonic() + LEASE;
        let heard_at = Instant::now();
        self.watches.add(Watch { subject, grant, leased_until, heard_at, shown: None, _guard: guard });
        self.send_newest(&grant).await
    }

    /// A grant from a fresh look. A store that does not answer grants nothing, and ends nothing either.
    async fn ask(&mut self, subject: UserId, watching: Option<EmergencyId>) -> Stored<Option<Grant>> {
        let asked = self.stream.services.alerts.grant(self.caller.user, subject, watching).await;
        if let Err(error) = &asked {
            tracing::warn!(%error, "a grant could not be looked up; nothing is shown");
        }
        asked
    }

    async fn send_newest(&mut self, grant: &Grant) -> Step {
        match self.stream.services.alerts.newest_position(grant).await {
            Ok(Some(newest)) => self.show(grant, newest).await,
            Ok(None) => Ok(()),
            Err(error) => self.problem(error.into(), None).await,
        }
    }

    async fn send_unavailable(&mut self, subject: UserId) -> Step {
        self.watches.remove(subject);
        self.send(PlainFrame::Unavailable { user: subject }).await
    }

    /// Sends one position. What cannot be recorded as disclosed is not shown.
    async fn show(&mut self, grant: &Grant, newest: StoredFix) -> Step {
        if let Err(error) = self.stream.services.trust.ledger().record(grant, 1).await {
            tracing::error!(%error, "a disclosure could not be recorded; the position is not shown");
            return Ok(());
        }
        if let Some(watch) = self.watches.get(grant.subject()) {
            watch.shown = watch.shown.max(Some(newest.fix.order()));
        }
        self.send(PlainFrame::Position {
            user: grant.subject(),
            device: newest.device,
            fix: newest.fix,
            basis: grant.basis().word(),
        })
        .await
    }

    /// A position came for somebody who is watched.
    pub(super) async fn send_position(&mut self, subject: UserId, sealed: &Sealed) -> Step {
        let clock = self.stream.services.clock.clone();
        let Some(watch) = self.watches.get(subject) else { return Ok(()) };
        watch.heard_at = Instant::now();
        let holds = watch.grant.holds(clock.now()) && clock.monotonic() < watch.leased_until;
        if !holds {
            self.look_again(subject).await?;
            let (now, monotonic) = (clock.now(), clock.monotonic());
            let renewed = |w: &mut Watch| w.grant.holds(now) && monotonic < w.leased_until;
            if !self.watches.get(subject).is_some_and(renewed) {
                return Ok(());
            }
        }
        if !self.has_current_token().await? {
            return Ok(());
        }
        let Some(grant) = self.watches.get(subject).map(|w| w.grant) else { return Ok(()) };
        match Position::open(sealed).and_then(|position| position.reveal(&grant).cloned()) {
            Some(newest) => self.show(&grant, newest).await,
            None => Ok(()),
        }
    }

    /// Who may see this person may have changed.
    pub(super) async fn look_again(&mut self, subject: UserId) -> Step {
        let Some(basis) = self.watches.get(subject).map(|w| w.grant.basis()) else { return Ok(()) };
        let watching = match basis {
            Basis::Emergency(id) => Some(id),
            Basis::Own | Basis::LiveLocation => None,
        };
        let grant = match self.ask(subject, watching).await {
            Ok(Some(grant)) => grant,
            Ok(None) => return self.send_unavailable(subject).await,
            // Nothing is shown past the lease that was given; the next look may know more.
            Err(_) => return Ok(()),
        };
        let leased_until = self.stream.services.clock.monotonic() + LEASE;
        if let Some(watch) = self.watches.get(subject) {
            (watch.grant, watch.leased_until) = (grant, leased_until);
        }
        // On another basis more may be seen than before: the newest fix of any device.
        if basis != grant.basis() && self.has_current_token().await? {
            return self.send_newest(&grant).await;
        }
        Ok(())
    }

    pub(super) async fn look_at_all_again(&mut self) -> Step {
        let subjects: Vec<UserId> = self.watches.watched.iter().map(|w| w.subject).collect();
        for subject in subjects {
            self.look_again(subject).await?;
        }
        Ok(())
    }

    /// Grants whose time is over are asked for again, also when no position comes.
    pub(super) async fn look_at_ended_leases(&mut self) -> Step {
        let clock = &self.stream.services.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let over = |w: &&Watch| !w.grant.holds(now) || monotonic >= w.leased_until;
        let subjects: Vec<UserId> = self.watches.watched.iter().filter(over).map(|w| w.subject).collect();
        for subject in subjects {
            self.look_again(subject).await?;
        }
        Ok(())
    }

    /// Positions of other nodes may be lost on their way: of whom nothing comes, the store is asked.
    pub(super) async fn look_at_silent(&mut self) -> Step {
        let bus = &self.stream.services.bus;
        if !bus.is_shared() {
            return Ok(());
        }
        let silent = if bus.is_suspect() { SILENT.1 } else { SILENT.0 };
        let subjects: Vec<UserId> = {
            let of_silent = self.watches.watched.iter().filter(|w| w.heard_at.elapsed() >= silent);
            of_silent.map(|w| w.subject).collect()
        };
        for subject in subjects {
            if !self.has_current_token().await? {
                return Ok(());
            }
            let clock = &self.stream.services.clock;
            let (now, monotonic) = (clock.now(), clock.monotonic());
            let Some(watch) = self.watches.get(subject) else { continue };
            watch.heard_at = Instant::now();
            if !watch.grant.holds(now) || monotonic >= watch.leased_until {
                continue;
            }
            let (grant, shown) = (watch.grant, watch.shown);
            match self.stream.services.alerts.newest_position(&grant).await {
                Ok(Some(newest)) if Some(newest.fix.order()) > shown => self.show(&grant, newest).await?,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a position could not be read; it is looked at again"),
            }
        }
        Ok(())
    }
}
