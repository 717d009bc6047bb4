//! What a change of an emergency tells, and to whom.

use super::{AlertDraft, AlertKind, Audience, Emergency, Lane, Recipients, State, Telling};
use crate::clock::Timestamp;
use crate::id::{AlertId, derived};
use crate::tracking::Severity;
use std::collections::BTreeMap;

/// The alerts of a change. Their ids follow from emergency, version and place, so a repeat is the same alert.
pub(super) fn drafts(
    e: &Emergency,
    tell: &[Telling],
    contact_name: Option<&str>,
    now: Timestamp,
) -> Vec<AlertDraft> {
    let mut out = Vec::new();
    for telling in tell {
        let draft = |template, kind, severity, recipients| AlertDraft {
            id: AlertId(derived(
                "emergency alert",
                &[e.id.0.as_bytes(), &e.version.to_be_bytes(), &[u8::try_from(out.len()).unwrap_or(u8::MAX)]],
            )),
            kind,
            severity,
            subject: e.subject,
            at: now,
            template,
            params: params(e, contact_name),
            emergency: Some(e.id),
            geofence: None,
            transition: None,
            late: false,
            lane: Lane::Emergency,
            recipients,
        };
        let to = |audience| Recipients::Contacts { only: None, audience };
        let (raising, update) = (AlertKind::Emergency, AlertKind::EmergencyUpdate);
        // Under duress, those who do not hear of it are told what the subject is told.
        let all_or_deaf = if e.apparent.is_some() { Audience::DeafToDuress } else { Audience::All };
        let still_told = if e.apparent.is_some() { Audience::HearDuress } else { Audience::All };
        let made = match telling {
            Telling::Raised => draft("emergency.raised", raising, Severity::Critical, to(Audience::All)),
            Telling::RaisedAgain => {
                draft("emergency.raised_again", raising, Severity::Critical, to(Audience::All))
            }
            Telling::UnderDuress => {
                draft("emergency.duress", raising, Severity::Critical, to(Audience::HearDuress))
            }
            Telling::Ended(state) => draft(ended(*state), update, Severity::Warning, to(all_or_deaf)),
            Telling::TrulyEnded(state) => {
                draft(ended(*state), update, Severity::Warning, to(Audience::HearDuress))
            }
            Telling::Claimed(_) => {
                draft("emergency.claimed", update, Severity::Info, Recipients::Person(e.subject))
            }
            Telling::ExpiresSoon => {
                draft("emergency.expires_soon", update, Severity::Warning, to(still_told))
            }
        };
        out.push(made);
        if matches!(telling, Telling::ExpiresSoon) && e.apparent.is_none() {
            let mut own = out[out.len() - 1].clone();
            own.id = AlertId(derived("emergency alert to the subject", &[own.id.0.as_bytes()]));
            own.recipients = Recipients::Person(e.subject);
            out.push(own);
        }
    }
    out
}

fn ended(state: State) -> &'static str {
    match state {
        State::Resolved => "emergency.resolved",
        State::Expired => "emergency.expired",
        State::Cancelled | State::Countdown | State::Active => "emergency.cancelled",
    }
}

fn params(e: &Emergency, contact_name: Option<&str>) -> BTreeMap<String, String> {
    let mut params = BTreeMap::from([("kind".to_owned(), e.kind.word().to_owned())]);
    if let Some(name) = contact_name {
        params.insert("contact".to_owned(), name.to_owned());
    }
    if let Some(message) = &e.message {
        params.insert("message".to_owned(), message.clone());
    }
    params
}
