//! The node behind a session: what it would answer.

use crate::alerts::{
    Accepted, AlertContent, AlertError, AlertKind, AlertView, Emergency, EmergencyKind, EmergencyView, Names,
    Opening, subject_view,
};
use crate::bus::Sealed;
use crate::clock::Timestamp;
use crate::error::{Fault, StoreError, Stored};
use crate::geo::{Fix, Point};
use crate::id::{AlertId, DeviceId, EmergencyId, LinkId, UserId};
use crate::identity::Caller;
use crate::problem::Problem;
use crate::stream::session::{Answer, Ask, Urgent, UrgentAnswer, WayIn};
use crate::tracking::{Severity, StoredFix};
use crate::trust::{EmergencyFacts, Grant, LinkState, Scopes, TrustLink, visibility};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

pub(super) const ADA: UserId = UserId(Uuid::from_u128(0xada));
pub(super) const BO: UserId = UserId(Uuid::from_u128(0xb0));
pub(super) const CY: UserId = UserId(Uuid::from_u128(0xc1));
pub(super) const SOS: EmergencyId = EmergencyId(Uuid::from_u128(0x505));
pub(super) const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);
const LIVE: u8 = 4;
const IN_EMERGENCY: u8 = 2;

/// What the node would answer.
#[derive(Default)]
pub(super) struct Node {
    pub(super) last_seq: i64,
    /// Cursors from 1 on; whether each is of an emergency.
    pub(super) inbox: Vec<bool>,
    pub(super) open: Vec<EmergencyId>,
    /// Who may be seen: the scopes of their link, and when it ends.
    pub(super) links: BTreeMap<UserId, (u8, Option<Timestamp>)>,
    /// Who is in an emergency, and in which.
    pub(super) emergencies: BTreeMap<UserId, EmergencyId>,
    pub(super) newest: BTreeMap<UserId, i64>,
    pub(super) tokens: BTreeMap<String, Caller>,
    /// No store answers.
    pub(super) fails: bool,
    /// How long the store takes to answer.
    pub(super) takes: Duration,
    /// Disclosures cannot be recorded.
    pub(super) no_ledger: bool,
    /// The node takes no more fixes.
    pub(super) stopping: bool,
    /// Fixes of each frame that was handed over.
    pub(super) handed_over: Vec<(u64, Vec<i64>)>,
}

impl Node {
    fn stored<T>(&self, value: T) -> Stored<T> {
        if self.fails { Err(StoreError::new(Fault::Gone, "a test")) } else { Ok(value) }
    }

    fn found<T>(&self, value: T) -> Result<T, AlertError> {
        Ok(self.stored(value)?)
    }

    fn allowed<T>(&self, value: T) -> Result<T, Problem> {
        Ok(self.stored(value)?)
    }

    /// What the node answers.
    pub(super) fn answer(&mut self, ask: Ask, now: Timestamp) -> Answer {
        match ask {
            Ask::Welcome { reads } => {
                let head = self.inbox.len() as i64;
                let head = reads.then(|| self.stored(head));
                Answer::Welcome { last_seq: self.stored(self.last_seq), head }
            }
            Ask::OpenEmergencies => {
                let open = self.open.iter().map(|id| emergency_view(*id)).collect();
                Answer::OpenEmergencies(self.found(open))
            }
            Ask::Emergency(id) if self.open.contains(&id) => {
                Answer::Emergency(self.found(Box::new(emergency_view(id))))
            }
            Ask::Emergency(_) => Answer::Emergency(Err(AlertError::NotFound("emergency"))),
            Ask::Inbox { after } => {
                let numbered = self.inbox.iter().zip(1_i64..).filter(|(_, cursor)| *cursor > after);
                let page = numbered.take(100).map(|(of_emergency, cursor)| alert(cursor, *of_emergency));
                Answer::Inbox(self.stored(page.collect()))
            }
            Ask::Place => Answer::Place(self.stored(self.inbox.len() as i64)),
            Ask::Head { resume } => Answer::Head { resume, head: self.allowed(self.inbox.len() as i64) },
            Ask::Ack(..) => Answer::Acked(self.allowed(())),
            Ask::Claim(id) => {
                Answer::Claimed { about: id, outcome: self.allowed(Box::new(emergency_view(id))) }
            }
            Ask::Authenticate(token) => {
                let known = self.tokens.get(&token).copied();
                Answer::Authenticated(known.ok_or_else(|| Problem::invalid("token", "not valid")))
            }
            Ask::Move(_) => Answer::Moved,
            Ask::OpenWayIn(given) => {
                let way_in = WayIn { retention: Duration::from_secs(86_400), any_time_until: None };
                Answer::WayIn { given, way_in: self.allowed(way_in) }
            }
            Ask::Visibility { subject, why, .. } => {
                Answer::Visibility { subject, why, grant: self.stored(self.grant(subject, now)) }
            }
            Ask::Names(subject) => {
                let people = [(subject, "Bo".to_owned())].into();
                let devices = [(stored_fix(1, now).device, "Bo's phone".to_owned())].into();
                Answer::Names(subject, Box::new(Names { people, devices }))
            }
            Ask::Newest { grant, why } => {
                let newest = self.newest.get(&grant.subject());
                let newest = newest.map(|seq| Box::new(stored_fix(*seq, now)));
                Answer::Newest { grant, why, newest: self.found(newest) }
            }
            Ask::Disclose { grant, newest } => {
                let failed = Err(StoreError::new(Fault::Gone, "a test"));
                Answer::Disclosed { grant, newest, recorded: if self.no_ledger { failed } else { Ok(()) } }
            }
        }
    }

