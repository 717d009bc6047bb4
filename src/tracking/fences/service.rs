//! The fences of a person: made, read, replaced and deleted.

use super::super::rebuild::MAX_FENCES;
use super::super::{FenceCreated, Tracking, TrackingError};
use super::{FenceIn, Geofence, fault_of_name};
use crate::geo::Shape;
use crate::id::{GeofenceId, UserId};
use std::sync::Arc;
use std::time::Duration;

/// Vertices of all fences of a person, at most.
const MAX_ALL_VERTICES: u32 = 50_000;
/// Dwell and cool-down, at most.
const MAX_WAIT_S: u32 = 7 * 24 * 3600;
/// What stands against another fence.
const TOO_MANY: &str = "at most 200 fences and 50,000 vertices a person";

/// The use cases of fences, over [`Tracking`].
pub struct Fences<'a>(pub(in crate::tracking) &'a Tracking);

impl Fences<'_> {
    /// Makes a fence; `true` if it is new, `false` if the id was there already (it is returned as it is).
    ///
    /// # Errors
    /// A broken shape, a field out of range, a taken id, or the limits of a person.
    pub async fn create(&self, owner: UserId, given: FenceIn) -> Result<(Geofence, bool), TrackingError> {
        let id = given.id.unwrap_or_else(|| GeofenceId::fresh(&self.0.clock));
        let fence = self.check(owner, id, given).await?;
        match self.0.store.create_fence(&fence, MAX_FENCES, MAX_ALL_VERTICES).await? {
            FenceCreated::Created => {
                self.0.fences_changed(owner);
                Ok((fence, true))
            }
            FenceCreated::Repeated => Ok((self.get(owner, id).await?, false)),
            FenceCreated::Conflict => Err(TrackingError::Conflict("this id is taken")),
            FenceCreated::TooMany => Err(TrackingError::Conflict(TOO_MANY)),
        }
    }

    /// One fence.
    ///
    /// # Errors
    /// [`TrackingError::NotFound`] if it is not the owner's.
    pub async fn get(&self, owner: UserId, id: GeofenceId) -> Result<Geofence, TrackingError> {
        self.0.store.fence(owner, id).await?.ok_or(TrackingError::NotFound("geofence"))
    }

    /// A page of fences.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn list(
        &self,
        owner: UserId,
        after: Option<GeofenceId>,
        limit: u32,
    ) -> Result<Vec<Geofence>, TrackingError> {
        Ok(self.0.store.fences(owner, after, limit).await?)
    }

    /// Replaces a fence; what is known of who is in it starts again.
    ///
    /// # Errors
    /// As [`Fences::create`], and [`TrackingError::NotFound`].
    pub async fn replace(
        &self,
        owner: UserId,
        id: GeofenceId,
        given: FenceIn,
    ) -> Result<Geofence, TrackingError> {
        if given.id.is_some_and(|given| given != id) {
            return Err(TrackingError::invalid("id", "the id of the path, or none"));
        }
        let fence = self.check(owner, id, given).await?;
        match self.0.store.replace_fence(&fence, MAX_FENCES, MAX_ALL_VERTICES).await? {
            Some(Ok(fence)) => {
                self.0.fences_changed(owner);
                Ok(fence)
            }
            Some(Err(_)) => Err(TrackingError::Conflict(TOO_MANY)),
            None => Err(TrackingError::NotFound("geofence")),
        }
    }

    /// Deletes a fence; its history stays, nobody is told.
    ///
    /// # Errors
    /// [`TrackingError::NotFound`] if it is not the owner's.
    pub async fn delete(&self, owner: UserId, id: GeofenceId) -> Result<(), TrackingError> {
        if !self.0.store.delete_fence(owner, id).await? {
            return Err(TrackingError::NotFound("geofence"));
        }
        self.0.fences_changed(owner);
        Ok(())
    }

    async fn check(&self, owner: UserId, id: GeofenceId, given: FenceIn) -> Result<Geofence, TrackingError> {
        let name = given.name.trim().to_owned();
        if let Some(fault) = fault_of_name(&name) {
            return Err(TrackingError::invalid("name", fault));
        }
        if given.triggers.is_empty() {
            return Err(TrackingError::invalid("triggers", "at least one of enter, exit, dwell, cross"));
        }
        if !(1..=MAX_WAIT_S).contains(&given.dwell_s) {
            return Err(TrackingError::invalid("dwell_s", "1 second to 7 days"));
        }
        if given.cooldown_s > MAX_WAIT_S {
            return Err(TrackingError::invalid("cooldown_s", "at most 7 days"));
        }
        if given.notify.as_ref().is_some_and(|n| n.len() > 100) {
            return Err(TrackingError::invalid("notify", "at most 100 people"));
        }
        // A large shape takes milliseconds to check: not on a thread that serves sockets.
        let raw = given.shape;
        let shape = tokio::task::spawn_blocking(move || Shape::try_from(raw))
            .await
            .map_err(|_| TrackingError::invalid("shape", "could not be checked"))?
            .map_err(TrackingError::BrokenShape)?;
        let mut triggers = given.triggers;
        triggers.dedup();
        Ok(Geofence {
            id,
            owner,
            name,
            shape: Arc::new(shape),
            triggers,
            dwell: Duration::from_secs(given.dwell_s.into()),
            cooldown: Duration::from_secs(given.cooldown_s.into()),
            severity: given.severity,
            notify: given.notify,
            created_at: self.0.clock.now(),
            revision: 1,
        })
    }
}
