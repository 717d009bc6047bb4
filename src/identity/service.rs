//! The service of identity: sign-up, sign-in, and who a token is.

use super::account::{fold_handle, locale, name, password, time_zone};
use super::password::Queue;
use super::session::{Session, SessionTokens, SignIn, StepUp};
use super::token::{ACCESS, random_salt};
use super::{
    Account, AccountCreated, AccountPatch, Caller, Device, Hasher, IdentityError, IdentityStore, NewAccount,
    NewSession, PinOutcome, Profile, Revocations, Revoked, Rotation, SignUp, SigningKey, pin,
};
use crate::bus::Bus;
use crate::clock::{Clock, Timestamp};
use crate::id::{DeviceId, SessionId, UserId};
use crate::typed;
use dashmap::DashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a step-up (and a fresh sign-in) lasts.
const STEPPED_UP: Duration = Duration::from_secs(5 * 60);
/// The last used refresh token may be used again so long: the answer may have been lost.
const GRACE: Duration = Duration::from_secs(30);
/// Wrong passwords for one handle in [`WINDOW`] before a wait.
const TRIES: u32 = 5;
/// The window of wrong passwords.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Handles whose wrong passwords are remembered; beyond, those are forgotten whose window is over.
const REMEMBERED: usize = 100_000;

/// PINs of one person are tried one after the other: people share so many locks.
const PIN_TURNS: usize = 64;

/// The service.
pub struct Identity {
    pub(super) store: Arc<dyn IdentityStore>,
    hasher: Hasher,
    key: SigningKey,
    pub(super) revocations: Revocations,
    wrong: DashMap<String, (u32, Timestamp)>,
    pin_turns: [Mutex<()>; PIN_TURNS],
    pub(super) bus: Bus,
    pub(super) clock: Clock,
}

/// What a person changes about themself; `None` leaves it, `Some(None)` removes it.
#[derive(Default)]
pub struct ProfileChange {
    /// What contacts see.
    pub display_name: Option<String>,
    /// BCP 47.
    pub locale: Option<String>,
    /// IANA.
    pub time_zone: Option<String>,
    /// How long fixes are kept, seconds.
    pub retention_s: Option<Option<u64>>,
    /// 4 to 12 digits.
    pub pin: Option<Option<String>>,
    /// 4 to 12 digits.
    pub duress_pin: Option<Option<String>>,
}

