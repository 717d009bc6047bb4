//! The service of trust: links made, accepted, changed and ended; disclosures read.

use super::{
    Disclosure, DisclosureLedger, LinkCreated, LinkPatch, LinkRole, NewLink, Scopes, TrustError, TrustLink,
    TrustStore, may_see_fences_inside,
};
use crate::bus::{Bus, Event};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::id::{LinkId, UserId};
use serde::Deserialize;
use std::sync::Arc;

/// A link as a subject asks for it.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkIn {
    /// A client-made id, so that a repeat is the same link.
    pub id: Option<LinkId>,
    /// Whom to trust.
    pub contact: String,
    /// What it allows; at least one.
    pub scopes: Scopes,
    /// 1 is told first; 1 to 3.
    #[serde(default = "first_tier")]
    #[schema(minimum = 1, maximum = 3)]
    pub tier: u8,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Whether the contact is told when the subject was forced to end an emergency. No answer shows it.
    #[serde(default = "yes")]
    pub duress: bool,
}

fn first_tier() -> u8 {
    1
}
fn yes() -> bool {
    true
}

/// The service.
pub struct Trust {
    store: Arc<dyn TrustStore>,
    ledger: Arc<DisclosureLedger>,
    bus: Bus,
    clock: Clock,
}

impl Trust {
    /// The service over a store.
    pub fn new(store: Arc<dyn TrustStore>, bus: Bus, clock: Clock) -> Self {
        let ledger = Arc::new(DisclosureLedger::new(Arc::clone(&store), clock.clone()));
        Self { store, ledger, bus, clock }
    }

    /// Where disclosures are recorded.
    pub fn ledger(&self) -> &Arc<DisclosureLedger> {
        &self.ledger
    }

    /// Asks a contact to be trusted; `true` if the link is new, `false` if it is a repeat.
    ///
    /// # Errors
    /// A field out of form, nobody with this handle, or a link to them already.
    pub async fn ask(&self, subject: UserId, given: LinkIn) -> Result<(TrustLink, bool), TrustError> {
        check(given.scopes, given.tier)?;
        let now = self.clock.now();
        if given.expires_at.is_some_and(|end| end <= now) {
            return Err(TrustError::invalid("expires_at", "a time to come"));
        }
        let handle = given.contact.trim().to_ascii_lowercase();
        let contact = self.store.user_by_handle(&handle).await?.ok_or(TrustError::NoContact)?;
        if contact == subject {
            return Err(TrustError::invalid("contact", "somebody else"));
        }
        let new = NewLink {
            id: given.id.unwrap_or_else(|| LinkId::fresh(&self.clock)),
            subject,
            contact,
            scopes: given.scopes,
            tier: given.tier,
            duress: given.duress,
            expires_at: given.expires_at,
            created_at: now,
        };
        match self.store.create_link(new).await? {
            LinkCreated::Created(link) => Ok((link, true)),
            LinkCreated::Repeated(link) => Ok((link, false)),
            LinkCreated::Conflict => Err(TrustError::Conflict("there is a link to this contact already")),
            LinkCreated::NoContact => Err(TrustError::NoContact),
        }
    }

    /// Whether changing this link (to these scopes) needs step-up.
    ///
    /// # Errors
    /// [`TrustError::NotFound`] if it is not the subject's.
    pub async fn needs_step_up(
        &self,
        id: LinkId,
        subject: UserId,
        scopes: Scopes,
    ) -> Result<bool, TrustError> {
        let link = self.store.link(id, subject, self.clock.now()).await?.filter(|l| l.subject == subject);
        let link = link.ok_or(TrustError::NotFound("link"))?;
        Ok(scopes.grants_position() && scopes.bits() & !link.scopes.bits() != 0)
    }

    /// The contact accepts.
    ///
    /// # Errors
    /// [`TrustError::NotFound`] if they are not its contact.
    pub async fn accept(&self, id: LinkId, contact: UserId) -> Result<TrustLink, TrustError> {
        let link = self
            .store
            .accept_link(id, contact, self.clock.now())
            .await?
            .ok_or(TrustError::NotFound("link"))?;
        self.changed(link.subject);
        Ok(link)
    }

    /// The subject changes what it allows.
    ///
    /// # Errors
    /// A field out of form, or [`TrustError::NotFound`] if they are not its subject.
    pub async fn change(
        &self,
        id: LinkId,
        subject: UserId,
        patch: LinkPatch,
    ) -> Result<TrustLink, TrustError> {
        check(patch.scopes.unwrap_or(Scopes::from_bits(1)), patch.tier.unwrap_or(1))?;
        let changed = self.store.update_link(id, subject, patch, self.clock.now()).await?;
        let link = changed.ok_or(TrustError::NotFound("link"))?;
        self.changed(subject);
        Ok(link)
    }

    /// Either of its people ends it, at once.
    ///
    /// # Errors
    /// [`TrustError::NotFound`] if they are none of them.
    pub async fn end(&self, id: LinkId, user: UserId) -> Result<TrustLink, TrustError> {
        let link = self.store.end_link(id, user).await?.ok_or(TrustError::NotFound("link"))?;
        self.changed(link.subject);
        Ok(link)
    }

    fn changed(&self, subject: UserId) {
        self.bus.publish(Event::Visibility { subject });
    }

    /// One link of the person's.
    ///
    /// # Errors
    /// [`TrustError::NotFound`] if they are none of its people.
    pub async fn link(&self, id: LinkId, user: UserId) -> Result<TrustLink, TrustError> {
        self.store.link(id, user, self.clock.now()).await?.ok_or(TrustError::NotFound("link"))
    }

    /// A page of a person's links in one role.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn links(
        &self,
        user: UserId,
        role: LinkRole,
        after: Option<LinkId>,
        limit: u32,
    ) -> Result<Vec<TrustLink>, TrustError> {
        Ok(self.store.links(user, role, after, limit, self.clock.now()).await?)
    }

    /// The link by which `contact` may know of `subject`, in whatever state.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn link_between(&self, subject: UserId, contact: UserId) -> Stored<Option<TrustLink>> {
        self.store.link_between(subject, contact, self.clock.now()).await
    }

    /// The links in force that a person granted.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn contacts_of(&self, subject: UserId) -> Stored<Vec<TrustLink>> {
        self.store.contacts_of(subject, self.clock.now()).await
    }

    /// Whether `viewer` may read the names of the fences `subject` is in.
    ///
    /// # Errors
    /// [`TrustError::NotAvailable`], for every reason.
    pub async fn check_fences_inside(&self, viewer: UserId, subject: UserId) -> Result<(), TrustError> {
        let now = self.clock.now();
        let link = self.store.link_between(subject, viewer, now).await?;
        if may_see_fences_inside(viewer, subject, link.as_ref(), now) {
            Ok(())
        } else {
            Err(TrustError::NotAvailable)
        }
    }

    /// A page of who has seen the person's position, newest first.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn disclosures(
        &self,
        subject: UserId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Disclosure>, TrustError> {
        self.ledger.flush().await?;
        Ok(self.store.disclosures(subject, after, limit).await?)
    }

    /// Deletes the disclosures that were last added to before `before`; how many.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn expire_disclosures(&self, before: Timestamp) -> Stored<u64> {
        self.store.expire_disclosures(before).await
    }
}

fn check(scopes: Scopes, tier: u8) -> Result<(), TrustError> {
    if scopes.is_empty() {
        return Err(TrustError::invalid("scopes", "at least one"));
    }
    if !(1..=3).contains(&tier) {
        return Err(TrustError::invalid("tier", "1 to 3"));
    }
    Ok(())
}
