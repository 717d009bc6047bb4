//! What people see of an emergency. The subject's tokens see only what [`subject_view`] returns, contacts only what
//! [`contact_view`] returns, so a duress end cannot leak from a forgotten place.

use super::{Emergency, EmergencyKind, State};
use crate::alerts::{Delivery, DeliveryState, Names, Party};
use crate::clock::Timestamp;
use crate::id::{AlertId, DeviceId, EmergencyId, UserId};
use serde::Serialize;
use std::time::Duration;

/// A contact who is on it.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct ClaimView {
    /// Who.
    pub contact: UserId,
    /// What they call themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Since when.
    pub at: Timestamp,
}

/// How far a raising alert has come to a contact.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct DeliveryView {
    /// To whom.
    pub contact: UserId,
    /// Which alert.
    pub alert: AlertId,
    /// How far.
    pub state: DeliveryState,
    /// Since when.
    pub at: Timestamp,
}

/// An emergency as somebody sees it.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct EmergencyView {
    /// Its id.
    pub id: EmergencyId,
    /// Who is in it.
    pub subject: UserId,
    /// What they call themselves. It is not there in the answer to a raise, which waits for no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_name: Option<String>,
    /// The device that raised it, or raised it again with a place: the one that the person has with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The name of that device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// What is the matter.
    pub kind: EmergencyKind,
    /// Where it stands.
    pub state: State,
    /// In the person's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was raised.
    pub opened_at: Timestamp,
    /// When the countdown is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub countdown_until: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Who is on it.
    pub claims: Vec<ClaimView>,
    /// The newest hundred of further raises that joined it; only the subject sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<Vec<EmergencyId>>,
    /// How far its raising alerts have come; only the subject sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<DeliveryView>>,
    /// The subject was forced to end it: it goes on. Only contacts see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duress: Option<bool>,
}

/// After an end as its person sees it, so long no time of a fix refuses its place.
const LENIENT: Duration = Duration::from_secs(24 * 3600);

impl EmergencyView {
    /// The person in it, and who is on it.
    pub(in crate::alerts) fn people(&self) -> impl Iterator<Item = UserId> {
        self.claims.iter().map(|claim| claim.contact).chain([self.subject])
    }

    /// The same with what people and devices are called.
    pub(in crate::alerts) fn named(mut self, names: &Names) -> Self {
        self.subject_name = names.people.get(&self.subject).cloned();
        self.device_name = self.device.and_then(|device| names.devices.get(&device).cloned());
        for claim in &mut self.claims {
            claim.name = names.people.get(&claim.contact).cloned();
        }
        self
    }

    /// Until when no time of a fix of its person's refuses the place: while it is open, and a day after its end.
    pub fn any_time_until(&self) -> Timestamp {
        self.ended_at.map_or(Timestamp::from_unix_ms(i64::MAX), |end| end + LENIENT)
    }
}

/// An emergency as it stood at its end (true or apparent, there is no difference here), or as it stands.
fn up_to(e: &Emergency, state: State, ended_at: Option<Timestamp>) -> EmergencyView {
    let cut = |at: Timestamp| ended_at.is_none_or(|end| at <= end);
    let claims = e.claims.iter().filter(|c| cut(c.at) && !c.dropped_at.is_some_and(cut));
    EmergencyView {
        id: e.id,
        subject: e.subject,
        subject_name: None,
        device: e.device,
        device_name: None,
        kind: e.kind,
        state,
        message: e.message.clone(),
        opened_at: e.opened_at,
        countdown_until: if state == State::Countdown { e.countdown_until } else { None },
        ended_at,
        claims: claims.map(|c| ClaimView { contact: c.contact, name: None, at: c.at }).collect(),
        joined: None,
        deliveries: None,
        duress: None,
    }
}

/// What the subject's tokens see. An ended emergency is shown as it stood at its end, and never changes again: so an
/// end under duress, after which much goes on, looks like any other.
pub fn subject_view(e: &Emergency, deliveries: Option<&[Delivery]>) -> EmergencyView {
    let (state, ended_at) = match e.apparent {
        Some(end) => (end.state, Some(end.at)),
        None => (e.state, e.ended_at),
    };
    let cut = ended_at.unwrap_or(Timestamp::from_unix_ms(i64::MAX));
    let deliveries = deliveries.map(|all| {
        let before = all.iter().filter(|d| d.queued_at < cut);
        before
            .map(|d| {
                let (state, at) = d.state_at(cut);
                DeliveryView { contact: d.recipient, alert: d.alert, state, at }
            })
            .collect()
    });
    let view = EmergencyView { joined: Some(e.joined.clone()), deliveries, ..up_to(e, state, ended_at) };
    if e.erased { bare(view) } else { view }
}

