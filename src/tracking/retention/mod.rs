//! How long fixes are kept, and what emergencies keep of them beyond that.
//!
//! A fix is dropped when its time is over: the person's, or the server's. In the same transaction a fix in the window of
//! an emergency goes to that emergency's trail, which is kept by a rule of its own. So each fix is in one place, and
//! nothing of an incident is lost to a short retention.

mod store;

pub use store::{Incident, Keeper, RetentionStore, TrailPart, TrailStore};

use super::{StoredFix, TrackPage, Tracking};
use crate::clock::Timestamp;
use crate::error::Stored;
use crate::id::{DeviceId, EmergencyId, UserId};
use crate::runtime::{Refusal, SetAside, tried};
use crate::trust::{Basis, Grant};
use std::collections::HashMap;
use std::time::Duration;

/// Devices looked at together.
const PAGE: u32 = 1_000;
const EVER: Timestamp = Timestamp::from_unix_ms(i64::MAX);

/// How long things are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Fixes, unless a person chose otherwise.
    pub fixes: Duration,
    /// Trails, messages and claims of emergencies, after their end.
    pub incidents: Duration,
    /// Alerts and transitions.
    pub alerts: Duration,
    /// Disclosures, after they were last added to.
    pub disclosures: Duration,
}

impl Tracking {
    /// How long things are kept here.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Drops the fixes whose time is over; how many that were. A device whose fixes are refused for good is set aside until
    /// the next sweep.
    ///
    /// # Errors
    /// When the store failed; what was dropped until then stays dropped.
    pub async fn retain(&self, aside: SetAside) -> Stored<u64> {
        let now = self.clock.now();
        let (mut dropped, mut after) = (0, None);
        loop {
            let keepers = self.store.keepers(after, PAGE).await?;
            let from: Vec<(DeviceId, Timestamp)> =
                keepers.iter().map(|k| (k.device, k.keeps_from(now, self.kept.fixes))).collect();
            let users: HashMap<DeviceId, UserId> = keepers.iter().map(|k| (k.device, k.user)).collect();
            let before: HashMap<DeviceId, Timestamp> = from.iter().copied().collect();
            for device in self.fixes.expired(&from).await? {
                match tried(self.drop_old(device, users[&device], before[&device])).await {
                    Ok(some) => dropped += some,
                    Err(Refusal::Passing(error)) => return Err(error),
                    Err(why) => aside.note(device, why),
                }
            }
            match keepers.last() {
                Some(last) if keepers.len() == PAGE as usize => after = Some(last.device),
                _ => return Ok(dropped),
            }
        }
    }

    /// The emergencies are asked for after the keepers: a check-in that was missed between the two is in either.
    async fn drop_old(&self, device: DeviceId, user: UserId, before: Timestamp) -> Stored<u64> {
        let incidents = self.store.incidents(user, self.clock.now() - self.kept.incidents).await?;
        let mut dropped = 0;
        loop {
            match self.fixes.expire(device, before, &incidents).await? {
                0 => return Ok(dropped),
                some => dropped += some,
            }
        }
    }

