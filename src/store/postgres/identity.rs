//! Accounts and devices; sessions and forgetting are next door.

use super::PostgresStore;
use super::at::At;
use super::connect::{Tx, again};
use super::failure::{read, unreadable};
use super::values::{duration, millis};
use crate::alerts::Lane;
use crate::clock::Timestamp;
use crate::error::{StoreError, Stored};
use crate::id::{DeviceId, SessionId, UserId};
use crate::identity::{
    Account, AccountCreated, AccountPatch, Device, IdentityStore, NewAccount, NewSession, Platform, Revoked,
    Rotation, Session,
};
use crate::store::retired_mark;
use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct AccountRow {
    id: Uuid,
    handle: String,
    password_hash: String,
    display_name: String,
    locale: String,
    time_zone: String,
    retention_ms: Option<i64>,
    pin_hash: Option<String>,
    duress_hash: Option<String>,
    pin_failures: i64,
    pin_locked_until: Option<At>,
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;
    fn try_from(row: AccountRow) -> Stored<Self> {
        Ok(Self {
            user: UserId(row.id),
            handle: row.handle,
            password_hash: row.password_hash,
            display_name: row.display_name,
            locale: row.locale,
            time_zone: row.time_zone,
            retention: row.retention_ms.map(duration),
            pin_hash: row.pin_hash,
            duress_hash: row.duress_hash,
            pin_failures: u32::try_from(row.pin_failures).map_err(|_| unreadable("accounts.pin_failures"))?,
            pin_locked_until: row.pin_locked_until.map(Timestamp::from),
        })
    }
}

#[derive(sqlx::FromRow)]
struct DeviceRow {
    id: Uuid,
    user_id: Uuid,
    name: String,
    platform: String,
    tracked: bool,
    created_at: At,
}

impl TryFrom<DeviceRow> for Device {
    type Error = StoreError;
    fn try_from(row: DeviceRow) -> Stored<Self> {
        Ok(Self {
            id: DeviceId(row.id),
            user: UserId(row.user_id),
            name: row.name,
            platform: Platform::from_word(&row.platform).ok_or_else(|| unreadable("devices.platform"))?,
            tracked: row.tracked,
            created_at: row.created_at.0,
        })
    }
}

const ACCOUNT: &str = "SELECT * FROM accounts WHERE id = $1";

/// Keeps the account as it is until the commit; others may still refer to it.
async fn lock(tx: &mut Tx, user: UserId) -> Stored<()> {
    tx.run(query("SELECT 1 FROM accounts WHERE id = $1 FOR NO KEY UPDATE").bind(user.0)).await.map(|_| ())
}

/// What an account of this id says to a request to create it.
async fn known(tx: &mut Tx, account: &NewAccount) -> Stored<Option<AccountCreated>> {
    let known = query_as::<_, (String,)>("SELECT handle FROM accounts WHERE id = $1").bind(account.user.0);
    let answer = |same| if same { AccountCreated::Repeated } else { AccountCreated::Taken };
    Ok(tx.one(known).await?.map(|(handle,)| answer(handle == account.handle)))
}

impl PostgresStore {
    async fn create_account_once(&self, account: &NewAccount) -> Stored<AccountCreated> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        if let Some(answer) = known(&mut tx, account).await? {
            return Ok(answer);
        }
        let mark = query(
            "INSERT INTO handle_marks (mark) SELECT $1::bytea
             WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE handle = $2)
             AND NOT EXISTS (SELECT 1 FROM retired_accounts WHERE mark = $3) ON CONFLICT DO NOTHING",
        );
        let mark = mark
            .bind(account.handle_mark.as_slice())
            .bind(&account.handle)
            .bind(retired_mark(account.user).to_vec());
        if tx.run(mark).await? == 0 {
            // Perhaps the same request, which was just being served.
            return Ok(known(&mut tx, account).await?.unwrap_or(AccountCreated::Taken));
        }
        let insert = query(
            "INSERT INTO accounts (id, handle, password_hash, display_name, locale, time_zone, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        );
        let insert = insert
            .bind(account.user.0)
            .bind(&account.handle)
            .bind(&account.password_hash)
            .bind(&account.display_name)
            .bind(&account.locale)
            .bind(&account.time_zone)
            .bind(At(account.created_at));
        if tx.run(insert).await? == 0 {
            return Ok(known(&mut tx, account).await?.unwrap_or(AccountCreated::Taken));
        }
        tx.commit().await?;
        Ok(AccountCreated::Created)
    }

    async fn track_once(&self, user: UserId, device: DeviceId) -> Stored<bool> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        lock(&mut tx, user).await?;
        let others = query("UPDATE devices SET tracked = false WHERE user_id = $1 AND id <> $2 AND tracked");
        tx.run(others.bind(user.0).bind(device.0)).await?;
        let this =
            query("UPDATE devices SET tracked = true WHERE user_id = $1 AND id = $2 AND removed_at IS NULL");
        if tx.run(this.bind(user.0).bind(device.0)).await? == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }
}

