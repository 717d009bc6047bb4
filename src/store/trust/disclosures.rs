//! Who has seen whose position.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::UserId;
use crate::store::database::Database;
use crate::store::sql::{query, sql};
use crate::trust::{Disclosed, Disclosure};

/// Rows deleted in one transaction.
const AT_ONCE: i64 = 500;

/// Adds to the row of each key; of people who are gone there is none.
pub(super) async fn add(db: &Database, lane: Lane, disclosed: &[Disclosed]) -> Stored<()> {
    let mut tx = db.begin(lane).await?;
    for one in disclosed {
        let upsert = query(sql!(
            "INSERT INTO disclosures (viewer_id, subject_id, basis, emergency_id, covert, first_at, last_at, fixes)
             SELECT v.id, s.id, $3, $4, $5, $6, $7, $8 FROM accounts v, accounts s WHERE v.id = $1 AND s.id = $2
             ON CONFLICT (viewer_id, subject_id, basis, " pg "emergency_id" lite "coalesce(emergency_id, x'')" ", covert)
             DO UPDATE SET
                 first_at = " pg "least" lite "min" "(disclosures.first_at, excluded.first_at),
                 last_at = " pg "greatest" lite "max" "(disclosures.last_at, excluded.last_at),
                 fixes = disclosures.fixes + excluded.fixes"
        ));
        let upsert = upsert
            .bind(one.key.viewer)
            .bind(one.key.subject)
            .bind(one.key.basis)
            .bind(one.key.emergency)
            .bind(one.key.covert)
            .bind(one.first_at)
            .bind(one.last_at.max(one.first_at))
            .bind(i64::try_from(one.fixes).unwrap_or(i64::MAX));
        tx.run(upsert).await?;
    }
    tx.commit().await
}

/// Newest first, without the covert ones.
pub(super) async fn page(
    db: &Database,
    subject: UserId,
    after: Option<i64>,
    limit: u32,
) -> Stored<Vec<Disclosure>> {
    let listed = query(sql!(
        "SELECT d.id, d.viewer_id, v.display_name, d.basis, d.emergency_id, d.first_at, d.last_at, d.fixes
         FROM disclosures d JOIN accounts v ON v.id = d.viewer_id
         WHERE d.subject_id = $1 AND d.id < $2 AND " pg "NOT d.covert" lite "d.covert = 0" " ORDER BY d.id DESC LIMIT $3"
    ));
    let listed = listed.bind(subject).bind(after.unwrap_or(i64::MAX)).bind(limit);
    let disclosure = |(row, viewer, viewer_name, basis, emergency, first_at, last_at, fixes): (
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        i64,
    )| {
        let fixes = fixes.unsigned_abs();
        Disclosure { row, viewer, viewer_name, basis, emergency, first_at, last_at, fixes }
    };
    db.list(Lane::Routine, listed, disclosure).await
}

/// Deletes those that were last added to before then. Several nodes may do so at once.
pub(super) async fn expire(db: &Database, before: Timestamp) -> Stored<u64> {
    let some = || {
        query(sql!(
            "DELETE FROM disclosures WHERE id IN
                 (SELECT id FROM disclosures WHERE last_at < $1 LIMIT $2" pg " FOR UPDATE SKIP LOCKED" ")"
        ))
        .bind(before)
        .bind(AT_ONCE)
    };
    db.write_all(some).await
}
