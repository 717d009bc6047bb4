//! Which of a person's devices they have with them, as far as their fixes tell.

use super::{StoredFix, Tracking};
use crate::error::Stored;
use crate::geo::distance_m;
use crate::id::{DeviceId, UserId};
use std::time::Duration;

/// A tracked device that sent nothing for so long is not the one that its person has with them, if another one sends.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);
/// The same if the other one is on its way.
const LEFT_BEHIND_BY_A_MOVING_ONE: Duration = Duration::from_secs(2 * 3600);
/// A device is on its way that came so far, metres ...
const FAR_M: f64 = 500.0;
/// ... in so long.
const LATELY: Duration = Duration::from_secs(900);
/// An older fix says nothing of where a device was lately.
const LONG_AGO: Duration = Duration::from_secs(3600);
/// One fix alone may be a mistake: the one so long before is far away too.
const BEFORE: Duration = Duration::from_secs(60);

/// With which device somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Companion {
    /// With the one that is tracked, or it cannot be told.
    Tracked,
    /// With the other one.
    Other,
    /// With either: the other one is on its way, and the tracked one is not or is silent. The person knows.
    Unclear,
}

impl Tracking {
    /// Whether somebody is with their tracked device, or with another one that sends fixes.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn companion(&self, tracked: DeviceId, other: DeviceId) -> Stored<Companion> {
        // One that never sent anything was chosen lately.
        let Some(last) = self.fixes.latest(tracked).await? else { return Ok(Companion::Tracked) };
        let silent = self.clock.now().since(last.received_at);
        if silent >= LEFT_BEHIND {
            return Ok(Companion::Other);
        }
        if !self.is_on_its_way(other).await? {
            return Ok(Companion::Tracked);
        }
        Ok(match silent {
            _ if silent >= LEFT_BEHIND_BY_A_MOVING_ONE => Companion::Other,
            _ if silent >= LATELY || !self.is_on_its_way(tracked).await? => Companion::Unclear,
            _ => Companion::Tracked,
        })
    }

    /// Whether a device came far lately.
    async fn is_on_its_way(&self, device: DeviceId) -> Stored<bool> {
        let Some(newest) = self.fixes.newest(&[device]).await? else { return Ok(false) };
        if self.clock.now().since(newest.received_at) >= LATELY {
            return Ok(false);
        }
        let earlier = async |by: Duration| -> Stored<Option<StoredFix>> {
            let at = newest.fix.fixed_at - by;
            let found = self.fixes.at_or_before(device, (at, i64::MAX)).await?;
            Ok(found.filter(|found| found.fix.fixed_at > newest.fix.fixed_at - LONG_AGO))
        };
        let Some((start, before)) = earlier(LATELY).await?.zip(earlier(BEFORE).await?) else {
            return Ok(false);
        };
        let from_start =
            |to: &StoredFix| distance_m(start.fix.point, to.fix.point) - to.fix.accuracy_m.unwrap_or(0.0);
        Ok(from_start(&newest) >= FAR_M && from_start(&before) >= FAR_M / 2.0)
    }

    /// Devices that send fixes here and are not the tracked one of their person, each with that; at most `limit`.
    pub fn others_that_send(&self, limit: usize) -> Vec<(UserId, DeviceId, DeviceId)> {
        let since = self.clock.now() - LATELY;
        // Nobody is let go while the map is gone through.
        let people: Vec<_> = self.people.iter().filter_map(|person| person.value().upgrade()).collect();
        people.iter().flat_map(|person| person.others_that_send(since)).take(limit).collect()
    }
}
