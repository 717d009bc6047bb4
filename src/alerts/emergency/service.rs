//! The use cases of emergencies: raised, joined, ended, claimed, seen.

use super::notices::drafts;
use super::{
    Command, Emergency, EmergencyView, EndWith, Manner, Next, Notice, Opening, Raise, State, contact_view,
    subject_view,
};
use crate::alerts::{AlertDraft, AlertError, AlertKind, Alerts, Committed, Lane, Party, Raised};
use crate::bus::Event;
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::geo::Note;
use crate::id::{AlertId, DeviceId, EmergencyId, UserId, derived};
use crate::runtime::{Backoff, Reached};
use crate::tracking::Severity;
use crate::trust::{LinkRole, TrustLink};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Tries of a change that somebody else's change came before.
const TRIES: usize = 16;
/// A raise that joins is tried for so long while others' changes come before it.
const CONTENDED: Duration = Duration::from_secs(10);
/// Between those tries, at first and at most.
const APART: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Openings of one person in an hour that are each told on their own.
pub const OPENINGS_AN_HOUR: u32 = 5;

/// The answer to a raise.
#[derive(Clone, PartialEq, Debug)]
pub struct Accepted {
    /// The id it was raised with; made here if there was none.
    pub id: EmergencyId,
    /// The emergency it is, or joined.
    pub emergency: Emergency,
    /// Whether this raise opened it.
    pub opened: bool,
    /// Durable copies now.
    pub copies: u8,
    /// Durable copies there can be.
    pub copies_max: u8,
    /// How many contacts are told of it, or will be after its countdown; none if they could not be read.
    pub tells: Option<u32>,
    /// What of the raise could not be used.
    pub notes: Vec<Note>,
}

/// What became of a change.
struct Changed {
    emergency: Emergency,
    /// Contacts who have part in it.
    contacts: Option<u32>,
}

impl Alerts {
    /// Raises an emergency, or joins the open one. A repeat of an id is the same emergency. `read_at` is when its frame or its
    /// body was read.
    ///
    /// # Errors
    /// Only when the store failed: nothing about the raise itself is ever a reason.
    pub async fn raise(
        &self,
        subject: UserId,
        device: Option<DeviceId>,
        raise: Raise,
        read_at: Instant,
    ) -> Result<Accepted, AlertError> {
        let id = raise.id.unwrap_or_else(|| EmergencyId::fresh(&self.clock));
        let accepted = |emergency: Emergency, opened, tells: Option<u32>, notes| Accepted {
            id,
            opened,
            copies: 1,
            copies_max: 1,
            // An end under duress is an end: who is told afterwards is not said.
            tells: tells.filter(|_| emergency.takes_joins()),
            emergency,
            notes,
        };
        let now = self.clock.now();
        let mut own_id = id;
        let mut notes = raise.notes;
        let (deadline, mut backoff) = (Instant::now() + CONTENDED, Backoff::between(APART.0, APART.1));
        while Instant::now() < deadline {
            let opening = Opening {
                id: own_id,
                subject,
                device,
                kind: raise.kind,
                message: raise.message.clone(),
                fix: raise.fix.clone(),
                countdown: raise.countdown,
            };
            let next = Emergency::open(opening, now);
            let told = || drafts(&next.emergency, &next.notices, None, now);
            let (raised, stored) = self.open(&next.emergency, id, told).await?;
            match raised {
                Raised::Opened(committed) => {
                    Reached::Durable.after(read_at.elapsed());
                    metrics::counter!("cima_emergencies_opened_total").increment(1);
                    let next = Next { emergency: stored, ..next };
                    let tells = self.publish(&next, committed).await;
                    return Ok(accepted(next.emergency, true, tells, notes));
                }
                Raised::Repeated(emergency) => {
                    // The first try may have been stored and its answer lost, with its hints.
                    let tells = match emergency.state.is_open() {
                        true => self.publish_again(&emergency).await,
                        false => None,
                    };
                    return Ok(accepted(emergency, false, tells, notes));
                }
                Raised::IdTaken => {
                    own_id = EmergencyId::fresh(&self.clock);
                    notes.push(Note::of("id", "taken"));
                }
                Raised::Open(open) => match open.apply(Command::Join(id), now) {
                    Some(mut next) => {
                        next.emergency.enrich(device, raise.message.as_deref(), raise.fix.as_ref());
                        if let Some(Changed { emergency, contacts }) =
                            self.store_and_publish(next, Some(id), now).await?
                        {
                            return Ok(accepted(emergency, false, contacts, notes));
                        }
                        // Many raise at once: each has its turn.
                        backoff.wait().await;
                    }
                    None => {
                        let contacts = self.contacts_with_part(subject).await;
                        return Ok(accepted(open, false, count_of(&contacts), notes));
                    }
                },
            }
        }
        Err(StoreError::new(Fault::Busy, "an emergency changes all the time").into())
    }

