//! Accounts and their PINs.

use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{UserId, derived};
use crate::identity::{Account, AccountCreated, AccountPatch, NewAccount};
use crate::store::database::{Database, Tx};
use crate::store::sql::query;
use crate::store::value::Millis;

#[derive(sqlx::FromRow)]
struct AccountRow {
    id: UserId,
    handle: String,
    password_hash: String,
    display_name: String,
    locale: String,
    time_zone: String,
    retention_ms: Option<Millis>,
    pin_hash: Option<String>,
    duress_hash: Option<String>,
    pin_failures: i64,
    pin_locked_until: Option<Timestamp>,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            user: row.id,
            handle: row.handle,
            password_hash: row.password_hash,
            display_name: row.display_name,
            locale: row.locale,
            time_zone: row.time_zone,
            retention: row.retention_ms.map(|ms| ms.0),
            pin_hash: row.pin_hash,
            duress_hash: row.duress_hash,
            pin_failures: u32::try_from(row.pin_failures).unwrap_or(u32::MAX),
            pin_locked_until: row.pin_locked_until,
        }
    }
}

/// A query of accounts.
macro_rules! accounts {
    ($rest:literal) => {
        concat!(
            "SELECT id, handle, password_hash, display_name, locale, time_zone, retention_ms, pin_hash, duress_hash,
                 pin_failures, pin_locked_until
             FROM accounts ",
            $rest
        )
    };
}

const ACCOUNT: &str = accounts!("WHERE id = $1");

/// What is left of an account's id after a deletion, so that nobody takes the place of somebody forgotten.
pub(super) fn retired_mark(user: UserId) -> Vec<u8> {
    derived("retired_account", &[user.0.as_bytes()]).into_bytes().to_vec()
}

/// What an account of this id says to a request to create it.
async fn known(tx: &mut Tx<'_>, account: &NewAccount) -> Stored<Option<AccountCreated>> {
    let known = query("SELECT handle FROM accounts WHERE id = $1").bind(account.user);
    let answer = |same| if same { AccountCreated::Repeated } else { AccountCreated::Taken };
    Ok(tx.one::<(String,)>(known).await?.map(|(handle,)| answer(handle == account.handle)))
}

pub(super) async fn create(db: &Database, account: &NewAccount) -> Stored<AccountCreated> {
    let mut tx = db.begin(Lane::Routine).await?;
    if let Some(answer) = known(&mut tx, account).await? {
        return Ok(answer);
    }
    let mark = query(
        "INSERT INTO handle_marks (mark) SELECT $1
         WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE handle = $2)
         AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE mark = $3) ON CONFLICT DO NOTHING",
    );
    let mark =
        mark.bind(account.handle_mark.as_slice()).bind(&account.handle).bind(retired_mark(account.user));
    if tx.run(mark).await? == 0 {
        // Perhaps the same request, which was just being served.
        return Ok(known(&mut tx, account).await?.unwrap_or(AccountCreated::Taken));
    }
    let insert = query(
        "INSERT INTO accounts (id, handle, password_hash, display_name, locale, time_zone, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    );
    let insert = insert
        .bind(account.user)
        .bind(&account.handle)
        .bind(&account.password_hash)
        .bind(&account.display_name)
        .bind(&account.locale)
        .bind(&account.time_zone)
        .bind(account.created_at);
    if tx.run(insert).await? == 0 {
        return Ok(known(&mut tx, account).await?.unwrap_or(AccountCreated::Taken));
    }
    tx.commit().await?;
    Ok(AccountCreated::Created)
}

pub(super) async fn by_handle(db: &Database, handle: &str) -> Stored<Option<Account>> {
    let account = query(accounts!("WHERE handle = $1")).bind(handle);
    Ok(db.one::<AccountRow>(Lane::Routine, account).await?.map(Account::from))
}

pub(super) async fn one(db: &Database, user: UserId) -> Stored<Option<Account>> {
    Ok(db.one::<AccountRow>(Lane::Routine, query(ACCOUNT).bind(user)).await?.map(Account::from))
}

pub(super) async fn update(db: &Database, user: UserId, patch: AccountPatch) -> Stored<Option<Account>> {
    let mut tx = db.begin(Lane::Routine).await?;
    let update = query(
        "UPDATE accounts SET
             display_name = coalesce($2, display_name), locale = coalesce($3, locale),
             time_zone = coalesce($4, time_zone),
             retention_ms = CASE WHEN $5 THEN $6 ELSE retention_ms END,
             pin_hash = CASE WHEN $7 THEN $8 ELSE pin_hash END, duress_hash = CASE WHEN $9 THEN $10 ELSE duress_hash END
         WHERE id = $1",
    );
    let update = update
        .bind(user)
        .bind(patch.display_name)
        .bind(patch.locale)
        .bind(patch.time_zone)
        .bind(patch.retention.is_some())
        .bind(patch.retention.flatten().map(Millis))
        .bind(patch.pin_hash.is_some())
        .bind(patch.pin_hash.flatten())
        .bind(patch.duress_hash.is_some())
        .bind(patch.duress_hash.flatten());
    tx.run(update).await?;
    let after = tx.one::<AccountRow>(query(ACCOUNT).bind(user)).await?;
    tx.commit().await?;
    Ok(after.map(Account::from))
}

/// A PIN ends an emergency: what counts its tries does not queue behind what is routine.
pub(super) async fn pin_failed(db: &Database, user: UserId, limit: u32, lock_until: Timestamp) -> Stored<()> {
    let count = || {
        query(
            "UPDATE accounts SET
                 pin_failures = CASE WHEN pin_failures + 1 >= $2 THEN 0 ELSE pin_failures + 1 END,
                 pin_locked_until = CASE WHEN pin_failures + 1 >= $2 THEN $3 ELSE pin_locked_until END
             WHERE id = $1",
        )
        .bind(user)
        .bind(limit)
        .bind(lock_until)
    };
    db.write(Lane::Emergency, count).await.map(|_| ())
}

pub(super) async fn pin_passed(db: &Database, user: UserId) -> Stored<()> {
    let clear =
        || query("UPDATE accounts SET pin_failures = 0, pin_locked_until = NULL WHERE id = $1").bind(user);
    db.write(Lane::Emergency, clear).await.map(|_| ())
}
