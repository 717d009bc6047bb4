//! The world in which promises are kept: a backend, people in it, and things to store.

use async_trait::async_trait;
use cima::alerts::{
    AlertDraft, AlertKind, AlertsStore, Audience, Emergency, EmergencyKind, Lane, Opening, Recipients,
};
use cima::clock::{Clock, Timestamp};
use cima::geo::{Fix, Point, RawShape, Shape};
use cima::id::{AlertId, DeviceId, EmergencyId, GeofenceId, LinkId, SessionId, UserId};
use cima::identity::{AccountCreated, IdentityStore, NewAccount, NewSession, Platform, Session};
use cima::push::PushStore;
use cima::timekeeper::TimeStore;
use cima::tracking::{FixStore, Geofence, NewFix, Severity, TrackingStore, Trigger, ZoneStore};
use cima::trust::{LinkCreated, NewLink, Scope, Scopes, TrustStore};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use uuid::Uuid;

/// When every world begins.
pub(crate) const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

/// So many seconds into it.
pub(crate) fn after(s: u64) -> Timestamp {
    T0 + Duration::from_secs(s)
}

/// An id nobody else has.
pub(crate) fn id() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    cima::id::derived("test", &[&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()])
}

/// Polls a future so many times, each time it asks to be, and drops it. Whether it came to its end.
pub(crate) async fn by_polls(polls: usize, work: impl Future) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match work.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// One opening of a backend.
pub(crate) struct Stores {
    pub(crate) identity: Arc<dyn IdentityStore>,
    pub(crate) trust: Arc<dyn TrustStore>,
    pub(crate) tracking: Arc<dyn TrackingStore>,
    pub(crate) alerts: Arc<dyn AlertsStore>,
    pub(crate) push: Arc<dyn PushStore>,
    pub(crate) zones: Arc<dyn ZoneStore>,
    pub(crate) time: Arc<dyn TimeStore>,
    pub(crate) fixes: Arc<dyn FixStore>,
}

/// What a backend has to do for its tests.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Opens it, empty at first, with everything that was stored later.
    async fn open(&self, clock: Clock) -> Stores;
    /// Closes what was opened last.
    async fn close(&self);
    /// Waits until calls whose callers are gone have come to their end.
    async fn settle(&self);
}

/// A backend with people in it.
pub(crate) struct World {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) stores: Stores,
    pub(crate) clock: Clock,
}

impl std::ops::Deref for World {
    type Target = Stores;
    fn deref(&self) -> &Stores {
        &self.stores
    }
}

impl World {
    pub(crate) async fn over(backend: impl Backend + 'static) -> Self {
        let clock = Clock::manual(T0);
        let stores = backend.open(clock.clone()).await;
        Self { backend: Box::new(backend), stores, clock }
    }

    /// Waits until what was dropped has come to its end: with the next write, or on a server of its own accord.
    pub(crate) async fn settle(&self) {
        self.alerts.tell(&[]).await.unwrap();
        self.backend.settle().await;
    }

    /// Somebody with an account of this name.
    pub(crate) async fn person(&self, name: &str) -> UserId {
        let account = new_account(UserId(id()), name);
        let user = account.user;
        assert_eq!(self.identity.create_account(account).await.unwrap(), AccountCreated::Created);
        user
    }

    /// A device of theirs, with a session.
    pub(crate) async fn device(&self, user: UserId) -> (DeviceId, SessionId) {
        let new = new_session(user, DeviceId(id()));
        let ids = (new.session.device, new.session.id);
        assert!(self.identity.open_session(new).await.unwrap());
        ids
    }

    /// Somebody whom the subject trusts with these scopes.
    pub(crate) async fn contact(
        &self,
        subject: UserId,
        name: &str,
        scopes: &[Scope],
        duress: bool,
    ) -> UserId {
        let contact = self.person(name).await;
        let link = NewLink { duress, ..new_link(subject, contact, scopes) };
        let link_id = link.id;
        assert!(matches!(self.trust.create_link(link).await.unwrap(), LinkCreated::Created(_)));
        self.trust.accept_link(link_id, contact, T0).await.unwrap().unwrap();
        contact
    }

