//! What other nodes did, read from the store: for a node that may not have heard their hints.

use super::emergency::change_event;
use super::{Alerts, Emergency, Next};
use crate::bus::Event;
use crate::error::Stored;
use crate::id::{EmergencyId, UserId};
use std::collections::{HashMap, HashSet};

/// The open emergencies and their versions.
pub type Versions = HashMap<EmergencyId, i64>;

impl Alerts {
    /// Publishes, on this node, what differs from `known` in the open emergencies: those that another node opened, changed or
    /// ended and that nobody here has heard of. With nothing known it only returns how they are.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn publish_changed(&self, known: Option<&Versions>) -> Stored<Versions> {
        let open = self.store.open().await?;
        let versions: Versions = open.iter().map(|e| (e.id, e.version)).collect();
        let Some(known) = known else { return Ok(versions) };
        let mut changed: Vec<Emergency> =
            open.into_iter().filter(|e| known.get(&e.id) != Some(&e.version)).collect();
        for ended in known.keys().filter(|id| !versions.contains_key(id)) {
            changed.extend(self.store.emergency(*ended).await?);
        }
        for emergency in changed {
            self.rescheduled.notify_one();
            self.bus.publish_here(Event::Visibility { subject: emergency.subject });
            let hidden = emergency.apparent.is_some();
            let contacts = self.contacts_with_part(emergency.subject).await.unwrap_or_default();
            let next = Next { emergency, notices: Vec::new(), hidden };
            self.bus.publish_here(change_event(&next, contacts));
        }
        Ok(versions)
    }

    /// Everybody who has part in an emergency that is open.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn people_in_open(&self) -> Stored<HashSet<UserId>> {
        let mut people = HashSet::new();
        for emergency in self.store.open().await? {
            people.insert(emergency.subject);
            people.extend(self.contacts_with_part(emergency.subject).await?.into_iter().map(|l| l.contact));
        }
        Ok(people)
    }

    /// The newest cursor of each of these inboxes that has anything in it.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn inbox_heads(&self, users: &[UserId]) -> Stored<Vec<(UserId, i64)>> {
        self.store.inbox_heads(users).await
    }
}
