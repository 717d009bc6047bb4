//! Links and disclosures.

mod disclosures;
mod links;

use super::Store;
use super::sql::query;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{LinkId, UserId};
use crate::trust::{Disclosed, Disclosure, LinkCreated, LinkPatch, LinkRole, NewLink, TrustLink, TrustStore};
use async_trait::async_trait;

#[async_trait]
impl TrustStore for Store {
    async fn user_by_handle(&self, folded: &str) -> Stored<Option<UserId>> {
        let id = query("SELECT id FROM accounts WHERE handle = $1").bind(folded);
        Ok(self.db.one::<(UserId,)>(Lane::Routine, id).await?.map(|(id,)| id))
    }
    async fn display_name(&self, user: UserId) -> Stored<Option<String>> {
        let name = query("SELECT display_name FROM accounts WHERE id = $1").bind(user);
        Ok(self.db.one::<(String,)>(Lane::Routine, name).await?.map(|(name,)| name))
    }

    async fn create_link(&self, new: NewLink) -> Stored<LinkCreated> {
        self.db.again(Lane::Routine, || links::create(&self.db, &new)).await
    }
    async fn link(&self, id: LinkId, user: UserId, now: Timestamp) -> Stored<Option<TrustLink>> {
        links::one(&self.db, id, user, now).await
    }
    async fn link_between(
        &self,
        subject: UserId,
        contact: UserId,
        now: Timestamp,
    ) -> Stored<Option<TrustLink>> {
        links::between(&self.db, subject, contact, now).await
    }
    async fn links(
        &self,
        user: UserId,
        role: LinkRole,
        after: Option<LinkId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<TrustLink>> {
        links::page(&self.db, user, role, after, limit, now).await
    }
    async fn contacts_of(&self, subject: UserId, now: Timestamp) -> Stored<Vec<TrustLink>> {
        links::contacts_of(&self.db, subject, now).await
    }
    async fn accept_link(&self, id: LinkId, contact: UserId, at: Timestamp) -> Stored<Option<TrustLink>> {
        links::accept(&self.db, id, contact, at).await
    }
    async fn update_link(
        &self,
        id: LinkId,
        subject: UserId,
        patch: LinkPatch,
        at: Timestamp,
    ) -> Stored<Option<TrustLink>> {
        links::update(&self.db, id, subject, patch, at).await
    }
    async fn end_link(&self, id: LinkId, user: UserId) -> Stored<Option<TrustLink>> {
        links::end(self, id, user).await
    }

    async fn disclose(&self, disclosed: Vec<Disclosed>) -> Stored<()> {
        // The first showing in an emergency waits for this row; the counts of many showings can wait.
        let first = matches!(disclosed.as_slice(), [one] if one.key.emergency.is_some());
        let lane = if first { Lane::Emergency } else { Lane::Routine };
        self.db.again(lane, || disclosures::add(&self.db, lane, &disclosed)).await
    }
    async fn disclosures(&self, subject: UserId, after: Option<i64>, limit: u32) -> Stored<Vec<Disclosure>> {
        disclosures::page(&self.db, subject, after, limit).await
    }
    async fn expire_disclosures(&self, before: Timestamp) -> Stored<u64> {
        disclosures::expire(&self.db, before).await
    }
}