    /// Ends the subject's emergency, by any of its ids.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if it is not theirs. An end of an ended one is that end again.
    pub async fn end(
        &self,
        subject: UserId,
        id: EmergencyId,
        with: EndWith,
        manner: Manner,
    ) -> Result<Emergency, AlertError> {
        for _ in 0..TRIES {
            let emergency = self.own(subject, id).await?;
            let now = self.clock.now();
            let Some(next) = emergency.apply(Command::End(with, manner), now) else { return Ok(emergency) };
            if let Some(ended) = self.store_change(next, None, now).await? {
                return Ok(ended);
            }
        }
        Err(AlertError::Conflict("the emergency is changing too fast; try again"))
    }

    /// A contact is on it, or takes that back.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if they have no part in it, [`AlertError::Conflict`] if it is over for them.
    pub async fn claim(
        &self,
        contact: UserId,
        id: EmergencyId,
        claims: bool,
    ) -> Result<EmergencyView, AlertError> {
        for _ in 0..TRIES {
            let now = self.clock.now();
            let party = self.store.emergency_for(contact, id, now).await?;
            let party = party.ok_or(AlertError::NotFound("emergency"))?;
            let view = contact_view(&party).ok_or(AlertError::NotFound("emergency"))?;
            if view.state != State::Active {
                return Err(AlertError::Conflict("the emergency is over"));
            }
            let command = if claims { Command::Claim(contact) } else { Command::Unclaim(contact) };
            let Some(next) = party.emergency.apply(command, now) else {
                return Ok(self.named_one(view).await);
            };
            if let Some(emergency) = self.store_change(next, None, now).await? {
                let view = contact_view(&Party { emergency, ..party });
                return Ok(self.named_one(view.ok_or(AlertError::NotFound("emergency"))?).await);
            }
        }
        Err(AlertError::Conflict("the emergency is changing too fast; try again"))
    }

    /// The subject voids a contact's claim.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if it is not theirs.
    pub async fn void_claim(
        &self,
        subject: UserId,
        id: EmergencyId,
        contact: UserId,
    ) -> Result<EmergencyView, AlertError> {
        for _ in 0..TRIES {
            let emergency = self.own(subject, id).await?;
            let now = self.clock.now();
            // What goes on after an apparent end is not the subject's tokens' to change.
            let next = emergency.apply(Command::Unclaim(contact), now).filter(|_| emergency.takes_joins());
            let Some(next) = next else { return Ok(self.named_one(subject_view(&emergency, None)).await) };
            if let Some(changed) = self.store_change(next, None, now).await? {
                return Ok(self.named_one(subject_view(&changed, None)).await);
            }
        }
        Err(AlertError::Conflict("the emergency is changing too fast; try again"))
    }

    async fn own(&self, subject: UserId, id: EmergencyId) -> Result<Emergency, AlertError> {
        self.store.emergency_of(subject, id).await?.ok_or(AlertError::NotFound("emergency"))
    }

