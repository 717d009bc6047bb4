//! Links and disclosures.

use super::SqliteStore;
use super::failure::{read, unreadable};
use super::writer::Tx;
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{EmergencyId, LinkId, UserId};
use crate::trust::{
    Disclosed, Disclosure, LinkCreated, LinkPatch, LinkState, NewLink, Role, Scopes, TrustLink, TrustStore,
};
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct LinkRow {
    id: Uuid,
    subject_id: Uuid,
    contact_id: Uuid,
    subject_name: String,
    contact_name: String,
    scopes: u8,
    tier: u8,
    hears_duress: bool,
    created_at: i64,
    accepted_at: Option<i64>,
    scopes_since: i64,
    expires_at: Option<i64>,
}

impl From<LinkRow> for TrustLink {
    fn from(row: LinkRow) -> Self {
        Self {
            id: LinkId(row.id),
            subject: UserId(row.subject_id),
            contact: UserId(row.contact_id),
            subject_name: row.subject_name,
            contact_name: row.contact_name,
            scopes: Scopes::from_bits(row.scopes),
            tier: row.tier,
            duress: Some(row.hears_duress),
            state: if row.accepted_at.is_some() { LinkState::Active } else { LinkState::Pending },
            created_at: Timestamp::from_unix_ms(row.created_at),
            accepted_at: row.accepted_at.map(Timestamp::from_unix_ms),
            scopes_since: Timestamp::from_unix_ms(row.scopes_since),
            expires_at: row.expires_at.map(Timestamp::from_unix_ms),
        }
    }
}

/// A query of links with the names of both people.
macro_rules! links {
    ($rest:literal) => {
        concat!(
            "SELECT l.*, s.display_name AS subject_name, c.display_name AS contact_name FROM links l
             JOIN accounts s ON s.id = l.subject_id JOIN accounts c ON c.id = l.contact_id ",
            $rest
        )
    };
}

const BY_ID: &str = links!("WHERE l.id = ?");

async fn by_id(tx: &mut Tx<'_>, id: LinkId) -> Stored<Option<TrustLink>> {
    Ok(tx.one(query_as::<_, LinkRow>(BY_ID).bind(id.0)).await?.map(TrustLink::from))
}

impl SqliteStore {
    async fn links_where(&self, question: super::writer::Question<'_, LinkRow>) -> Stored<Vec<TrustLink>> {
        let rows = read(question.fetch_all(&self.db.readers)).await?;
        Ok(rows.into_iter().map(TrustLink::from).collect())
    }
}

#[async_trait]
impl TrustStore for SqliteStore {
    async fn user_by_handle(&self, folded: &str) -> Stored<Option<UserId>> {
        let user = query_scalar::<_, Uuid>("SELECT id FROM accounts WHERE handle = ?").bind(folded);
        Ok(read(user.fetch_optional(&self.db.readers)).await?.map(UserId))
    }

    async fn display_name(&self, user: UserId) -> Stored<Option<String>> {
        let name = query_scalar("SELECT display_name FROM accounts WHERE id = ?").bind(user.0);
        read(name.fetch_optional(&self.db.readers)).await
    }

