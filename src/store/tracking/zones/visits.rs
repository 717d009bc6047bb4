//! Who is in which zone.

use crate::alerts::{Lane, SAME_VISIT, VisitCommit};
use crate::error::Stored;
use crate::id::UserId;
use crate::store::Store;
use crate::store::alerts::inbox::NewAlerts;
use crate::store::sql::{query, sql};

/// Stores entries with their alerts, and exits. Whose inboxes got something.
pub(in crate::store) async fn commit_visits(store: &Store, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
    store.db.again(Lane::Routine, || commit_once(store, commits)).await
}

async fn commit_once(store: &Store, commits: &[VisitCommit]) -> Stored<Vec<UserId>> {
    let mut tx = store.db.begin(Lane::Routine).await?;
    let mut new = NewAlerts::at(store.clock.now());
    for VisitCommit { user, entered, left } in commits {
        for (entry, alert) in entered {
            // The zone may have changed or gone, and the person too.
            let enter = query(sql!(
                "INSERT INTO zone_visits (user_id, zone_id, revision, entered_at)
                 SELECT a.id, z.id, z.revision, $4 FROM zones z, accounts a
                 WHERE a.id = $1 AND z.id = $2 AND z.revision = $3" pg " FOR KEY SHARE" "
                 ON CONFLICT (user_id, zone_id) DO UPDATE
                 SET revision = excluded.revision, entered_at = excluded.entered_at, left_at = NULL
                 WHERE zone_visits.revision <> excluded.revision OR zone_visits.left_at < $5"
            ));
            let enter = enter.bind(*user).bind(entry.zone).bind(entry.revision);
            if tx.run(enter.bind(entry.at).bind(entry.at - SAME_VISIT)).await? > 0 {
                new.tell(&mut tx, alert).await?;
                continue;
            }
            let resume = query(
                "UPDATE zone_visits SET left_at = NULL
                 WHERE user_id = $1 AND zone_id = $2 AND revision = $3 AND left_at <= $4",
            );
            let resume = resume.bind(*user).bind(entry.zone).bind(entry.revision);
            tx.run(resume.bind(entry.at)).await?;
        }
        for exit in left {
            let leave = query(
                "UPDATE zone_visits SET left_at = $4
                 WHERE user_id = $1 AND zone_id = $2 AND revision = $3 AND left_at IS NULL AND entered_at <= $4",
            );
            tx.run(leave.bind(*user).bind(exit.zone).bind(exit.revision).bind(exit.at)).await?;
        }
    }
    let told = new.place(&mut tx).await?.told;
    tx.commit().await?;
    Ok(told)
}
