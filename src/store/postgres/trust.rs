//! Links and disclosures.

use super::PostgresStore;
use super::at::At;
use super::connect::{Question, Tx, again};
use super::failure::{read, unreadable};
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
    scopes: i16,
    tier: i16,
    hears_duress: bool,
    created_at: At,
    accepted_at: Option<At>,
    scopes_since: At,
    expires_at: Option<At>,
}

impl TryFrom<LinkRow> for TrustLink {
    type Error = StoreError;
    fn try_from(row: LinkRow) -> Stored<Self> {
        let scopes = u8::try_from(row.scopes).map_err(|_| unreadable("links.scopes"))?;
        Ok(Self {
            id: LinkId(row.id),
            subject: UserId(row.subject_id),
            contact: UserId(row.contact_id),
            subject_name: row.subject_name,
            contact_name: row.contact_name,
            scopes: Scopes::from_bits(scopes),
            tier: u8::try_from(row.tier).map_err(|_| unreadable("links.tier"))?,
            duress: Some(row.hears_duress),
            state: if row.accepted_at.is_some() { LinkState::Active } else { LinkState::Pending },
            created_at: row.created_at.0,
            accepted_at: row.accepted_at.map(Timestamp::from),
            scopes_since: row.scopes_since.0,
            expires_at: row.expires_at.map(Timestamp::from),
        })
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

const BY_ID: &str = links!("WHERE l.id = $1");

async fn by_id(tx: &mut Tx, id: LinkId) -> Stored<Option<TrustLink>> {
    tx.one(query_as::<_, LinkRow>(BY_ID).bind(id.0)).await?.map(TrustLink::try_from).transpose()
}

/// What a link of this id says to a request to create it.
async fn repeated(tx: &mut Tx, new: &NewLink) -> Stored<Option<LinkCreated>> {
    let answer = |known: TrustLink| {
        let same = known.subject == new.subject && known.contact == new.contact;
        if same { LinkCreated::Repeated(known) } else { LinkCreated::Conflict }
    };
    Ok(by_id(tx, new.id).await?.map(answer))
}

impl PostgresStore {
    async fn create_link_once(&self, new: &NewLink) -> Stored<LinkCreated> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        if let Some(answer) = repeated(&mut tx, new).await? {
            return Ok(answer);
        }
        let people =
            query_as::<_, (Uuid,)>("SELECT id FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR KEY SHARE");
        if tx.all(people.bind(new.subject.0).bind(new.contact.0)).await?.len() < 2 {
            return Ok(LinkCreated::NoContact);
        }
        let expired =
            query("DELETE FROM links WHERE subject_id = $1 AND contact_id = $2 AND expires_at <= $3");
        tx.run(expired.bind(new.subject.0).bind(new.contact.0).bind(At(new.created_at))).await?;
        let insert = query(
            "INSERT INTO links (id, subject_id, contact_id, scopes, tier, hears_duress, created_at, scopes_since, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT DO NOTHING",
        );
        let insert = insert
            .bind(new.id.0)
            .bind(new.subject.0)
            .bind(new.contact.0)
            .bind(i16::from(new.scopes.bits()))
            .bind(i16::from(new.tier))
            .bind(new.duress)
            .bind(At(new.created_at))
            .bind(new.expires_at.map(At));
        if tx.run(insert).await? == 0 {
            // Perhaps the same request, which was just being served.
            return Ok(repeated(&mut tx, new).await?.unwrap_or(LinkCreated::Conflict));
        }
        let link = by_id(&mut tx, new.id).await?.ok_or_else(|| unreadable("links"))?;
        tx.commit().await?;
        Ok(LinkCreated::Created(link))
    }

    async fn disclose_once(&self, lane: Lane, disclosed: &[Disclosed]) -> Stored<()> {
        let mut tx = self.db.begin(lane).await?;
        for one in disclosed {
            let upsert = query(
                "INSERT INTO disclosures (viewer_id, subject_id, basis, emergency_id, covert, first_at, last_at, fixes)
                 SELECT v.id, s.id, $3, $4, $5, $6, greatest($6, $7), $8 FROM accounts v, accounts s
                 WHERE v.id = $1 AND s.id = $2
                 ON CONFLICT (viewer_id, subject_id, basis, emergency_id, covert) DO UPDATE SET
                     first_at = least(disclosures.first_at, excluded.first_at),
                     last_at = greatest(disclosures.last_at, excluded.last_at),
                     fixes = disclosures.fixes + excluded.fixes",
            );
            let upsert = upsert
                .bind(one.key.viewer.0)
                .bind(one.key.subject.0)
                .bind(one.key.basis)
                .bind(one.key.emergency.map(|e| e.0))
                .bind(one.key.covert)
                .bind(At(one.first_at))
                .bind(At(one.last_at))
                .bind(i64::try_from(one.fixes).unwrap_or(i64::MAX));
            tx.run(upsert).await?;
        }
        tx.commit().await
    }

    async fn links_where(&self, question: Question<'_, LinkRow>) -> Stored<Vec<TrustLink>> {
        let rows = read(question.fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(TrustLink::try_from).collect()
    }
}

#[async_trait]
impl TrustStore for PostgresStore {
    async fn user_by_handle(&self, folded: &str) -> Stored<Option<UserId>> {
        let user = query_scalar::<_, Uuid>("SELECT id FROM accounts WHERE handle = $1").bind(folded);
        Ok(read(user.fetch_optional(&self.db.routine)).await?.map(UserId))
    }

    async fn display_name(&self, user: UserId) -> Stored<Option<String>> {
        let name = query_scalar("SELECT display_name FROM accounts WHERE id = $1").bind(user.0);
        read(name.fetch_optional(&self.db.routine)).await
    }

    async fn create_link(&self, new: NewLink) -> Stored<LinkCreated> {
        again(Lane::Routine, || self.create_link_once(&new)).await
    }

    async fn link(&self, id: LinkId, user: UserId, now: Timestamp) -> Stored<Option<TrustLink>> {
        let link = query_as(links!(
            "WHERE l.id = $1 AND $2 IN (l.subject_id, l.contact_id) AND (l.expires_at IS NULL OR l.expires_at > $3)"
        ));
        Ok(self.links_where(link.bind(id.0).bind(user.0).bind(At(now))).await?.pop())
    }

    async fn link_between(
        &self,
        subject: UserId,
        contact: UserId,
        now: Timestamp,
    ) -> Stored<Option<TrustLink>> {
        let link = query_as(links!(
            "WHERE l.subject_id = $1 AND l.contact_id = $2 AND (l.expires_at IS NULL OR l.expires_at > $3)"
        ));
        Ok(self.links_where(link.bind(subject.0).bind(contact.0).bind(At(now))).await?.pop())
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
                "WHERE l.subject_id = $1 AND ($2::uuid IS NULL OR l.id > $2) AND (l.expires_at IS NULL OR l.expires_at > $3) ORDER BY l.id LIMIT $4"
            ),
            Role::Contact => links!(
                "WHERE l.contact_id = $1 AND ($2::uuid IS NULL OR l.id > $2) AND (l.expires_at IS NULL OR l.expires_at > $3) ORDER BY l.id LIMIT $4"
            ),
        };
        let links = query_as(sql).bind(user.0).bind(after.map(|id| id.0)).bind(At(now));
        self.links_where(links.bind(i64::from(limit))).await
    }