    async fn create_link(&self, new: NewLink) -> Stored<LinkCreated> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        if let Some(known) = by_id(&mut tx, new.id).await? {
            let same = known.subject == new.subject && known.contact == new.contact;
            return Ok(if same { LinkCreated::Repeated(known) } else { LinkCreated::Conflict });
        }
        let people = query_as::<_, (i64,)>("SELECT count(*) FROM accounts WHERE id IN (?, ?)");
        if tx.one(people.bind(new.subject.0).bind(new.contact.0)).await? != Some((2,)) {
            return Ok(LinkCreated::NoContact);
        }
        let expired = query("DELETE FROM links WHERE subject_id = ? AND contact_id = ? AND expires_at <= ?");
        tx.run(expired.bind(new.subject.0).bind(new.contact.0).bind(new.created_at.unix_ms())).await?;
        let insert = query(
            "INSERT INTO links (id, subject_id, contact_id, scopes, tier, hears_duress, created_at, scopes_since, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8) ON CONFLICT (subject_id, contact_id) DO NOTHING",
        );
        let insert = insert
            .bind(new.id.0)
            .bind(new.subject.0)
            .bind(new.contact.0)
            .bind(new.scopes.bits())
            .bind(new.tier)
            .bind(new.duress)
            .bind(new.created_at.unix_ms())
            .bind(new.expires_at.map(Timestamp::unix_ms));
        if tx.run(insert).await? == 0 {
            return Ok(LinkCreated::Conflict);
        }
        let link = by_id(&mut tx, new.id).await?.ok_or_else(|| unreadable("links"))?;
        tx.commit().await?;
        Ok(LinkCreated::Created(link))
    }

    async fn link(&self, id: LinkId, user: UserId, now: Timestamp) -> Stored<Option<TrustLink>> {
        let link = query_as(links!(
            "WHERE l.id = ?1 AND ?2 IN (l.subject_id, l.contact_id) AND (l.expires_at IS NULL OR l.expires_at > ?3)"
        ));
        Ok(self.links_where(link.bind(id.0).bind(user.0).bind(now.unix_ms())).await?.pop())
    }

    async fn link_between(
        &self,
        subject: UserId,
        contact: UserId,
        now: Timestamp,
    ) -> Stored<Option<TrustLink>> {
        let link = query_as(links!(
            "WHERE l.subject_id = ? AND l.contact_id = ? AND (l.expires_at IS NULL OR l.expires_at > ?)"
        ));
        Ok(self.links_where(link.bind(subject.0).bind(contact.0).bind(now.unix_ms())).await?.pop())
    }

    async fn links(
        &self,
        user: UserId,
        role: Role,
        after: Option<LinkId>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Vec<TrustLink>> {
        let sql = match role {
            Role::Subject => links!(
                "WHERE l.subject_id = ? AND l.id > ? AND (l.expires_at IS NULL OR l.expires_at > ?) ORDER BY l.id LIMIT ?"
            ),
            Role::Contact => links!(
                "WHERE l.contact_id = ? AND l.id > ? AND (l.expires_at IS NULL OR l.expires_at > ?) ORDER BY l.id LIMIT ?"
            ),
        };
        // Every id is more than nothing.
        let after = after.map_or(Vec::new(), |id| id.0.as_bytes().to_vec());
        self.links_where(query_as(sql).bind(user.0).bind(after).bind(now.unix_ms()).bind(limit)).await
    }

    async fn contacts_of(&self, subject: UserId, now: Timestamp) -> Stored<Vec<TrustLink>> {
        let links = query_as(links!(
            "WHERE l.subject_id = ? AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > ?)
             ORDER BY l.tier, l.id"
        ));
        self.links_where(links.bind(subject.0).bind(now.unix_ms())).await
    }

    async fn accept_link(&self, id: LinkId, contact: UserId, at: Timestamp) -> Stored<Option<TrustLink>> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        // While it was pending it allowed nothing, so its scopes count from now.
        let accept = query(
            "UPDATE links SET accepted_at = coalesce(accepted_at, ?3),
                 scopes_since = iif(accepted_at IS NULL, ?3, scopes_since)
             WHERE id = ?1 AND contact_id = ?2 AND (expires_at IS NULL OR expires_at > ?3)",
        );
        if tx.run(accept.bind(id.0).bind(contact.0).bind(at.unix_ms())).await? == 0 {
            return Ok(None);
        }
        let link = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn update_link(
        &self,
        id: LinkId,
        subject: UserId,
        patch: LinkPatch,
        at: Timestamp,
    ) -> Stored<Option<TrustLink>> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let update = query(
            "UPDATE links SET
                 scopes_since = iif(coalesce(?3, scopes) = scopes, scopes_since, ?6),
                 scopes = coalesce(?3, scopes), tier = coalesce(?4, tier), hears_duress = coalesce(?5, hears_duress)
             WHERE id = ?1 AND subject_id = ?2 AND (expires_at IS NULL OR expires_at > ?6)",
        );
        let update = update
            .bind(id.0)
            .bind(subject.0)
            .bind(patch.scopes.map(Scopes::bits))
            .bind(patch.tier)
            .bind(patch.duress)
            .bind(at.unix_ms());
        if tx.run(update).await? == 0 {
            return Ok(None);
        }
        let link = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn end_link(&self, id: LinkId, user: UserId) -> Stored<Option<TrustLink>> {
        let mut tx = self.db.writer.begin(Lane::Routine).await?;
        let Some(link) = by_id(&mut tx, id).await?.filter(|l| user == l.subject || user == l.contact) else {
            return Ok(None);
        };
        tx.run(query("DELETE FROM links WHERE id = ?").bind(id.0)).await?;
        tx.commit().await?;
        // An expired one had ended already; it goes, and nobody is told of it.
        let expired = link.expires_at.is_some_and(|end| end <= self.clock.now());
        Ok(Some(link).filter(|_| !expired))
    }

    async fn disclose(&self, disclosed: Vec<Disclosed>) -> Stored<()> {
        // The first showing in an emergency waits for this row; the counts of many showings can wait.
        let first = matches!(disclosed.as_slice(), [one] if one.key.emergency.is_some());
        let mut tx = self.db.writer.begin(if first { Lane::Emergency } else { Lane::Routine }).await?;
        for one in disclosed {
            let upsert = query(
                "INSERT INTO disclosures (viewer_id, subject_id, basis, emergency_id, covert, first_at, last_at, fixes)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, max(?6, ?7), ?8
                 WHERE EXISTS (SELECT 1 FROM accounts WHERE id = ?1) AND EXISTS (SELECT 1 FROM accounts WHERE id = ?2)
                 ON CONFLICT (viewer_id, subject_id, basis, coalesce(emergency_id, x''), covert) DO UPDATE SET
                     first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),
                     fixes = fixes + excluded.fixes",
            );
            let upsert = upsert
                .bind(one.key.viewer.0)
                .bind(one.key.subject.0)
                .bind(one.key.basis)
                .bind(one.key.emergency.map(|e| e.0))
                .bind(one.key.covert)
                .bind(one.first_at.unix_ms())
                .bind(one.last_at.unix_ms())
                .bind(i64::try_from(one.fixes).unwrap_or(i64::MAX));
            tx.run(upsert).await?;
        }
        tx.commit().await
    }

    async fn disclosures(&self, subject: UserId, after: Option<i64>, limit: u32) -> Stored<Vec<Disclosure>> {
        let listed = query_as::<_, DisclosureRow>(
            "SELECT d.id, d.viewer_id, v.display_name AS viewer_name, d.basis, d.emergency_id, d.first_at, d.last_at, d.fixes
             FROM disclosures d JOIN accounts v ON v.id = d.viewer_id
             WHERE d.subject_id = ? AND d.covert = 0 AND d.id < ? ORDER BY d.id DESC LIMIT ?",
        );
        let listed = listed.bind(subject.0).bind(after.unwrap_or(i64::MAX)).bind(limit);
        let rows = read(listed.fetch_all(&self.db.readers)).await?;
        rows.into_iter().map(Disclosure::try_from).collect()
    }

    async fn expire_disclosures(&self, before: Timestamp) -> Stored<u64> {
        super::retention::expire_disclosures(self, before).await
    }
}

#[derive(sqlx::FromRow)]
struct DisclosureRow {
    id: i64,
    viewer_id: Uuid,
    viewer_name: String,
    basis: String,
    emergency_id: Option<Uuid>,
    first_at: i64,
    last_at: i64,
    fixes: i64,
}

impl TryFrom<DisclosureRow> for Disclosure {
    type Error = StoreError;
    fn try_from(row: DisclosureRow) -> Stored<Self> {
        Ok(Self {
            row: row.id,
            viewer: UserId(row.viewer_id),
            viewer_name: row.viewer_name,
            basis: row.basis,
            emergency: row.emergency_id.map(EmergencyId),
            first_at: Timestamp::from_unix_ms(row.first_at),
            last_at: Timestamp::from_unix_ms(row.last_at),
            fixes: u64::try_from(row.fixes).map_err(|_| unreadable("disclosures.fixes"))?,
        })
    }
}
