//! The schema: brought up to date by `cima migrate`, and only looked at by everything else.

use super::connect::options;
use crate::error::{Fault, StoreError, Stored};
use crate::store::failure::{failure, read};
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, PgPool, Row};

/// The schema, step by step.
static STEPS: Migrator = sqlx::migrate!("./migrations/postgres");
/// The version of the schema that this program was written for.
const VERSION: i32 = 2;

/// Brings the schema up to date. Of several at once one does it and the others wait: sqlx holds an advisory lock.
///
/// # Errors
/// When the database cannot be reached or the schema is not cima's.
pub async fn migrate(url: &str) -> Stored<()> {
    // Building an index may take longer than a call.
    let options = options(url)?.options([("statement_timeout", "0"), ("lock_timeout", "60000")]);
    let mut connection = options.connect().await.map_err(failure)?;
    STEPS.run_direct(None, &mut connection, false).await.map_err(|e| {
        StoreError::caused(Fault::Corrupt, format!("the schema cannot be brought up to date: {e}"), e)
    })?;
    connection.close().await.map_err(failure)
}

/// Refuses a schema that this program cannot run on, with the sentence to act on.
pub(super) async fn check(pool: &PgPool) -> Stored<()> {
    let found = sqlx::query("SELECT version, compatible_from FROM schema_info").fetch_optional(pool);
    let found = match read(found).await {
        Ok(found) => found,
        Err(error) if error.kind() == Fault::Corrupt => None,
        Err(error) => return Err(error),
    };
    let versions = found.map(|row| (row.get::<i32, _>(0), row.get::<i32, _>(1)));
    match versions {
        None => Err(refused("the database has no schema of cima: run `cima migrate`".into())),
        Some((version, _)) if version < VERSION => Err(refused(format!(
            "the schema is of version {version}, this program needs {VERSION}: run `cima migrate`"
        ))),
        Some((version, compatible_from)) if compatible_from > VERSION => Err(refused(format!(
            "the schema is of version {version} and too new for this program: run a newer cima"
        ))),
        Some(_) => Ok(()),
    }
}

fn refused(why: String) -> StoreError {
    StoreError::new(Fault::Corrupt, why)
}