/// What is left of an emergency that had its time. One that truly goes on after an end under duress has it too.
fn bare(view: EmergencyView) -> EmergencyView {
    let deliveries = view.deliveries.map(|_| Vec::new());
    EmergencyView { message: None, claims: Vec::new(), deliveries, ..view }
}

/// What a contact sees: the truth, marked `duress` where it is; one who does not hear of duress sees what the subject
/// sees, and nothing if it was ended before contacts were told. `None` while they have not been.
pub fn contact_view(party: &Party) -> Option<EmergencyView> {
    let e = &party.emergency;
    e.active_at?;
    match e.apparent {
        Some(_) if !party.hears_duress && !e.was_told() => None,
        Some(end) if !party.hears_duress => {
            let view = up_to(e, end.state, Some(end.at));
            Some(if e.erased { bare(view) } else { view })
        }
        Some(_) => Some(EmergencyView { duress: Some(true), ..up_to(e, e.state, e.ended_at) }),
        None => Some(up_to(e, e.state, e.ended_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{T0, after, opening, user};
    use super::super::{Command, EndWith, Manner, Opening};
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    fn ended_by(manner: Manner) -> Emergency {
        let opening = Opening { subject: user(1), message: Some("help".into()), ..opening(Duration::ZERO) };
        let mut e = Emergency::open(opening, T0).emergency;
        let steps = [(Command::Claim(user(2)), 1), (Command::End(EndWith::Resolve, manner), 2)];
        let later =
            [(Command::Claim(user(3)), 3), (Command::Unclaim(user(2)), 4), (Command::Wake(None), 200_000)];
        for (command, s) in steps.into_iter().chain(later) {
            e = e.apply(command, after(s)).map_or(e, |n| n.emergency);
        }
        e
    }

    #[test]
    fn an_end_under_duress_is_a_true_end_to_the_subject() {
        let sent = |s: u64| Delivery {
            recipient: user(2),
            alert: AlertId(Uuid::from_u128(7)),
            queued_at: T0,
            sent_at: Some(after(1)),
            received_at: None,
            seen_at: Some(after(s)),
        };
        let (truly, forced) = (ended_by(Manner::True), ended_by(Manner::Duress));
        assert_ne!(truly, forced);
        assert_eq!(subject_view(&truly, Some(&[sent(9)])), subject_view(&forced, Some(&[sent(5)])));
    }

    #[test]
    fn one_that_goes_on_under_duress_is_erased_for_its_subject_as_if_it_had_ended() {
        let erased = |manner| Emergency { erased: true, ..ended_by(manner) };
        // Of one that truly ended so long ago nothing is there any more.
        let gone = Emergency { message: None, claims: vec![], ..erased(Manner::True) };
        let forced = erased(Manner::Duress);
        assert_eq!(subject_view(&gone, Some(&[])), subject_view(&forced, Some(&[])));
        let excluded = Party { emergency: forced.clone(), hears_duress: false };
        let untold = Party { emergency: gone, hears_duress: false };
        assert_eq!(contact_view(&excluded), contact_view(&untold));
        let told = contact_view(&Party { emergency: forced, hears_duress: true }).unwrap();
        assert!(told.message.is_some() && !told.claims.is_empty(), "who hears of duress sees it go on");
    }

    #[test]
    fn contacts_see_the_truth_unless_they_do_not_hear_of_duress() {
        let party = |hears_duress| Party { emergency: ended_by(Manner::Duress), hears_duress };
        let told = contact_view(&party(true)).unwrap();
        assert_eq!((told.duress, told.claims[0].contact), (Some(true), user(3)));
        let untold = contact_view(&party(false)).unwrap();
        assert_eq!((untold.duress, untold.state), (None, State::Resolved));
        assert!(untold.deliveries.is_none() && untold.joined.is_none());
    }
}
