//! Links: asked for, accepted, changed and ended.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{LinkId, UserId};
use crate::store::Store;
use crate::store::database::{Database, Tx};
use crate::store::failure::unreadable;
use crate::store::pool::Pool;
use crate::store::sql::{Sql, Statement, query, sql};
use crate::trust::{LinkCreated, LinkPatch, LinkRole, LinkState, NewLink, Scopes, TrustLink};

#[derive(sqlx::FromRow)]
struct LinkRow {
    id: LinkId,
    subject_id: UserId,
    contact_id: UserId,
    subject_name: String,
    contact_name: String,
    scopes: i16,
    tier: i16,
    hears_duress: bool,
    created_at: Timestamp,
    accepted_at: Option<Timestamp>,
    scopes_since: Timestamp,
    expires_at: Option<Timestamp>,
}

impl TryFrom<LinkRow> for TrustLink {
    type Error = StoreError;
    fn try_from(row: LinkRow) -> Stored<Self> {
        let scopes = u8::try_from(row.scopes).map_err(|_| unreadable("links.scopes"))?;
        Ok(Self {
            id: row.id,
            subject: row.subject_id,
            contact: row.contact_id,
            subject_name: row.subject_name,
            contact_name: row.contact_name,
            scopes: Scopes::from_bits(scopes),
            tier: u8::try_from(row.tier).map_err(|_| unreadable("links.tier"))?,
            hears_duress: row.hears_duress,
            state: if row.accepted_at.is_some() { LinkState::Active } else { LinkState::Pending },
            created_at: row.created_at,
            accepted_at: row.accepted_at,
            scopes_since: row.scopes_since,
            expires_at: row.expires_at,
        })
    }
}

/// Links with the names of both people.
macro_rules! links {
    ($dialect:ident) => {
        "SELECT l.id, l.subject_id, l.contact_id, l.scopes, l.tier, l.hears_duress, l.created_at, l.accepted_at, l.scopes_since,
             l.expires_at, s.display_name AS subject_name, c.display_name AS contact_name
         FROM links l
         JOIN accounts s ON s.id = l.subject_id JOIN accounts c ON c.id = l.contact_id "
    };
}

const BY_ID: Sql = sql!(links! "WHERE l.id = $1");

const OF_SUBJECT: Sql = sql!(
    links! "WHERE l.subject_id = $1 AND " past "l.id" "$2"
    " AND (l.expires_at IS NULL OR l.expires_at > $3) ORDER BY l.id LIMIT $4"
);

const OF_CONTACT: Sql = sql!(
    links! "WHERE l.contact_id = $1 AND " past "l.id" "$2"
    " AND (l.expires_at IS NULL OR l.expires_at > $3) ORDER BY l.id LIMIT $4"
);

async fn by_id(tx: &mut Tx<'_>, id: LinkId) -> Stored<Option<TrustLink>> {
    tx.one::<LinkRow>(query(BY_ID).bind(id)).await?.map(TrustLink::try_from).transpose()
}

async fn all(db: &Database, pool: impl Into<Pool>, links: Statement) -> Stored<Vec<TrustLink>> {
    db.all::<LinkRow>(pool, links).await?.into_iter().map(TrustLink::try_from).collect()
}

/// What a link of this id says to a request to create it.
async fn known(tx: &mut Tx<'_>, new: &NewLink) -> Stored<Option<LinkCreated>> {
    let answer = |known: TrustLink| {
        let same = known.subject == new.subject && known.contact == new.contact;
        if same { LinkCreated::Repeated(known) } else { LinkCreated::Conflict }
    };
    Ok(by_id(tx, new.id).await?.map(answer))
}

pub(super) async fn create(db: &Database, new: &NewLink) -> Stored<LinkCreated> {
    let mut tx = db.begin(Lane::Routine).await?;
    if let Some(answer) = known(&mut tx, new).await? {
        return Ok(answer);
    }
    let people = query(sql!("SELECT id FROM accounts WHERE id IN ($1, $2) ORDER BY id" pg " FOR KEY SHARE"));
    if tx.all::<(UserId,)>(people.bind(new.subject).bind(new.contact)).await?.len() < 2 {
        return Ok(LinkCreated::NoContact);
    }
    let expired = query("DELETE FROM links WHERE subject_id = $1 AND contact_id = $2 AND expires_at <= $3");
    tx.run(expired.bind(new.subject).bind(new.contact).bind(new.created_at)).await?;
    let insert = query(
        "INSERT INTO links (id, subject_id, contact_id, scopes, tier, hears_duress, created_at, scopes_since, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT DO NOTHING",
    );
    let insert = insert
        .bind(new.id)
        .bind(new.subject)
        .bind(new.contact)
        .bind(i64::from(new.scopes.bits()))
        .bind(i64::from(new.tier))
        .bind(new.duress)
        .bind(new.created_at)
        .bind(new.expires_at);
    if tx.run(insert).await? == 0 {
        // Perhaps the same request, which was just being served.
        return Ok(known(&mut tx, new).await?.unwrap_or(LinkCreated::Conflict));
    }
    let link = by_id(&mut tx, new.id).await?.ok_or_else(|| unreadable("links"))?;
    tx.commit().await?;
    Ok(LinkCreated::Created(link))
}

