//! Leaving nothing in the files of what was deleted.
//!
//! `secure_delete` zeroes what is deleted, but a B-tree that was rebalanced keeps stale copies of rows in the unused
//! middle of its pages, and the log keeps old pages. So the files are rewritten and the logs emptied, as far as that keeps
//! no emergency waiting for the writer. After somebody was forgotten, what was left is done at the next opening.

use super::connect::Database;
use crate::alerts::Lane;
use crate::error::Stored;
use crate::store::failure::{by, read};
use sqlx::{query, query_scalar};
use std::time::Duration;
use tokio::time::Instant;

/// Rewriting a file may take so long.
const REWRITE: Duration = Duration::from_secs(60);
/// For wiping: beyond, the next sweep tries again.
const WIPE: Duration = Duration::from_secs(5);
/// A sweep rewrites a file up to this size, which takes a moment; in a larger one the unused middle of pages that are
/// still in use may keep copies until those are used again.
const WIPED: i64 = 32 << 20;
/// Forgetting a person rewrites files up to this size at once, which takes a fraction of a second.
const FORGOTTEN: i64 = 64 << 20;

/// Leaves nothing in the file and its log of what was deleted, as far as that is quick.
pub(in crate::store) async fn wipe(db: &Database) -> Stored<()> {
    if size(db).await? <= WIPED { rewrite(db, WIPE).await } else { db.writer.empty_log(WIPE).await }
}

/// Rewrites the files after somebody was forgotten. Forgotten they are since the commit: what is left of them in the gaps
/// of a file must not fail the call.
pub(in crate::store) async fn wipe_forgotten((main, fixes): (&Database, &Database)) {
    match rewrite_small(main, fixes).await {
        Ok(true) => {}
        Ok(false) => tracing::info!("the files are large: they are rewritten at the next opening"),
        Err(error) => tracing::warn!(%error, "the files are rewritten at the next opening"),
    }
}

async fn rewrite_small(main: &Database, fixes: &Database) -> Stored<bool> {
    let small = size(fixes).await? <= FORGOTTEN && size(main).await? <= FORGOTTEN;
    if small {
        finish_forgetting(main, fixes).await?;
    }
    Ok(small)
}

/// Rewrites the files if somebody was forgotten since they were last rewritten.
pub(super) async fn finish_forgetting(main: &Database, fixes: &Database) -> Stored<()> {
    let due = query_scalar::<_, String>("SELECT task FROM unfinished");
    if read(due.fetch_optional(&main.readers)).await?.is_none() {
        return Ok(());
    }
    rewrite(fixes, REWRITE).await?;
    rewrite(main, REWRITE).await?;
    main.writer.write(Lane::Routine, query("DELETE FROM unfinished")).await.map(|_| ())
}

/// Bytes of the file.
async fn size(db: &Database) -> Stored<i64> {
    let bytes = query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
    read(bytes.fetch_one(&db.readers)).await
}

/// Writes the file anew without what is deleted, and empties its log.
async fn rewrite(db: &Database, within: Duration) -> Stored<()> {
    let mut locked = db.writer.alone(within).await?;
    by(Instant::now() + within, query("VACUUM").execute(locked.connection()?)).await?;
    drop(locked);
    db.writer.empty_log(within).await
}
