//! The service of alerts: what its parts share, who may see whom now, and what is told besides emergencies.

use super::retention::Unwiped;
use super::words::Aside;
use super::{
    AlertDraft, AlertError, AlertKind, AlertsStore, Emergency, Lane, Names, Recipients, subject_view,
};
use crate::bus::{Bus, Event};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::id::{AlertId, DeviceId, EmergencyId, UserId, derived};
use crate::tracking::{Arrival, Severity, StoredFix, Tracking};
use crate::trust::{Basis, EmergencyFacts, Grant, LinkRole, Scope, Trust, TrustLink, visibility};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};

/// The service.
pub struct Alerts {
    pub(super) store: Arc<dyn AlertsStore>,
    pub(super) trust: Arc<Trust>,
    pub(super) tracking: Arc<Tracking>,
    pub(super) bus: Bus,
    pub(super) clock: Clock,
    pub(super) rescheduled: Notify,
    pub(super) sweeping: Mutex<Unwiped>,
    pub(super) aside: Aside,
}

impl Alerts {
    /// The service over a store.
    pub fn new(
        store: Arc<dyn AlertsStore>,
        trust: Arc<Trust>,
        tracking: Arc<Tracking>,
        bus: Bus,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            trust,
            tracking,
            bus,
            clock,
            rescheduled: Notify::new(),
            sweeping: Mutex::default(),
            aside: Aside::default(),
        })
    }

    pub(super) async fn contacts_with_part(&self, subject: UserId) -> Stored<Vec<TrustLink>> {
        let mut links = self.trust.contacts_of(subject).await?;
        links.retain(|l| l.scopes.has(Scope::Alerts) || l.scopes.has(Scope::EmergencyLocation));
        Ok(links)
    }

    pub(super) fn draft_to(&self, person: UserId, kind: AlertKind, severity: Severity) -> AlertDraft {
        AlertDraft {
            id: AlertId::fresh(&self.clock),
            kind,
            severity,
            subject: person,
            at: self.clock.now(),
            template: "",
            params: BTreeMap::new(),
            emergency: None,
            geofence: None,
            transition: None,
            late: false,
            lane: Lane::Routine,
            recipients: Recipients::Person(person),
        }
    }

    /// Says on all of the subject's devices, and to the contact, that a link was asked, accepted or changed.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn announce_link(
        &self,
        link: &TrustLink,
        to_subject: &'static str,
        to_contact: Option<&'static str>,
    ) -> Stored<()> {
        let params = BTreeMap::from([
            ("contact".to_owned(), link.contact_name.clone()),
            ("link".to_owned(), link.id.to_string()),
        ]);
        let note = |person: UserId, template| AlertDraft {
            subject: link.subject,
            template,
            params: params.clone(),
            ..self.draft_to(person, AlertKind::Link, Severity::Info)
        };
        let mut told = vec![note(link.subject, to_subject)];
        told.extend(to_contact.map(|template| note(link.contact, template)));
        self.send(&told).await
    }

    /// Says on all of a person's devices something of one of them, once a day.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn announce_device(
        &self,
        person: UserId,
        device: DeviceId,
        template: &'static str,
    ) -> Stored<()> {
        let name = self.store.names(&[], &[device]).await?.device(device);
        let day = self.clock.now().unix_ms().div_euclid(86_400_000).to_be_bytes();
        let id = derived(template, &[person.0.as_bytes(), device.0.as_bytes(), &day]);
        let params =
            BTreeMap::from([("device_name".to_owned(), name), ("device".to_owned(), device.to_string())]);
        let note = AlertDraft {
            id: AlertId(id),
            template,
            params,
            ..self.draft_to(person, AlertKind::Link, Severity::Info)
        };
        self.send(&[note]).await
    }

    pub(super) async fn send(&self, told: &[AlertDraft]) -> Stored<()> {
        let committed = self.store.tell(told).await?;
        self.bus.publish(Event::Inbox(committed.told.into()));
        Ok(())
    }

    /// Decides now whether `viewer` may see `subject`'s position. Who watches already goes on on the same basis as
    /// long as that holds: `watching` is its emergency.
    ///
    /// # Errors
    /// When the store failed: then nothing is shown.
    pub async fn grant(
        &self,
        viewer: UserId,
        subject: UserId,
        watching: Option<EmergencyId>,
    ) -> Stored<Option<Grant>> {
        if viewer == subject {
            return Ok(visibility(viewer, subject, None, &[], self.clock.now()));
        }
        let Some(link) = self.trust.link_between(subject, viewer).await? else { return Ok(None) };
        let mut active: Vec<EmergencyFacts> =
            self.store.open_of(subject).await?.iter().filter_map(Emergency::facts).collect();
        if active.iter().any(|e| Some(e.id) == watching) {
            active.retain(|e| Some(e.id) == watching);
        }
        Ok(visibility(viewer, subject, Some(&link), &active, self.clock.now()))
    }

    /// The newest position that a grant covers: of the stored fixes, or the one that came with the raise.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn newest_position(&self, grant: &Grant) -> Result<Option<StoredFix>, AlertError> {
        let stored = self.tracking.newest_fix(grant).await;
        let Basis::Emergency(id) = grant.basis() else { return Ok(stored?) };
        // The fix of the raise is beside the emergency: it is there though the others cannot be read.
        let stored = stored.unwrap_or_else(|error| {
            tracing::error!(%error, "fixes cannot be read; only the one of the raise is shown");
            None
        });
        let now = self.clock.now();
        let raised = self.store.emergency(id).await?.and_then(|e| {
            let (fix, device) = (e.opening_fix?, e.device?);
            let received_at = e.opened_at.max(fix.fixed_at.min(now));
            Some(StoredFix { device, fix, received_at })
        });
        // Where the phone is that raised it: a tablet at home says nothing of that, however lately it spoke.
        Ok(match (stored, raised) {
            (Some(stored), Some(raised)) if stored.device != raised.device => Some(raised),
            (Some(stored), Some(raised)) if Arrival::of(&raised).came_after(&Arrival::of(&stored)) => {
                Some(raised)
            }
            (stored, raised) => stored.or(raised),
        })
    }

    /// What a person and their devices are called.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn names_of(&self, person: UserId) -> Stored<Names> {
        self.store.names_of(person).await
    }

    /// Until when no time of a fix refuses its place, if somebody's emergency is open as they are shown it, or ended lately. An
    /// end under duress is like any other: for a day after it places are taken as before.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn any_time_until(&self, subject: UserId) -> Stored<Option<Timestamp>> {
        let newest =
            self.store.emergencies(subject, LinkRole::Subject, None, None, 1, self.clock.now()).await?;
        Ok(newest.first().map(|party| subject_view(&party.emergency, None).any_time_until()))
    }
}