pub(super) async fn one(
    db: &Database,
    id: LinkId,
    user: UserId,
    now: Timestamp,
) -> Stored<Option<TrustLink>> {
    let link = query(sql!(
        links! "WHERE l.id = $1 AND $2 IN (l.subject_id, l.contact_id)
         AND (l.expires_at IS NULL OR l.expires_at > $3)"
    ));
    Ok(all(db, Lane::Routine, link.bind(id).bind(user).bind(now)).await?.pop())
}

pub(super) async fn between(
    db: &Database,
    subject: UserId,
    contact: UserId,
    now: Timestamp,
) -> Stored<Option<TrustLink>> {
    let link = query(sql!(
        links! "WHERE l.subject_id = $1 AND l.contact_id = $2 AND (l.expires_at IS NULL OR l.expires_at > $3)"
    ));
    Ok(all(db, Pool::told(), link.bind(subject).bind(contact).bind(now)).await?.pop())
}

pub(super) async fn page(
    db: &Database,
    user: UserId,
    role: LinkRole,
    after: Option<LinkId>,
    limit: u32,
    now: Timestamp,
) -> Stored<Vec<TrustLink>> {
    let links = match role {
        LinkRole::Subject => query(OF_SUBJECT),
        LinkRole::Contact => query(OF_CONTACT),
    };
    all(db, Lane::Routine, links.bind(user).bind(after).bind(now).bind(limit)).await
}

/// Those in force. Whoever raises waits for them, so they are read by the connections of emergencies.
pub(super) async fn contacts_of(db: &Database, subject: UserId, now: Timestamp) -> Stored<Vec<TrustLink>> {
    let links = query(sql!(
        links! "WHERE l.subject_id = $1 AND l.accepted_at IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at > $2)
         ORDER BY l.tier, l.id"
    ));
    all(db, Lane::Emergency, links.bind(subject).bind(now)).await
}

pub(super) async fn accept(
    db: &Database,
    id: LinkId,
    contact: UserId,
    at: Timestamp,
) -> Stored<Option<TrustLink>> {
    // While it was pending it allowed nothing, so its scopes count from now.
    let accept = query(
        "UPDATE links SET accepted_at = coalesce(accepted_at, $3),
             scopes_since = CASE WHEN accepted_at IS NULL THEN $3 ELSE scopes_since END
         WHERE id = $1 AND contact_id = $2 AND (expires_at IS NULL OR expires_at > $3)",
    );
    change(db, id, accept.bind(id).bind(contact).bind(at)).await
}

pub(super) async fn update(
    db: &Database,
    id: LinkId,
    subject: UserId,
    patch: LinkPatch,
    at: Timestamp,
) -> Stored<Option<TrustLink>> {
    let update = query(
        "UPDATE links SET
             scopes_since = CASE WHEN coalesce($3, scopes) = scopes THEN scopes_since ELSE $6 END,
             scopes = coalesce($3, scopes), tier = coalesce($4, tier), hears_duress = coalesce($5, hears_duress)
         WHERE id = $1 AND subject_id = $2 AND (expires_at IS NULL OR expires_at > $6)",
    );
    let update = update
        .bind(id)
        .bind(subject)
        .bind(patch.scopes.map(|scopes| i64::from(scopes.bits())))
        .bind(patch.tier.map(i64::from))
        .bind(patch.duress)
        .bind(at);
    change(db, id, update).await
}

/// The link after a change, if that found it.
async fn change(db: &Database, id: LinkId, change: Statement) -> Stored<Option<TrustLink>> {
    let mut tx = db.begin(Lane::Routine).await?;
    if tx.run(change).await? == 0 {
        return Ok(None);
    }
    let link = by_id(&mut tx, id).await?;
    tx.commit().await?;
    Ok(link)
}

pub(super) async fn end(store: &Store, id: LinkId, user: UserId) -> Stored<Option<TrustLink>> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let Some(link) = by_id(&mut tx, id).await?.filter(|l| user == l.subject || user == l.contact) else {
        return Ok(None);
    };
    tx.run(query("DELETE FROM links WHERE id = $1").bind(id)).await?;
    tx.commit().await?;
    // An expired one had ended already; it goes, and nobody is told of it.
    let expired = link.expires_at.is_some_and(|end| end <= store.clock.now());
    Ok(Some(link).filter(|_| !expired))
}
