//! Positions on a socket: shown only against a grant that holds now, and recorded as disclosed before they leave.

use super::{Ask, Effect, GrantFor, Moment, NewestFor, Output, Peers, Session, Work};
use crate::alerts::{AlertError, Names};
use crate::bus::Sealed;
use crate::clock::Monotonic;
use crate::error::Stored;
use crate::id::{DeviceId, UserId};
use crate::problem::Code;
use crate::stream::protocol::PlainFrame;
use crate::tracking::{Arrival, Position, StoredFix};
use crate::trust::{Basis, Grant, LEASE};
use std::time::Duration;
use tokio::time::Instant;

/// People one socket watches, at most.
const MAX_WATCHED: usize = 100;
/// So long before its end a client is told of that of its token.
const TOLD_BEFORE: Duration = Duration::from_secs(60);
/// Of whom nothing was heard for so long, the newest position is read from the store, while other nodes can be heard.
const SILENT: Duration = Duration::from_secs(5);
/// The same while what they say may be lost.
const SILENT_WHILE_SUSPECT: Duration = Duration::from_secs(1);

/// One person who is watched.
struct Subscription {
    subject: UserId,
    grant: Grant,
    /// The grant is asked for again after this, whatever its own end.
    leased_until: Monotonic,
    /// When a position of theirs last came, or the store was looked at because none did.
    heard_at: Instant,
    /// What was shown last of each device. It is as long as the person has devices.
    shown: Vec<(DeviceId, Arrival)>,
    /// What they and their devices are called; `None` before that was read.
    names: Option<Names>,
}

impl Subscription {
    fn holds(&self, moment: &Moment) -> bool {
        self.grant.holds(moment.now) && moment.monotonic < self.leased_until
    }

    /// Whether it is newer than all that was shown of its device.
    fn is_news(&self, position: &StoredFix) -> bool {
        let this = Arrival::of(position);
        self.shown.iter().all(|(device, last)| *device != position.device || this.is_after(last))
    }

    /// Whether its device is shown for the first time.
    fn show(&mut self, position: &StoredFix) -> bool {
        let this = Arrival::of(position);
        match self.shown.iter_mut().find(|(device, _)| *device == position.device) {
            Some((_, last)) if this.is_after(last) => *last = this,
            Some(_) => {}
            None => {
                self.shown.push((position.device, this));
                return true;
            }
        }
        false
    }
}

/// Whom a socket watches.
#[derive(Default)]
pub(super) struct Positions {
    subscriptions: Vec<Subscription>,
    /// What the client was told of the end of its token.
    told: Told,
}

/// What a client was told of the end of its token, before it gave another.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Told {
    #[default]
    Nothing,
    /// That it is near.
    Near,
    /// That it is over.
    Over,
}

impl Positions {
    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    fn get(&mut self, subject: UserId) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|s| s.subject == subject)
    }

    fn insert(&mut self, subscription: Subscription) {
        self.remove(subscription.subject);
        self.subscriptions.push(subscription);
    }

    fn remove(&mut self, subject: UserId) -> bool {
        let found = self.subscriptions.iter().position(|s| s.subject == subject);
        found.map(|n| self.subscriptions.swap_remove(n)).is_some()
    }

    fn subjects(&self) -> impl Iterator<Item = UserId> {
        self.subscriptions.iter().map(|s| s.subject)
    }

    /// Whose grants are over and have to be asked for again, also when no position comes.
    pub(super) fn lapsed(&self, moment: &Moment) -> impl Iterator<Item = UserId> {
        self.subscriptions.iter().filter(|s| !s.holds(moment)).map(|s| s.subject)
    }

    /// Of whom nothing was heard for a while: positions of other nodes may be lost on their way.
    pub(super) fn silent(&self, peers: Peers, at: Instant) -> impl Iterator<Item = UserId> {
        let silent = match peers {
            Peers::None => None,
            Peers::Heard => Some(SILENT),
            Peers::Suspect => Some(SILENT_WHILE_SUSPECT),
        };
        let of_silent = move |s: &&Subscription| silent.is_some_and(|silent| at - s.heard_at >= silent);
        self.subscriptions.iter().filter(of_silent).map(|s| s.subject)
    }
}

impl Session {
    /// Positions need a token that is good now; a socket outlives its token for everything else. The client is told once.
    fn is_current(&mut self, moment: &Moment) -> Result<(), Option<Output>> {
        if moment.now < self.caller.until && moment.revoked.is_none() {
            return Ok(());
        }
        let told = std::mem::replace(&mut self.positions.told, Told::Over) == Told::Over;
        let detail = || "positions need a current token; send a token frame".to_owned();
        let code = Code::TokenExpired.word();
        let error = || PlainFrame::Error { code, detail: detail(), emergency: None };
        Err((!told).then(|| Output::Send(error().into())))
    }