    async fn contacts_of(&self, subject: UserId, now: Timestamp) -> Stored<Vec<TrustLink>> {
        let links = query_as(links!(
            "WHERE l.subject_id = $1 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
             ORDER BY l.tier, l.id"
        ));
        self.links_where(links.bind(subject.0).bind(At(now))).await
    }

    async fn accept_link(&self, id: LinkId, contact: UserId, at: Timestamp) -> Stored<Option<TrustLink>> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        // While it was pending it allowed nothing, so its scopes count from now.
        let accept = query(
            "UPDATE links SET accepted_at = coalesce(accepted_at, $3),
                 scopes_since = CASE WHEN accepted_at IS NULL THEN $3 ELSE scopes_since END
             WHERE id = $1 AND contact_id = $2 AND (expires_at IS NULL OR expires_at > $3)",
        );
        if tx.run(accept.bind(id.0).bind(contact.0).bind(At(at))).await? == 0 {
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
        let mut tx = self.db.begin(Lane::Routine).await?;
        let update = query(
            "UPDATE links SET
                 scopes_since = CASE WHEN coalesce($3, scopes) = scopes THEN scopes_since ELSE $6 END,
                 scopes = coalesce($3, scopes), tier = coalesce($4, tier), hears_duress = coalesce($5, hears_duress)
             WHERE id = $1 AND subject_id = $2 AND (expires_at IS NULL OR expires_at > $6)",
        );
        let update = update
            .bind(id.0)
            .bind(subject.0)
            .bind(patch.scopes.map(|scopes| i16::from(scopes.bits())))
            .bind(patch.tier.map(i16::from))
            .bind(patch.duress)
            .bind(At(at));
        if tx.run(update).await? == 0 {
            return Ok(None);
        }
        let link = by_id(&mut tx, id).await?;
        tx.commit().await?;
        Ok(link)
    }