impl Identity {
    /// The service over a store; what was revoked before is read from it.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn start(
        store: Arc<dyn IdentityStore>,
        hasher: Hasher,
        key: SigningKey,
        bus: Bus,
        clock: Clock,
    ) -> Result<Self, IdentityError> {
        let revocations = Revocations::new(clock.clone());
        revocations.load(store.as_ref()).await?;
        Ok(Self {
            store,
            hasher,
            key,
            revocations,
            wrong: DashMap::new(),
            pin_turns: std::array::from_fn(|_| Mutex::new(())),
            bus,
            clock,
        })
    }

    /// Makes an account; `true` if it is new, `false` if it is a repeat of the same (id, handle, password).
    ///
    /// # Errors
    /// A field out of form, or the handle is taken.
    pub async fn sign_up(&self, given: SignUp) -> Result<(Profile, bool), IdentityError> {
        let handle = fold_handle(&given.handle)?;
        let secret = password(&given.password)?;
        name("display_name", &given.display_name)?;
        let tag = given.locale.unwrap_or_else(|| "en".into());
        locale(&tag)?;
        let zone = time_zone(given.time_zone.as_deref().unwrap_or("UTC"))?;
        let user = given.id.unwrap_or_else(|| UserId::fresh(&self.clock));
        let new = NewAccount {
            user,
            handle_mark: self.key.handle_mark(&handle),
            handle: handle.clone(),
            password_hash: self.hasher.hash(Queue::Anybody, secret).await?,
            display_name: given.display_name,
            locale: tag,
            time_zone: zone,
            created_at: self.clock.now(),
        };
        match self.store.create_account(new).await? {
            AccountCreated::Taken => Err(IdentityError::Conflict("this handle is taken")),
            created => {
                let account = self.account(user).await?;
                if created == AccountCreated::Repeated {
                    let hashed = Some(account.password_hash.clone());
                    let same = self.check_password(Queue::Anybody, given.password, hashed).await?;
                    if !same {
                        return Err(IdentityError::Conflict("this handle is taken"));
                    }
                }
                Ok((account.into(), created == AccountCreated::Created))
            }
        }
    }

    /// Opens a session on a device.
    ///
    /// # Errors
    /// `Unauthenticated` for a wrong handle or password (one answer), `TooManyTries`.
    pub async fn sign_in(&self, given: SignIn) -> Result<SessionTokens, IdentityError> {
        name("name", &given.device.name)?;
        let refused = IdentityError::Unauthenticated("the handle or the password is wrong");
        let Ok(handle) = fold_handle(&given.handle) else { return Err(refused) };
        self.wait_for_tries(&handle)?;
        let account = self.store.account_by_handle(&handle).await?;
        let hashed = account.as_ref().map(|a| a.password_hash.clone());
        let right = self.check_password(Queue::Anybody, given.password, hashed).await?;
        let Some(account) = account.filter(|_| right) else {
            self.remember_wrong(handle);
            return Err(refused);
        };
        self.wrong.remove(&handle);
        let now = self.clock.now();
        let session = Session {
            id: SessionId::fresh(&self.clock),
            user: account.user,
            device: given.device.id.unwrap_or_else(|| DeviceId::fresh(&self.clock)),
            salt: random_salt()?,
            generation: 1,
            rotated_at: now,
            stepped_up_until: now + STEPPED_UP,
        };
        let new = NewSession {
            session: session.clone(),
            device_name: given.device.name,
            platform: given.device.platform,
            at: now,
        };
        if !self.store.open_session(new).await? {
            return Err(IdentityError::invalid("device", "this device id cannot be used"));
        }
        self.tokens(&session, 1, now)
    }

    fn wait_for_tries(&self, handle: &str) -> Result<(), IdentityError> {
        let now = self.clock.now();
        let Some(wrong) = self.wrong.get(handle).map(|w| *w) else { return Ok(()) };
        let waits_until = wrong.1 + WINDOW;
        if wrong.0 >= TRIES && now < waits_until {
            return Err(IdentityError::TooManyTries(waits_until.since(now)));
        }
        Ok(())
    }

    fn remember_wrong(&self, handle: String) {
        let now = self.clock.now();
        if self.wrong.len() >= REMEMBERED {
            self.wrong.retain(|_, (_, since)| now < *since + WINDOW);
        }
        let mut wrong = self.wrong.entry(handle).or_insert((0, now));
        if now >= wrong.1 + WINDOW {
            *wrong = (0, now);
        }
        wrong.0 += 1;
    }

    fn tokens(
        &self,
        session: &Session,
        generation: i64,
        now: Timestamp,
    ) -> Result<SessionTokens, IdentityError> {
        let (access_token, distress_token) = self.key.sign(session, now)?;
        Ok(SessionTokens {
            user_id: session.user,
            device_id: session.device,
            access_token,
            expires_in: ACCESS.as_secs(),
            refresh_token: self.key.refresh_token(session, generation),
            distress_token,
        })
    }

    /// Exchanges a refresh token for the next one and fresh tokens.
    ///
    /// # Errors
    /// `Unauthenticated` if it is not the current one (or the one before, within 30 s). A reuse ends the session.
    pub async fn refresh(&self, token: &str) -> Result<SessionTokens, IdentityError> {
        let refused = IdentityError::Unauthenticated("the refresh token is not valid");
        let Some((id, generation, tag)) = SigningKey::read_refresh(token) else { return Err(refused) };
        let Some(session) = self.store.session(id).await? else { return Err(refused) };
        if !self.key.is_refresh(&session, generation, &tag) {
            return Err(refused);
        }
        let now = self.clock.now();
        match self.store.rotate(id, generation, now - GRACE, now).await? {
            Rotation::Rotated | Rotation::Repeated => self.tokens(&session, generation + 1, now),
            Rotation::Reused => {
                tracing::warn!(session = %id, "a refresh token was used again; the session is ended");
                self.refuse_tokens_of(Revoked::Session(id));
                Err(refused)
            }
            Rotation::Gone => Err(refused),
        }
    }

    /// Who a token is.
    ///
    /// # Errors
    /// `Unauthenticated` unless it is a token of ours, good now, of a device and session that still are.
    pub fn authenticate(&self, token: &str) -> Result<Caller, IdentityError> {
        let caller = self.key.check(token, &self.clock)?;
        if self.revoked(&caller).is_some() {
            return Err(IdentityError::Unauthenticated("the device was removed or the session ended"));
        }
        Ok(caller)
    }

    /// What of a caller from before was revoked, whatever the age of the token: the device if it was removed, or else the
    /// session if it ended.
    pub fn revoked(&self, caller: &Caller) -> Option<Revoked> {
        self.is_revoked(caller.device, caller.session())
    }

    /// The same of a device, and of a session if there is one.
    pub fn is_revoked(&self, device: DeviceId, session: Option<SessionId>) -> Option<Revoked> {
        self.revocations.revoked(device, session)
    }

    fn refuse_tokens_of(&self, revoked: Revoked) {
        self.revocations.add(revoked);
        self.bus.publish(revoked.event());
    }

    /// Lets the session do for five minutes what needs it.
    ///
    /// # Errors
    /// `Unauthenticated` for a wrong password, the PIN's errors for a PIN, `Invalid` unless exactly one is given.
    pub async fn step_up(&self, caller: &Caller, given: StepUp) -> Result<(), IdentityError> {
        let session = caller.session().ok_or(IdentityError::Forbidden("a distress token cannot step up"))?;
        let account = self.account(caller.user).await?;
        match (given.password, given.pin) {
            (Some(password), None) => {
                self.wait_for_tries(&account.handle)?;
                if !self.check_password(Queue::Known, password, Some(account.password_hash)).await? {
                    self.remember_wrong(account.handle);
                    return Err(IdentityError::Unauthenticated("the password is wrong"));
                }
            }
            (None, Some(pin)) => {
                if account.pin_hash.is_none() && account.duress_hash.is_none() {
                    return Err(IdentityError::PinWrong);
                }
                self.check_pin(caller.user, Some(&pin)).await?;
            }
            _ => return Err(IdentityError::invalid("password", "give either the password or the PIN")),
        }
        Ok(self.store.step_up(session, self.clock.now() + STEPPED_UP).await?)
    }

    /// Refuses unless the session stepped up in the last five minutes.
    ///
    /// # Errors
    /// `StepUpRequired`.
    pub async fn require_step_up(&self, caller: &Caller) -> Result<(), IdentityError> {
        let session = caller.session().ok_or(IdentityError::Forbidden("a distress token cannot do this"))?;
        let stepped_up = self.store.session(session).await?.map(|s| s.stepped_up_until);
        if stepped_up.is_some_and(|until| self.clock.now() < until) {
            Ok(())
        } else {
            Err(IdentityError::StepUpRequired)
        }
    }

    /// Ends the caller's session.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), IdentityError> {
        let session = caller.session().ok_or(IdentityError::Forbidden("a distress token has no session"))?;
        self.store.end_session(session, self.clock.now()).await?;
        self.refuse_tokens_of(Revoked::Session(session));
        Ok(())
    }

    async fn account(&self, user: UserId) -> Result<Account, IdentityError> {
        self.store.account(user).await?.ok_or(IdentityError::Unauthenticated("there is no such account"))
    }

    /// A person's own profile.
    ///
    /// # Errors
    /// When the account is gone or the store failed.
    pub async fn profile(&self, user: UserId) -> Result<Profile, IdentityError> {
        Ok(self.account(user).await?.into())
    }

    /// How long the person's fixes are kept, if they chose.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn retention(&self, user: UserId) -> Result<Option<Duration>, IdentityError> {
        Ok(self.store.account(user).await?.and_then(|a| a.retention))
    }

    /// Changes a profile. PINs need step-up, which the transport asks for.
    ///
    /// # Errors
    /// A field out of form.
    pub async fn change_profile(
        &self,
        user: UserId,
        change: ProfileChange,
    ) -> Result<Profile, IdentityError> {
        if let Some(given) = &change.display_name {
            name("display_name", given)?;
        }
        if let Some(tag) = &change.locale {
            locale(tag)?;
        }
        let zone = change.time_zone.as_deref().map(time_zone).transpose()?;
        if change.retention_s.flatten().is_some_and(|s| !(3_600..=31_536_000).contains(&s)) {
            return Err(IdentityError::invalid("retention_s", "an hour to a year, in seconds"));
        }
        let read = |field, given: Option<Option<String>>| match given {
            Some(Some(given)) => pin::read(field, &given).map(|pin| Some(Some(pin))),
            other => Ok(other),
        };
        let (new_pin, duress_pin) = (read("pin", change.pin)?, read("duress_pin", change.duress_pin)?);
        if new_pin.is_some() && new_pin == duress_pin && new_pin != Some(None) {
            return Err(IdentityError::invalid("duress_pin", "another than the PIN"));
        }
        let patch = AccountPatch {
            display_name: change.display_name,
            locale: change.locale,
            time_zone: zone,
            retention: change.retention_s.map(|s| s.map(Duration::from_secs)),
            pin_hash: self.hash_change(new_pin).await?,
            duress_hash: self.hash_change(duress_pin).await?,
        };
        let account = self.store.update_account(user, patch).await?;
        account.map(Profile::from).ok_or(IdentityError::Unauthenticated("there is no such account"))
    }

    /// A password as it is spelled now, or as it was typed when it was set long ago.
    async fn check_password(
        &self,
        queue: Queue,
        given: String,
        hashed: Option<String>,
    ) -> Result<bool, IdentityError> {
        let spelled = typed::password(&given);
        if given == spelled {
            return self.hasher.check(queue, given, hashed).await;
        }
        Ok(self.hasher.check(queue, spelled, hashed.clone()).await?
            || self.hasher.check(queue, given, hashed).await?)
    }

    async fn hash_change(
        &self,
        change: Option<Option<String>>,
    ) -> Result<Option<Option<String>>, IdentityError> {
        Ok(match change {
            Some(Some(secret)) => Some(Some(self.hasher.hash(Queue::Known, secret).await?)),
            Some(None) => Some(None),
            None => None,
        })
    }

    /// Checks the PIN that ends an emergency.
    ///
    /// # Errors
    /// `PinRequired`, `PinWrong`, `TooManyTries`.
    pub async fn check_pin(&self, user: UserId, given: Option<&str>) -> Result<PinOutcome, IdentityError> {
        // One try at a time a person, or a hundred at once would all be the first.
        let _turn = self.pin_turns[user.0.as_bytes()[15] as usize % PIN_TURNS].lock().await;
        let account = self.account(user).await?;
        pin::check(self.store.as_ref(), &self.hasher, &self.clock, &account, given).await
    }

    /// A page of a person's devices.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn devices(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<Device>, IdentityError> {
        Ok(self.store.devices(user, after, limit).await?)
    }

    /// One device of a person's.
    ///
    /// # Errors
    /// `NotFound` if it is not theirs or was removed.
    pub async fn device(&self, user: UserId, id: DeviceId) -> Result<Device, IdentityError> {
        self.store.device(id).await?.filter(|d| d.user == user).ok_or(IdentityError::NotFound("device"))
    }

    /// Makes a device the tracked one, or stops tracking it; the tracked one after it.
    ///
    /// # Errors
    /// `NotFound` if it is not the person's.
    pub async fn set_tracked(
        &self,
        user: UserId,
        device: DeviceId,
        tracked: bool,
    ) -> Result<Device, IdentityError> {
        let done = if tracked {
            self.store.track(user, device).await?
        } else {
            self.store.untrack(user, device).await?
        };
        if !done {
            return Err(IdentityError::NotFound("device"));
        }
        self.store.device(device).await?.ok_or(IdentityError::NotFound("device"))
    }

    /// The tracked device of a person whose device `device` is sending fixes. If there is none, this one becomes it.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn ensure_tracked(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<Option<DeviceId>, IdentityError> {
        Ok(self.store.track_if_none(user, device).await?)
    }

    /// Removes a device: its sockets close, its tokens read nothing more.
    ///
    /// # Errors
    /// `NotFound` if it is not the person's.
    pub async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<(), IdentityError> {
        self.device(user, device).await?;
        let removed = self.store.remove_device(user, device, self.clock.now()).await;
        // A store that did not answer in time may have done it all the same: to refuse its tokens is the safe side.
        self.refuse_tokens_of(Revoked::Device(device));
        removed?;
        Ok(())
    }

    /// Forgets a person. Open emergencies are ended and contacts told before, by the use case.
    ///
    /// # Errors
    /// When the store failed; a repeat completes it.
    pub async fn forget(&self, user: UserId) -> Result<(), IdentityError> {
        for device in self.store.forget(user, self.clock.now()).await? {
            self.refuse_tokens_of(Revoked::Device(device));
        }
        Ok(())
    }

    /// The public key set.
    pub fn jwks(&self) -> serde_json::Value {
        self.key.jwks()
    }
}
