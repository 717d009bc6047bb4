//! The alerts that an emergency's notices become, and to whom they go.

use super::{Emergency, EmergencyKind, Notice, State};
use crate::alerts::{AlertDraft, AlertKind, Audience, CheckIn, Lane, Recipients};
use crate::clock::Timestamp;
use crate::id::{AlertId, derived};
use crate::tracking::Severity;
use std::collections::BTreeMap;

const RAISED_AGAIN: &str = "emergency.raised_again";
const CHECK_IN_MISSED: &str = "emergency.check_in_missed";

/// The alerts of a change. Their ids follow from emergency, version and place, so a repeat is the same alert.
pub(in crate::alerts) fn drafts(
    e: &Emergency,
    notices: &[Notice],
    contact_name: Option<&str>,
    now: Timestamp,
) -> Vec<AlertDraft> {
    let mut out = Vec::new();
    for notice in notices {
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
        let made = match notice {
            Notice::Raised => draft(raised(e.kind), raising, Severity::Critical, to(still_told)),
            Notice::RaisedAgain => draft(RAISED_AGAIN, raising, Severity::Critical, to(Audience::All)),
            Notice::UnderDuress => {
                draft("emergency.duress", raising, Severity::Critical, to(Audience::HearDuress))
            }
            Notice::Ended(state) => draft(ended(*state), update, Severity::Warning, to(all_or_deaf)),
            Notice::TrulyEnded(state) => {
                draft(ended(*state), update, Severity::Warning, to(Audience::HearDuress))
            }
            Notice::Claimed(_) => {
                draft("emergency.claimed", update, Severity::Info, Recipients::Person(e.subject))
            }
            Notice::ExpiresSoon => draft("emergency.expires_soon", update, Severity::Warning, to(still_told)),
        };
        out.push(made);
        if matches!(notice, Notice::ExpiresSoon) && e.apparent.is_none() {
            let mut own = out[out.len() - 1].clone();
            own.id = AlertId(derived("emergency alert to the subject", &[own.id.0.as_bytes()]));
            own.recipients = Recipients::Person(e.subject);
            out.push(own);
        }
    }
    out
}

/// A check-in joins an emergency in its own words: nobody asked for help again.
pub(in crate::alerts) fn word_as_missed(told: &mut [AlertDraft], check_in: &CheckIn) {
    for draft in told.iter_mut().filter(|draft| draft.template == RAISED_AGAIN) {
        draft.template = CHECK_IN_MISSED;
        if let Some(note) = &check_in.note {
            draft.params.insert("message".to_owned(), note.clone());
        }
    }
}

fn raised(kind: EmergencyKind) -> &'static str {
    match kind {
        EmergencyKind::CheckIn => CHECK_IN_MISSED,
        EmergencyKind::Sos | EmergencyKind::Silent | EmergencyKind::Fall | EmergencyKind::Other => {
            "emergency.raised"
        }
    }
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