    /// Tells a client that watches somebody of the end of its token before it comes.
    pub(super) fn tell_of_expiry(&mut self, moment: &Moment) {
        let at = self.caller.until;
        let is_near = moment.now < at && moment.now + TOLD_BEFORE >= at;
        if is_near && !self.positions.is_empty() && self.positions.told == Told::Nothing {
            self.positions.told = Told::Near;
            self.send(PlainFrame::TokenExpires { at });
        }
    }

    /// The client has given another token.
    pub(super) fn token_is_fresh(&mut self) {
        self.positions.told = Told::Nothing;
    }

    /// Starts to watch: the newest position at once, then each as it comes. A refused watch is forgotten.
    pub(super) fn watch(&mut self, subject: UserId, moment: &Moment) {
        if let Err(told) = self.is_current(moment) {
            return self.queue.extend(told.map(Work::Out));
        }
        if self.positions.subscriptions.len() >= MAX_WATCHED && self.positions.get(subject).is_none() {
            return self.refuse(Code::LimitReached.word(), "a socket watches at most 100 people", None);
        }
        // Heard before the newest is read, so that none is missed in between.
        self.out(Output::Do(Effect::Listen(subject)));
        self.ask(Ask::Visibility { subject, watching: None, why: GrantFor::Watch });
    }

    pub(super) fn unwatch(&mut self, subject: UserId) {
        if self.positions.remove(subject) {
            self.out(Output::Do(Effect::Unlisten(subject)));
        }
    }

    pub(super) fn granted(
        &mut self,
        subject: UserId,
        why: GrantFor,
        grant: Stored<Option<Grant>>,
        moment: &Moment,
    ) {
        let watched = self.positions.get(subject).map(|s| s.grant.basis());
        let grant = match grant {
            Ok(grant) => grant,
            Err(error) => {
                // A store that does not answer grants nothing, and ends nothing either. What may have changed is not shown
                // before it was looked up: each tick asks again.
                tracing::warn!(%error, "a grant could not be looked up; nothing is shown");
                if why == GrantFor::Changed
                    && let Some(subscription) = self.positions.get(subject)
                {
                    subscription.leased_until = moment.monotonic;
                }
                if why == GrantFor::Watch {
                    if watched.is_none() {
                        self.out(Output::Do(Effect::Unlisten(subject)));
                    }
                    self.problem(&error.into(), None);
                }
                return;
            }
        };
        match (why, grant, watched) {
            // It was unwatched meanwhile.
            (GrantFor::Renewal | GrantFor::Changed, _, None) => {}
            (_, None, _) => {
                self.positions.remove(subject);
                self.out(Output::Do(Effect::Unlisten(subject)));
                self.send(PlainFrame::Unavailable { user: subject });
            }
            (GrantFor::Watch, Some(grant), _) => {
                let leased_until = moment.monotonic + LEASE;
                let heard_at = moment.at;
                let (shown, names) = (Vec::new(), None);
                self.positions.insert(Subscription { subject, grant, leased_until, heard_at, shown, names });
                self.ask(Ask::Names(subject));
                self.ask(Ask::Newest { grant, why: NewestFor::Grant });
            }
            (GrantFor::Renewal | GrantFor::Changed, Some(grant), Some(before)) => {
                if let Some(subscription) = self.positions.get(subject) {
                    (subscription.grant, subscription.leased_until) = (grant, moment.monotonic + LEASE);
                }
                // On another basis more may be seen than before: the newest fix of any device.
                if before != grant.basis() {
                    match self.is_current(moment) {
                        Ok(()) => self.ask(Ask::Newest { grant, why: NewestFor::Grant }),
                        Err(told) => self.queue.extend(told.map(Work::Out)),
                    }
                }
            }
        }
    }

    /// What somebody who is watched is called; the first time that the watch began is said.
    pub(super) fn named(&mut self, subject: UserId, names: Names, moment: &Moment) {
        let Some(subscription) = self.positions.get(subject).filter(|s| s.holds(moment)) else { return };
        let (basis, name) = (subscription.grant.basis().word(), names.people.get(&subject).cloned());
        if subscription.names.replace(names).is_none() {
            self.send(PlainFrame::Watching { user: subject, name, basis });
        }
    }