    async fn end_link(&self, id: LinkId, user: UserId) -> Stored<Option<TrustLink>> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        let Some(link) = by_id(&mut tx, id).await?.filter(|l| user == l.subject || user == l.contact) else {
            return Ok(None);
        };
        tx.run(query("DELETE FROM links WHERE id = $1").bind(id.0)).await?;
        tx.commit().await?;
        // An expired one had ended already; it goes, and nobody is told of it.
        let expired = link.expires_at.is_some_and(|end| end <= self.clock.now());
        Ok(Some(link).filter(|_| !expired))
    }

    async fn disclose(&self, disclosed: Vec<Disclosed>) -> Stored<()> {
        // The first showing in an emergency waits for this row; the counts of many showings can wait.
        let first = matches!(disclosed.as_slice(), [one] if one.key.emergency.is_some());
        let lane = if first { Lane::Emergency } else { Lane::Routine };
        again(lane, || self.disclose_once(lane, &disclosed)).await
    }

    async fn disclosures(&self, subject: UserId, after: Option<i64>, limit: u32) -> Stored<Vec<Disclosure>> {
        let listed = query_as::<_, DisclosureRow>(
            "SELECT d.id, d.viewer_id, v.display_name AS viewer_name, d.basis, d.emergency_id, d.first_at, d.last_at, d.fixes
             FROM disclosures d JOIN accounts v ON v.id = d.viewer_id
             WHERE d.subject_id = $1 AND NOT d.covert AND d.id < $2 ORDER BY d.id DESC LIMIT $3",
        );
        let listed = listed.bind(subject.0).bind(after.unwrap_or(i64::MAX)).bind(i64::from(limit));
        let rows = read(listed.fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(Disclosure::try_from).collect()
    }

    async fn expire_disclosures(&self, before: Timestamp) -> Stored<u64> {
        super::expiry::disclosures(self, before).await
    }
}

#[derive(sqlx::FromRow)]
struct DisclosureRow {
    id: i64,
    viewer_id: Uuid,
    viewer_name: String,
    basis: String,
    emergency_id: Option<Uuid>,
    first_at: At,
    last_at: At,
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
            first_at: row.first_at.0,
            last_at: row.last_at.0,
            fixes: u64::try_from(row.fixes).map_err(|_| unreadable("disclosures.fixes"))?,
        })
    }
}
