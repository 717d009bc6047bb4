//! The schema: brought up to date by `cima migrate`, and only looked at by everything else.

use super::connect::options;
use crate::error::{Fault, StoreError, Stored};
use crate::runtime::{Backoff, Mechanism};
use crate::store::failure::{failure, read};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Row};
use std::time::Duration;
use tokio::time::Instant;

/// The schema, step by step.
static STEPS: Migrator = sqlx::migrate!("./migrations/postgres");
/// The version of the schema that this program was written for.
const VERSION: i32 = 4;

/// How long a step waits for a lock before it lets everybody else pass, milliseconds: whoever comes after it waits for it.
const LOCK: &str = "500";
/// The same without the mechanism, as an ordinary migration has it.
const LONG_LOCK: &str = "60000";
/// Between two tries, at first and at most.
const APART: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
/// For getting the locks of all steps: a dump of a large database takes long.
const WITHIN: Duration = Duration::from_secs(3600);

/// Brings the schema up to date. Of several at once one does it and the others wait: sqlx holds an advisory lock.
///
/// A step that does not get its locks at once is undone and tried again later, so that no emergency waits behind one that
/// waits itself, for a dump say.
///
/// # Errors
/// When the database cannot be reached, the schema is not cima's, or its locks were not to be had for an hour.
pub async fn migrate(url: &str) -> Stored<()> {
    let retries = Mechanism::ShortLocks.works();
    // Building an index may take longer than a call.
    let lock = if retries { LOCK } else { LONG_LOCK };
    let options = options(url)?.options([("statement_timeout", "0"), ("lock_timeout", lock)]);
    let (deadline, mut backoff) = (Instant::now() + WITHIN, Backoff::between(APART.0, APART.1));
    loop {
        let mut connection = options.connect().await.map_err(failure)?;
        let done = STEPS.run_direct(None, &mut connection, false).await;
        let error = match done {
            Ok(()) => return connection.close().await.map_err(failure),
            Err(error) => error,
        };
        if !(retries && is_locked_out(&error) && Instant::now() < deadline) {
            let what = format!("the schema cannot be brought up to date: {error}");
            return Err(StoreError::caused(Fault::Corrupt, what, error));
        }
        let holders = holders(&mut connection).await.unwrap_or_default();
        tracing::warn!(holders, "the schema is in use; its step is undone and tried again");
        // The advisory lock goes with the connection.
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "a connection of the migration did not close in order");
        }
        backoff.wait().await;
    }
}

/// Whether a lock was not to be had in time (SQLSTATE 55P03).
fn is_locked_out(error: &MigrateError) -> bool {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return false;
    };
    cause.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Who has been at tables of the schema for longer than a step waits, in words for whoever runs the migration.
async fn holders(connection: &mut PgConnection) -> Option<String> {
    let holders = sqlx::query_scalar::<_, String>(
        "SELECT DISTINCT format('%s (pid %s, since %s)', coalesce(nullif(a.application_name, ''), a.usename), a.pid,
             date_trunc('second', a.xact_start))
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
         WHERE l.granted AND a.pid <> pg_backend_pid() AND a.datname = current_database()
         AND c.relnamespace = current_schema()::regnamespace AND a.xact_start < clock_timestamp() - interval '500 ms'
         LIMIT 5",
    );
    // Only a help to whoever reads the log.
    read(holders.fetch_all(connection)).await.ok().map(|all| all.join(", "))
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