#[async_trait]
impl IdentityStore for PostgresStore {
    async fn create_account(&self, account: NewAccount) -> Stored<AccountCreated> {
        again(Lane::Routine, || self.create_account_once(&account)).await
    }

    async fn account_by_handle(&self, handle: &str) -> Stored<Option<Account>> {
        let account = query_as::<_, AccountRow>("SELECT * FROM accounts WHERE handle = $1").bind(handle);
        read(account.fetch_optional(&self.db.routine)).await?.map(Account::try_from).transpose()
    }

    async fn account(&self, user: UserId) -> Stored<Option<Account>> {
        let account = query_as::<_, AccountRow>(ACCOUNT).bind(user.0);
        read(account.fetch_optional(&self.db.routine)).await?.map(Account::try_from).transpose()
    }

    async fn update_account(&self, user: UserId, patch: AccountPatch) -> Stored<Option<Account>> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        let update = query(
            "UPDATE accounts SET
                 display_name = coalesce($2, display_name), locale = coalesce($3, locale),
                 time_zone = coalesce($4, time_zone),
                 retention_ms = CASE WHEN $5 THEN $6 ELSE retention_ms END,
                 pin_hash = CASE WHEN $7 THEN $8 ELSE pin_hash END, duress_hash = CASE WHEN $9 THEN $10 ELSE duress_hash END
             WHERE id = $1",
        );
        let update = update
            .bind(user.0)
            .bind(patch.display_name)
            .bind(patch.locale)
            .bind(patch.time_zone)
            .bind(patch.retention.is_some())
            .bind(patch.retention.flatten().map(millis))
            .bind(patch.pin_hash.is_some())
            .bind(patch.pin_hash.flatten())
            .bind(patch.duress_hash.is_some())
            .bind(patch.duress_hash.flatten());
        tx.run(update).await?;
        let after = tx.one(query_as::<_, AccountRow>(ACCOUNT).bind(user.0)).await?;
        tx.commit().await?;
        after.map(Account::try_from).transpose()
    }

    async fn pin_failed(&self, user: UserId, limit: u32, lock_until: Timestamp) -> Stored<()> {
        let count = query(
            "UPDATE accounts SET
                 pin_failures = CASE WHEN pin_failures + 1 >= $2 THEN 0 ELSE pin_failures + 1 END,
                 pin_locked_until = CASE WHEN pin_failures + 1 >= $2 THEN $3 ELSE pin_locked_until END
             WHERE id = $1",
        );
        // A PIN ends an emergency: it does not queue behind what is routine.
        let count = count.bind(user.0).bind(i64::from(limit)).bind(At(lock_until));
        self.db.write(Lane::Emergency, count).await.map(|_| ())
    }

    async fn pin_passed(&self, user: UserId) -> Stored<()> {
        let clear = query("UPDATE accounts SET pin_failures = 0, pin_locked_until = NULL WHERE id = $1");
        self.db.write(Lane::Emergency, clear.bind(user.0)).await.map(|_| ())
    }

    async fn open_session(&self, new: NewSession) -> Stored<bool> {
        super::sessions::open(self, new).await
    }

    async fn session(&self, id: SessionId) -> Stored<Option<Session>> {
        super::sessions::session(self, id).await
    }

    async fn rotate(
        &self,
        id: SessionId,
        generation: i64,
        grace_start: Timestamp,
        at: Timestamp,
    ) -> Stored<Rotation> {
        super::sessions::rotate(self, id, generation, grace_start, at).await
    }

    async fn step_up(&self, id: SessionId, until: Timestamp) -> Stored<()> {
        let update = query("UPDATE sessions SET stepped_up_until = $2 WHERE id = $1");
        self.db.write(Lane::Routine, update.bind(id.0).bind(At(until))).await.map(|_| ())
    }

    async fn end_session(&self, id: SessionId, at: Timestamp) -> Stored<()> {
        let mut tx = self.db.begin(Lane::Routine).await?;
        super::sessions::end(&mut tx, id, at).await?;
        tx.commit().await
    }

    async fn devices(&self, user: UserId, after: Option<DeviceId>, limit: u32) -> Stored<Vec<Device>> {
        let devices = query_as::<_, DeviceRow>(
            "SELECT id, user_id, name, platform, tracked, created_at FROM devices
             WHERE user_id = $1 AND ($2::uuid IS NULL OR id > $2) AND removed_at IS NULL ORDER BY id LIMIT $3",
        );
        let after = after.map(|id| id.0);
        let rows =
            read(devices.bind(user.0).bind(after).bind(i64::from(limit)).fetch_all(&self.db.routine)).await?;
        rows.into_iter().map(Device::try_from).collect()
    }

    async fn device(&self, id: DeviceId) -> Stored<Option<Device>> {
        let device = query_as::<_, DeviceRow>(
            "SELECT id, user_id, name, platform, tracked, created_at FROM devices
             WHERE id = $1 AND removed_at IS NULL",
        );
        read(device.bind(id.0).fetch_optional(&self.db.routine)).await?.map(Device::try_from).transpose()
    }

    async fn track(&self, user: UserId, device: DeviceId) -> Stored<bool> {
        again(Lane::Routine, || self.track_once(user, device)).await
    }

    async fn track_if_none(&self, user: UserId, device: DeviceId) -> Stored<Option<DeviceId>> {
        const TRACKED: &str = "SELECT id FROM devices WHERE user_id = $1 AND tracked";
        // Asked at every stream's first fix, and nearly always answered by this.
        let known = query_scalar::<_, Uuid>(TRACKED).bind(user.0);
        if let Some(known) = read(known.fetch_optional(&self.db.routine)).await? {
            return Ok(Some(DeviceId(known)));
        }
        let mut tx = self.db.begin(Lane::Routine).await?;
        lock(&mut tx, user).await?;
        let track = query(
            "UPDATE devices SET tracked = true WHERE user_id = $1 AND id = $2 AND removed_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM devices WHERE user_id = $1 AND tracked)",
        );
        tx.run(track.bind(user.0).bind(device.0)).await?;
        let after = tx.one(query_as::<_, (Uuid,)>(TRACKED).bind(user.0)).await?;
        tx.commit().await?;
        Ok(after.map(|(id,)| DeviceId(id)))
    }

    async fn untrack(&self, user: UserId, device: DeviceId) -> Stored<bool> {
        let untrack =
            query("UPDATE devices SET tracked = false WHERE user_id = $1 AND id = $2 AND removed_at IS NULL");
        let changed = self.db.write(Lane::Routine, untrack.bind(user.0).bind(device.0)).await?;
        Ok(changed > 0)
    }

    async fn remove_device(&self, user: UserId, device: DeviceId, at: Timestamp) -> Stored<bool> {
        super::sessions::remove_device(self, user, device, at).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Stored<Vec<Revoked>> {
        let revoked = query_as::<_, (String, Uuid)>(
            "SELECT kind, id FROM revocations WHERE revoked_at >= $1 ORDER BY revoked_at, id",
        );
        let rows = read(revoked.bind(At(since)).fetch_all(&self.db.routine)).await?;
        let revoked = rows.into_iter().map(|(kind, id)| match kind.as_str() {
            "device" => Ok(Revoked::Device(DeviceId(id))),
            "session" => Ok(Revoked::Session(SessionId(id))),
            _ => Err(unreadable("revocations.kind")),
        });
        revoked.collect()
    }

    async fn forget(&self, user: UserId, at: Timestamp) -> Stored<Vec<DeviceId>> {
        super::forget::forget(self, user, at).await
    }
}
