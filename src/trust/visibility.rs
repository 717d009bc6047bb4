//! Who sees whose position: a pure rule over (link, scopes, emergency, time).

use super::{Scope, TrustLink};
use crate::clock::Timestamp;
use crate::id::{DeviceId, EmergencyId, UserId};
use std::time::Duration;

/// How long a decision may be used before it is made again.
pub const LEASE: Duration = Duration::from_secs(60);

/// Why a position may be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// It is the viewer's own.
    Own,
    /// The link allows it always.
    LiveLocation,
    /// An emergency is active.
    Emergency(EmergencyId),
}

impl Basis {
    /// The word frames and answers carry.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::LiveLocation => "live_location",
            Self::Emergency(_) => "emergency",
        }
    }
}

/// What visibility needs to know of an emergency. Only active ones are ever given to it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmergencyFacts {
    /// Which.
    pub id: EmergencyId,
    /// Whose.
    pub subject: UserId,
    /// The oldest fix of the trail that it opens to contacts.
    pub trail_from: Timestamp,
    /// The device that raised it: the one that the person has with them. None for a missed check-in.
    pub raised_on: Option<DeviceId>,
    /// Since when it seems to be over to the subject's tokens, if it was ended under duress.
    pub seems_over_since: Option<Timestamp>,
}

/// A live proof that `viewer` may see `subject`'s position. Its fields are private and [`visibility`] is its only
/// builder, so a handler that forgets the check does not compile.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grant {
    viewer: UserId,
    subject: UserId,
    basis: Basis,
    from: Option<Timestamp>,
    until: Timestamp,
    raised_on: Option<DeviceId>,
    covert: bool,
}

impl Grant {
    /// Who may see.
    pub fn viewer(&self) -> UserId {
        self.viewer
    }
    /// Whose position.
    pub fn subject(&self) -> UserId {
        self.subject
    }
    /// Why.
    pub fn basis(&self) -> Basis {
        self.basis
    }
    /// The oldest fix of the trail it covers; `None` covers all that is kept. The newest fix is covered at any age.
    pub fn trail_from(&self) -> Option<Timestamp> {
        self.from
    }
    /// In an emergency the device that raised it, which is shown before every other.
    pub fn raised_on(&self) -> Option<DeviceId> {
        self.raised_on
    }
    /// Whether it still holds at `now`; the holder also keeps it no longer than [`LEASE`] on a monotonic clock.
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until
    }
    /// Whether the subject's own tokens must not learn of it.
    pub fn is_covert(&self) -> bool {
        self.covert
    }
}

/// Decides whether `viewer` sees `subject`'s position at `now`.
///
/// `link` is the one granted by `subject` to `viewer`; `emergencies` are the subject's active ones. `None` is the one
/// answer for every reason: no link, not accepted, expired, no scope, no emergency.
pub fn visibility(
    viewer: UserId,
    subject: UserId,
    link: Option<&TrustLink>,
    emergencies: &[EmergencyFacts],
    now: Timestamp,
) -> Option<Grant> {
    let until = now + LEASE;
    if viewer == subject {
        let (basis, raised_on) = (Basis::Own, None);
        return Some(Grant { viewer, subject, basis, from: None, until, raised_on, covert: false });
    }
    let link = link.filter(|l| l.subject == subject && l.contact == viewer && l.in_force(now))?;
    let until = link.expires_at.map_or(until, |end| end.min(until));
    let always = link.scopes.has(Scope::LiveLocation);
    let mine = emergencies.iter().filter(|e| {
        e.subject == subject && e.seems_over_since.is_none_or(|end| link.hears_what_goes_on_since(end))
    });
    // One that the subject knows of comes first: what it shows is listed to them.
    let emergency = mine
        .min_by_key(|e| (e.seems_over_since.is_some(), e.trail_from))
        .filter(|_| link.scopes.has(Scope::EmergencyLocation));
    let trail = emergency.map(|e| e.trail_from);
    let (basis, from, covert) = match emergency {
        // To the subject's tokens a duress end is an end, so what a link shows always is shown as always.
        Some(e) if !(e.seems_over_since.is_some() && always) => {
            (Basis::Emergency(e.id), trail?, e.seems_over_since.is_some())
        }
        _ if always => {
            (Basis::LiveLocation, trail.map_or(link.scopes_since, |t| t.min(link.scopes_since)), false)
        }
        _ => return None,
    };
    let raised_on = emergency.filter(|_| matches!(basis, Basis::Emergency(_))).and_then(|e| e.raised_on);
    Some(Grant { viewer, subject, basis, from: Some(from), until, raised_on, covert })
}

/// Decides whether `viewer` may read the names of the fences `subject` is in.
pub fn may_see_fences_inside(
    viewer: UserId,
    subject: UserId,
    link: Option<&TrustLink>,
    now: Timestamp,
) -> bool {
    viewer == subject
        || link.is_some_and(|l| l.subject == subject && l.contact == viewer && l.allows(Scope::Zones, now))
}