    /// Drops the trail of an emergency; how many fixes that were.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        self.fixes.drop_trail(emergency).await
    }

    /// Leaves nothing in the files of fixes that were dropped, as far as that keeps nobody waiting.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn wipe(&self) -> Stored<()> {
        self.fixes.wipe_fixes().await
    }

    /// The parts of trails that a grant covers.
    pub(super) async fn trails(&self, grant: &Grant) -> Stored<Vec<TrailPart>> {
        match grant.basis() {
            Basis::LiveLocation => Ok(Vec::new()),
            Basis::Emergency(emergency) => {
                Ok(vec![TrailPart { emergency, from: Timestamp::from_unix_ms(i64::MIN), to: EVER }])
            }
            Basis::Own => {
                let since = self.clock.now() - self.kept.incidents;
                let incidents = self.store.incidents(grant.subject(), since).await?;
                Ok(incidents.iter().filter_map(|i| own_part(i, since)).collect())
            }
        }
    }

    /// The newest fix of a person's trails whose emergency is not over or not long.
    pub(super) async fn newest_in_incidents(
        &self,
        user: UserId,
        devices: &[DeviceId],
    ) -> Stored<Option<StoredFix>> {
        let incidents = self.store.incidents(user, self.clock.now() - self.kept.incidents).await?;
        let parts: Vec<TrailPart> =
            incidents.iter().map(|i| TrailPart { emergency: i.emergency, from: i.from, to: EVER }).collect();
        if parts.is_empty() { Ok(None) } else { self.fixes.newest_of_trail(devices, &parts).await }
    }

    /// Every device that a person's own export goes through, removed ones too.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn export_devices(&self, grant: &Grant) -> Stored<Vec<DeviceId>> {
        match grant.basis() {
            Basis::Own => self.store.every_device_of(grant.subject()).await,
            Basis::LiveLocation | Basis::Emergency(_) => Ok(Vec::new()),
        }
    }

    /// All that is kept of one of those devices, in event order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn export_fixes(
        &self,
        grant: &Grant,
        device: DeviceId,
        after: Option<(Timestamp, i64)>,
        limit: u32,
    ) -> Stored<Vec<StoredFix>> {
        if !self.export_devices(grant).await?.contains(&device) {
            return Ok(Vec::new());
        }
        let after = after.map(|(at, seq)| (at, device, seq));
        self.merged(grant, &[device], TrackPage::forwards(after, limit)).await
    }

    /// Fixes and trails as one track. Fixes are read first: what goes over meanwhile is then in the trails.
    pub(super) async fn merged(
        &self,
        grant: &Grant,
        devices: &[DeviceId],
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>> {
        let mut found = self.fixes.page(devices, page).await?;
        let parts = self.trails(grant).await?;
        if parts.is_empty() {
            return Ok(found);
        }
        found.extend(self.fixes.trail_page(devices, &parts, page).await?);
        Ok(page.first_of(found))
    }
}

/// What the subject's own tokens see of a trail. It ends, and is gone, as if the end that they see were the true one:
/// what goes on after an end under duress is kept for contacts alone.
fn own_part(incident: &Incident, since: Timestamp) -> Option<TrailPart> {
    let to = incident.shown_to.unwrap_or(EVER);
    (to >= since).then_some(TrailPart { emergency: incident.emergency, from: incident.from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracking::Keeper;
    use uuid::Uuid;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(1_800_000_000_000) + Duration::from_secs(s)
    }

    #[test]
    fn a_trail_ends_for_its_subject_at_the_end_they_see() {
        let forced = Incident {
            emergency: EmergencyId(Uuid::from_u128(1)),
            from: at(0),
            to: None,
            shown_to: Some(at(100)),
        };
        let truly = Incident { to: Some(at(100)), ..forced };
        for since in [0, 100, 101] {
            assert_eq!(own_part(&forced, at(since)), own_part(&truly, at(since)));
        }
        assert_eq!(own_part(&forced, at(100)).map(|p| p.to), Some(at(100)));
        assert_eq!(own_part(&forced, at(101)), None);
    }

    #[test]
    fn a_check_in_that_waits_holds_the_fixes_since_it_was_set() {
        let device = Keeper {
            device: DeviceId(Uuid::from_u128(1)),
            user: UserId(Uuid::from_u128(2)),
            retention: None,
            held_from: None,
        };
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        assert_eq!(device.keeps_from(at(100_000), hour), at(96_400));
        let shorter = Keeper { retention: Some(hour), ..device };
        assert_eq!(shorter.keeps_from(at(100_000), day), at(96_400));
        let waiting = Keeper { held_from: Some(at(5)), ..shorter };
        assert_eq!(waiting.keeps_from(at(100_000), day), at(5));
        let just_set = Keeper { held_from: Some(at(99_000)), ..shorter };
        assert_eq!(just_set.keeps_from(at(100_000), day), at(96_400));
    }
}