    /// Who may see this person may have changed.
    pub(super) fn renew_grant(&mut self, subject: UserId, why: GrantFor) -> Option<Output> {
        let watching = match self.positions.get(subject)?.grant.basis() {
            Basis::Emergency(id) => Some(id),
            Basis::Own | Basis::LiveLocation => None,
        };
        Some(Output::Ask(Ask::Visibility { subject, watching, why }))
    }

    pub(super) fn renew_all_grants(&mut self) {
        let renew = |subject| Work::Renew(subject, GrantFor::Renewal);
        self.queue.extend(self.positions.subjects().map(renew));
    }

    /// A position came for somebody who is watched, and what was to be looked at before it was looked at.
    pub(super) fn position(&mut self, subject: UserId, sealed: Sealed, moment: &Moment) -> Option<Output> {
        let subscription = self.positions.get(subject)?;
        subscription.heard_at = moment.at;
        if subscription.holds(moment) {
            return self.show(subject, &sealed, moment);
        }
        let renew = Work::Renew(subject, GrantFor::Renewal);
        self.ahead(|session| session.queue.extend([renew, Work::Show(subject, sealed)]));
        None
    }

    pub(super) fn show(&mut self, subject: UserId, sealed: &Sealed, moment: &Moment) -> Option<Output> {
        let subscription = self.positions.get(subject).filter(|s| s.holds(moment))?;
        let grant = subscription.grant;
        if let Err(told) = self.is_current(moment) {
            return told;
        }
        let newest = Position::open(sealed).and_then(|position| position.reveal(&grant).cloned())?;
        // It was read from the store just before it came, or it was overtaken on its way.
        if !self.positions.get(subject)?.is_news(&newest) {
            return None;
        }
        Some(Output::Ask(Ask::Disclose { grant, newest: Box::new(newest) }))
    }

    pub(super) fn read_silent(&mut self, subject: UserId, moment: &Moment) -> Option<Output> {
        if let Err(told) = self.is_current(moment) {
            return told;
        }
        let subscription = self.positions.get(subject)?;
        subscription.heard_at = moment.at;
        let grant = subscription.holds(moment).then_some(subscription.grant)?;
        Some(Output::Ask(Ask::Newest { grant, why: NewestFor::Silence }))
    }

    pub(super) fn newest_read(
        &mut self,
        grant: &Grant,
        why: NewestFor,
        newest: Result<Option<Box<StoredFix>>, AlertError>,
        moment: &Moment,
    ) {
        let newest = match (newest, why) {
            (Ok(newest), _) => newest,
            (Err(error), NewestFor::Grant) => return self.problem(&error.into(), None),
            (Err(error), NewestFor::Silence) => {
                return tracing::warn!(%error, "a position could not be read; it is looked at again");
            }
        };
        // It may have taken long to read: what ended meanwhile shows nothing.
        let Some(subscription) = self.positions.get(grant.subject()) else { return };
        if !subscription.holds(moment) || !grant.holds(moment.now) {
            return;
        }
        if let Some(newest) = newest
            && (why == NewestFor::Grant || subscription.is_news(&newest))
        {
            self.ask(Ask::Disclose { grant: *grant, newest });
        }
    }

    /// Sends one position. What cannot be recorded as disclosed is not shown, nor is what may not be seen any more by the
    /// time it is recorded.
    pub(super) fn disclosed(
        &mut self,
        grant: &Grant,
        newest: StoredFix,
        recorded: Stored<()>,
        moment: &Moment,
    ) {
        if let Err(error) = recorded {
            tracing::error!(%error, "a disclosure could not be recorded; the position is not shown");
            return;
        }
        if let Err(told) = self.is_current(moment) {
            return self.queue.extend(told.map(Work::Out));
        }
        let Some(subscription) = self.positions.get(grant.subject()) else { return };
        if !subscription.holds(moment) || !grant.holds(moment.now) {
            return;
        }
        let user = grant.subject();
        let is_new = subscription.show(&newest);
        let names = subscription.names.as_ref();
        let name = names.and_then(|names| names.people.get(&user).cloned());
        let device_name = names.and_then(|names| names.devices.get(&newest.device).cloned());
        if is_new && device_name.is_none() {
            // They signed in there since.
            self.ask(Ask::Names(user));
        }
        self.send(PlainFrame::Position {
            user,
            name,
            device: newest.device,
            device_name,
            raised: grant.raised_on().map(|device| device == newest.device),
            doubtful: newest.fix.is_doubtful(),
            fix: newest.fix,
            basis: grant.basis().word(),
        });
    }
}