    /// Stores a change and publishes it; `None` if another change came before.
    pub(in crate::alerts) async fn store_change(
        &self,
        next: Next,
        joined: Option<EmergencyId>,
        now: Timestamp,
    ) -> Result<Option<Emergency>, AlertError> {
        Ok(self.store_and_publish(next, joined, now).await?.map(|changed| changed.emergency))
    }

    async fn store_and_publish(
        &self,
        next: Next,
        joined: Option<EmergencyId>,
        now: Timestamp,
    ) -> Result<Option<Changed>, AlertError> {
        let name = self.claimer_name(&next).await;
        let told = || drafts(&next.emergency, &next.notices, name.as_deref(), now);
        let Some(committed) = self.change(&next.emergency, joined, told).await? else { return Ok(None) };
        let contacts = self.publish(&next, committed).await;
        Ok(Some(Changed { emergency: next.emergency, contacts }))
    }

    async fn claimer_name(&self, next: &Next) -> Option<String> {
        let contact = next.notices.iter().find_map(|t| match t {
            Notice::Claimed(contact) => Some(*contact),
            _ => None,
        })?;
        let link = self.trust.link_between(next.emergency.subject, contact).await.ok()??;
        Some(link.contact_name)
    }

    /// Publishes an emergency as it stands: its first hints may be lost. How many contacts have part in it.
    async fn publish_again(&self, emergency: &Emergency) -> Option<u32> {
        let contacts = self.contacts_with_part(emergency.subject).await.unwrap_or_default();
        let told = contacts.iter().filter(|_| emergency.active_at.is_some()).map(|l| l.contact).collect();
        let next =
            Next { emergency: emergency.clone(), notices: Vec::new(), hidden: emergency.apparent.is_some() };
        self.publish(&next, Committed { told }).await
    }

    /// Publishes every hint of a changed emergency: timers, watchers, inboxes and everybody with part in it look. How many
    /// contacts have part in it, if they can be read.
    pub(in crate::alerts) async fn publish(&self, next: &Next, committed: Committed) -> Option<u32> {
        let emergency = &next.emergency;
        // Other nodes look when they hear that it changed.
        self.rescheduled.notify_one();
        self.bus.publish(Event::Visibility { subject: emergency.subject });
        if !committed.told.is_empty() {
            self.bus.publish(Event::Inbox(committed.told.into()));
        }
        let contacts = self.contacts_with_part(emergency.subject).await;
        let count = count_of(&contacts);
        // A hint that cannot be addressed is not published: contacts find the change when they look by themselves.
        self.bus.publish(change_event(next, contacts.unwrap_or_default()));
        count
    }

    /// Ends what is open before the account is deleted, and says so to contacts in words that outlive it. No check-in
    /// fires any more. An end that another change came before is tried again.
    ///
    /// # Errors
    /// When the store failed, or somebody else changes an emergency all the time; a repeat goes on.
    pub async fn forget(&self, subject: UserId) -> Result<(), AlertError> {
        self.store.forget_check_ins(subject).await?;
        for _ in 0..TRIES {
            let open = self.store.open_of(subject).await?;
            if open.is_empty() {
                return Ok(());
            }
            for emergency in open {
                self.end_for_good(&emergency).await?;
            }
        }
        Err(AlertError::Conflict("the emergency is changing too fast; try again"))
    }

    /// Contacts are told before, each once however often it is tried: after the end nobody knows who they are.
    async fn end_for_good(&self, open: &Emergency) -> Result<(), AlertError> {
        let contacts = self.contacts_with_part(open.subject).await?;
        let farewell = |contact: UserId| AlertDraft {
            id: AlertId(derived("account deleted", &[open.id.0.as_bytes(), contact.0.as_bytes()])),
            subject: contact,
            template: "emergency.account_deleted",
            params: BTreeMap::new(),
            emergency: Some(open.id),
            lane: Lane::Emergency,
            ..self.draft_to(contact, AlertKind::EmergencyUpdate, Severity::Warning)
        };
        if open.active_at.is_some() {
            let told: Vec<AlertDraft> = contacts.iter().map(|l| farewell(l.contact)).collect();
            self.send(&told).await?;
        }
        let now = self.clock.now();
        if let Some(next) = open.apply(Command::Forget, now) {
            // Whether another change came before is seen by whoever asks for what is open.
            self.store_change(next, None, now).await?;
        }
        Ok(())
    }