    /// The alerts in somebody's inbox.
    pub(crate) async fn inbox(&self, user: UserId) -> Vec<AlertId> {
        let places = self.alerts.inbox_after(user, 0, 10_000).await.unwrap();
        let cursors: Vec<i64> = places.iter().map(|p| p.cursor).collect();
        assert_eq!(cursors, (1..=cursors.len() as i64).collect::<Vec<_>>(), "an inbox has no gaps");
        assert_eq!(self.alerts.inbox_head(user).await.unwrap(), cursors.len() as i64);
        places.into_iter().map(|p| p.id).collect()
    }
}

pub(crate) fn new_account(user: UserId, name: &str) -> NewAccount {
    NewAccount {
        user,
        handle: name.to_owned(),
        handle_mark: format!("mark of {name}").into_bytes(),
        password_hash: "$argon2id$".into(),
        display_name: format!("{name} Example"),
        locale: "en".into(),
        time_zone: "UTC".into(),
        created_at: T0,
    }
}

pub(crate) fn new_session(user: UserId, device: DeviceId) -> NewSession {
    let session = Session {
        id: SessionId(id()),
        user,
        device,
        salt: vec![7; 16],
        generation: 1,
        rotated_at: T0,
        stepped_up_until: T0,
    };
    NewSession { session, device_name: "phone".into(), platform: Platform::Android, at: T0 }
}

pub(crate) fn new_link(subject: UserId, contact: UserId, scopes: &[Scope]) -> NewLink {
    let scopes: Scopes = scopes.iter().copied().collect();
    NewLink {
        id: LinkId(id()),
        subject,
        contact,
        scopes,
        tier: 1,
        duress: true,
        expires_at: None,
        created_at: T0,
    }
}

/// An alert about somebody.
pub(crate) fn alert(subject: UserId, recipients: Recipients) -> AlertDraft {
    AlertDraft {
        id: AlertId(id()),
        kind: AlertKind::Geofence,
        severity: Severity::Warning,
        subject,
        at: T0,
        template: "geofence.enter",
        params: BTreeMap::from([("geofence".to_owned(), "home".to_owned())]),
        emergency: None,
        geofence: Some(GeofenceId(id())),
        transition: Some(Trigger::Enter),
        late: true,
        lane: Lane::Routine,
        recipients,
    }
}

/// All contacts of the subject.
pub(crate) fn contacts() -> Recipients {
    Recipients::Contacts { only: None, audience: Audience::All }
}

/// An emergency just raised, active at once if there is no countdown.
pub(crate) fn raised(subject: UserId, countdown_s: u64) -> Emergency {
    let opening = Opening {
        id: EmergencyId(id()),
        subject,
        device: Some(DeviceId(id())),
        kind: EmergencyKind::Fall,
        message: Some("help".into()),
        fix: Some(fix(7, T0, 48.25, 16.5)),
        countdown: Duration::from_secs(countdown_s),
    };
    Emergency::open(opening, T0).emergency
}

pub(crate) fn fix(seq: i64, fixed_at: Timestamp, lat: f64, lon: f64) -> Fix {
    Fix {
        seq,
        point: Point::new(lat, lon).unwrap(),
        fixed_at,
        accuracy_m: Some(4.5),
        altitude_m: Some(-3.0),
        speed_mps: None,
        course_deg: Some(359.5),
        battery: None,
    }
}

/// A streamed fix whose place follows from its number.
pub(crate) fn new_fix(device: DeviceId, seq: i64, fixed_at: Timestamp) -> NewFix {
    let part = seq as f64 / 100_000.0;
    let fix = fix(seq, fixed_at, 40.0 + part, 10.0 - part);
    NewFix { device, fix, received_at: T0, streamed: true }
}

/// A circular fence.
pub(crate) fn fence(owner: UserId, name: &str) -> Geofence {
    let shape = RawShape::Circle { center: vec![16.37, 48.2], radius_m: 150.0 };
    Geofence {
        id: GeofenceId(id()),
        owner,
        name: name.to_owned(),
        shape: Arc::new(Shape::try_from(shape).unwrap()),
        triggers: vec![Trigger::Exit, Trigger::Enter],
        dwell: Duration::from_secs(300),
        cooldown: Duration::ZERO,
        severity: Severity::Critical,
        notify: None,
        created_at: T0,
        revision: 1,
    }
}
