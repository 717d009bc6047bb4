//! What trust needs from the store. Every method is one use case and atomic; absent is `Ok(None)`.

use super::{Disclosed, Disclosure, LinkPatch, LinkRole, NewLink, TrustLink};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{LinkId, UserId};
use async_trait::async_trait;

/// What became of a new link.
#[derive(Clone, PartialEq, Debug)]
pub enum LinkCreated {
    /// It is new.
    Created(TrustLink),
    /// The same id is there already, by the same subject to the same contact.
    Repeated(TrustLink),
    /// The pair has another link (an expired one is replaced), or the id is somebody else's.
    Conflict,
    /// There is no account with this handle.
    NoContact,
}

/// Trust's part of the store.
#[async_trait]
pub trait TrustStore: Send + Sync {
    /// Whose handle it is.
    async fn user_by_handle(&self, folded: &str) -> Stored<Option<UserId>>;
    /// What contacts see of a person.
    async fn display_name(&self, user: UserId) -> Stored<Option<String>>;
    /// Creates a pending link.
    async fn create_link(&self, new: NewLink) -> Stored<LinkCreated>;
    /// The link, if one of its people is `user` and it has not expired at `now`.
    async fn link(&self, id: LinkId, user: UserId, now: Timestamp) -> Stored<Option<TrustLink>>;
    /// The link by subject and contact, in whatever state, unless expired at `now`.
    async fn link_between(
        &self,
        subject: UserId,
        contact: UserId,
        now: Timestamp,
    ) -> Stored<Option<TrustLink>>;
    /// A person's links in one role, by id, after `after`, at most `limit`, none of them expired at `now`.
    async fn links(
        &self,
        user: UserId,
        role: LinkRole,
        after: Option<LinkId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<TrustLink>>;
    /// All links in force at `now` that the person granted.
    async fn contacts_of(&self, subject: UserId, now: Timestamp) -> Stored<Vec<TrustLink>>;
    /// Makes a pending link active, if `contact` is its contact; an active one stays as it is.
    async fn accept_link(&self, id: LinkId, contact: UserId, at: Timestamp) -> Stored<Option<TrustLink>>;
    /// Changes a link, if `subject` is its subject. New scopes set `scopes_since` to `at`.
    async fn update_link(
        &self,
        id: LinkId,
        subject: UserId,
        patch: LinkPatch,
        at: Timestamp,
    ) -> Stored<Option<TrustLink>>;
    /// Ends a link, if `user` is one of its people; the link as it was.
    async fn end_link(&self, id: LinkId, user: UserId) -> Stored<Option<TrustLink>>;
    /// Makes sure that a row for each of these disclosures is durable, then adds its count and moves its times.
    async fn disclose(&self, disclosed: Vec<Disclosed>) -> Stored<()>;
    /// Who has seen the person's position, newest first, without the covert ones; `after` is the id of the last seen row.
    async fn disclosures(&self, subject: UserId, after: Option<i64>, limit: u32) -> Stored<Vec<Disclosure>>;
    /// Deletes the disclosures that were last added to before `before`, in short transactions; how many.
    async fn expire_disclosures(&self, before: Timestamp) -> Stored<u64>;
}