    /// What `user` sees of an emergency.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if they have no part in it.
    pub async fn view(&self, user: UserId, id: EmergencyId) -> Result<EmergencyView, AlertError> {
        if let Some(own) = self.store.emergency_of(user, id).await? {
            let deliveries = self.store.deliveries(own.id).await?;
            return Ok(self.named_one(subject_view(&own, Some(&deliveries))).await);
        }
        let party = self.store.emergency_for(user, id, self.clock.now()).await?;
        let view = party.as_ref().and_then(contact_view).ok_or(AlertError::NotFound("emergency"))?;
        Ok(self.named_one(view).await)
    }

    /// What somebody sees, with what people and devices are called. Names that cannot be read are left out.
    async fn named(&self, views: Vec<EmergencyView>) -> Vec<EmergencyView> {
        let mut people: Vec<UserId> = views.iter().flat_map(EmergencyView::people).collect();
        people.sort_unstable();
        people.dedup();
        let devices: Vec<DeviceId> = views.iter().filter_map(|view| view.device).collect();
        match self.store.names(&people, &devices).await {
            Ok(names) => views.into_iter().map(|view| view.named(&names)).collect(),
            Err(error) => {
                tracing::warn!(%error, "names cannot be read; an emergency is shown without them");
                views
            }
        }
    }

    /// The same of one.
    pub async fn named_one(&self, view: EmergencyView) -> EmergencyView {
        let mut named = self.named(vec![view.clone()]).await;
        named.pop().unwrap_or(view)
    }

    /// A page of emergencies in one role, newest first.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn list(
        &self,
        user: UserId,
        role: LinkRole,
        state: Option<State>,
        after: Option<EmergencyId>,
        limit: u32,
    ) -> Result<Vec<EmergencyView>, AlertError> {
        let found = self.store.emergencies(user, role, state, after, limit, self.clock.now()).await?;
        let views = match role {
            LinkRole::Subject => {
                let mut views = Vec::with_capacity(found.len());
                for party in found {
                    let deliveries = self.store.deliveries(party.emergency.id).await?;
                    views.push(subject_view(&party.emergency, Some(&deliveries)));
                }
                views
            }
            LinkRole::Contact => found.iter().filter_map(contact_view).collect(),
        };
        Ok(self.named(views).await)
    }

    /// The open emergencies a person has part in, as they see them.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn open_for(&self, user: UserId) -> Result<Vec<EmergencyView>, AlertError> {
        let mut views = Vec::new();
        for state in [State::Active, State::Countdown] {
            views.extend(self.list(user, LinkRole::Subject, Some(state), None, 100).await?);
        }
        views.extend(self.list(user, LinkRole::Contact, Some(State::Active), None, 1_000).await?);
        Ok(views)
    }

    /// Whether an emergency is the person's own.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if not.
    pub async fn check_own(&self, subject: UserId, id: EmergencyId) -> Result<(), AlertError> {
        self.own(subject, id).await.map(|_| ())
    }
}

/// How many contacts there are, if that could be read.
fn count_of(contacts: &Stored<Vec<TrustLink>>) -> Option<u32> {
    contacts.as_ref().ok().map(|contacts| u32::try_from(contacts.len()).unwrap_or(u32::MAX))
}

/// The event of a changed emergency, for those who see the change.
pub(in crate::alerts) fn change_event(next: &Next, mut contacts: Vec<TrustLink>) -> Event {
    let emergency = &next.emergency;
    contacts.retain(|l| match emergency.is_shown_truly_to(l) {
        true => emergency.active_at.is_some(),
        false => emergency.was_told() && !next.hidden,
    });
    let subject = (!next.hidden).then_some(emergency.subject);
    let people = contacts.iter().map(|l| l.contact).chain(subject).collect();
    Event::Emergency { id: emergency.id, people }
}