    /// Takes a frame of fixes, unless the node is stopping.
    pub(super) fn ingest(&mut self, frame: u64, fixes: &[Fix]) -> bool {
        self.handed_over.push((frame, fixes.iter().map(|f| f.seq).collect()));
        !self.stopping
    }

    /// What becomes of a raise or an end.
    pub(super) fn carry_out(&self, urgent: &Urgent) -> UrgentAnswer {
        let about = urgent.about();
        UrgentAnswer { about, outcome: self.allowed(Box::new(accepted(about.unwrap_or(SOS)))) }
    }

    fn grant(&self, subject: UserId, now: Timestamp) -> Option<Grant> {
        let link = self.links.get(&subject).map(|(scopes, expires_at)| TrustLink {
            id: LinkId(Uuid::from_u128(7)),
            subject,
            contact: ADA,
            subject_name: "Bo".to_owned(),
            contact_name: "Ada".to_owned(),
            scopes: Scopes::from_bits(*scopes),
            tier: 1,
            hears_duress: true,
            state: LinkState::Active,
            created_at: NOW,
            accepted_at: Some(NOW),
            scopes_since: NOW,
            expires_at: *expires_at,
        });
        let facts = self.emergencies.get(&subject).map(|id| EmergencyFacts {
            id: *id,
            subject,
            trail_from: NOW,
            raised_on: None,
            seems_over_since: None,
        });
        visibility(ADA, subject, link.as_ref(), facts.as_slice(), now)
    }

    /// They may always be seen.
    pub(super) fn trust_live(&mut self, subject: UserId) {
        self.links.insert(subject, (LIVE, None));
    }
    /// They may always be seen until then.
    pub(super) fn trust_live_until(&mut self, subject: UserId, end: Timestamp) {
        self.links.insert(subject, (LIVE, Some(end)));
    }
    /// They may be seen always, and in an emergency for that.
    pub(super) fn trust_both(&mut self, subject: UserId) {
        self.links.insert(subject, (LIVE | IN_EMERGENCY, None));
    }
    /// They may be seen in an emergency.
    pub(super) fn trust_in_emergency(&mut self, subject: UserId) {
        self.links.insert(subject, (IN_EMERGENCY, None));
    }
}

fn fix(seq: i64, fixed_at: Timestamp) -> Fix {
    let point = Point::new(48.2, 16.4).unwrap();
    let (accuracy_m, altitude_m, speed_mps, course_deg, battery) = (None, None, None, None, None);
    Fix { seq, point, fixed_at, accuracy_m, altitude_m, speed_mps, course_deg, battery }
}

/// Event order follows the numbers.
fn stored_fix(seq: i64, received_at: Timestamp) -> StoredFix {
    let fixed_at = NOW + Duration::from_secs(seq.unsigned_abs());
    StoredFix { device: DeviceId(Uuid::from_u128(0xf1)), fix: fix(seq, fixed_at), received_at }
}

/// A position on its way over the bus.
pub(super) fn sealed(subject: UserId, seq: i64) -> Sealed {
    let StoredFix { device, fix, received_at } = stored_fix(seq, NOW);
    let inside = json!({
        "v": 1, "user": subject, "tracked": true, "device": device, "fix": fix, "received_at": received_at,
    });
    Sealed::new(inside.to_string().into_bytes())
}

/// A frame of fixes with these numbers.
pub(super) fn fixes(seqs: &[i64], at: Timestamp) -> Value {
    let fixes: Vec<Value> = seqs.iter().map(|seq| json!(fix(*seq, at))).collect();
    json!({"type": "fixes", "fixes": fixes})
}

fn emergency(id: EmergencyId) -> Emergency {
    let opening = Opening {
        id,
        subject: ADA,
        device: None,
        kind: EmergencyKind::Sos,
        message: None,
        fix: None,
        countdown: Duration::ZERO,
    };
    Emergency::open(opening, NOW).emergency
}

fn emergency_view(id: EmergencyId) -> EmergencyView {
    subject_view(&emergency(id), Some(&[]))
}

fn accepted(id: EmergencyId) -> Accepted {
    let (opened, copies, copies_max, tells, notes) = (true, 1, 1, Some(1), Vec::new());
    Accepted { id, emergency: emergency(id), opened, copies, copies_max, tells, notes }
}

fn alert(cursor: i64, of_emergency: bool) -> AlertView {
    let content = of_emergency.then(|| AlertContent {
        kind: AlertKind::Emergency,
        severity: Severity::Critical,
        subject: BO,
        subject_name: "Bo".to_owned(),
        at: NOW,
        title: "Bo needs help".to_owned(),
        body: "Bo needs help.".to_owned(),
        template: "emergency".to_owned(),
        params: BTreeMap::new(),
        emergency: Some(SOS),
        geofence: None,
        transition: None,
        late: None,
        seen_at: None,
    });
    let id = AlertId(Uuid::from_u128(cursor.unsigned_abs().into()));
    AlertView { id, cursor: Some(cursor), gone: content.is_none(), content }
}
