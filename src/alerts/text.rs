//! The texts of alerts: a template's name and its parameters become a title and a body.

use crate::typed::contained;
use std::collections::BTreeMap;

/// (template, title, body); `{name}` is the subject's name, the others come from the alert's parameters.
const TEXTS: &[(&str, &str, &str)] = &[
    ("geofence.enter", "{name} entered {geofence}", "{name} is now in {geofence}."),
    ("geofence.exit", "{name} left {geofence}", "{name} is no longer in {geofence}."),
    ("geofence.dwell", "{name} is staying in {geofence}", "{name} has been in {geofence} for a while."),
    (
        "geofence.cross",
        "{name} passed through {geofence}",
        "{name} went through {geofence} without stopping.",
    ),
    ("zone.enter", "You are in {zone}", "You have entered {zone}."),
    (
        "emergency.raised",
        "{name} needs help",
        "{name} raised an emergency ({kind}). Open it to see where they are.",
    ),
    (
        "emergency.check_in_missed",
        "{name} missed a check-in",
        "{name} did not check in as agreed. Open it to see where they are.",
    ),
    ("emergency.raised_again", "{name} asks for help again", "{name} raised the emergency again."),
    (
        "emergency.duress",
        "{name} may be under duress",
        "The emergency of {name} was ended under duress. It goes on. Do not call or write to {name}.",
    ),
    ("emergency.resolved", "{name} is safe", "{name} ended the emergency."),
    ("emergency.cancelled", "False alarm", "{name} cancelled the emergency."),
    ("emergency.expired", "The emergency of {name} expired", "There was no sign of it for a day."),
    (
        "emergency.expires_soon",
        "The emergency of {name} ends in 30 minutes",
        "There was no sign of it for a day.",
    ),
    ("emergency.claimed", "Somebody is on it", "{contact} is taking care of your emergency."),
    (
        "emergency.account_deleted",
        "An emergency ended",
        "Somebody who trusted you deleted their account; their emergency has ended.",
    ),
    ("check_in.due", "Are you safe?", "Your check-in is due. Complete it, or your contacts are told."),
    (
        "link.asked",
        "{name} asks for your trust",
        "{name} wants you as a contact. Accept it if you know them.",
    ),
    ("link.announced", "A trust link was asked", "Your account asked {contact} to be a contact of yours."),
    ("link.accepted", "{contact} accepted", "{contact} is now a contact of yours."),
    (
        "link.changed",
        "A trust link was changed",
        "What {contact} may know of you was changed from your account.",
    ),
    (
        "device.followed",
        "{device_name} shows where you are",
        "Your other device was silent, so {device_name} shows where you are now. Choose another one if it is not with you.",
    ),
    (
        "device.which",
        "Which phone is with you?",
        "{device_name} is on its way and another device shows where you are. Choose the one that you have with you.",
    ),
    (
        "link.unreachable",
        "{contact} cannot be reached",
        "No device of {contact} takes notifications any more. Ask them to open the app.",
    ),
];

/// The title and body of an alert. An unknown template is still told.
pub(super) fn render(template: &str, name: &str, params: &BTreeMap<String, String>) -> (String, String) {
    let (_, title, body) = TEXTS.iter().find(|(t, _, _)| *t == template).unwrap_or(&(
        "",
        "News of {name}",
        "Open it to see more.",
    ));
    (fill(title, name, params), fill(body, name, params))
}

/// One pass over the text: what a parameter contains is never filled again.
fn fill(text: &str, name: &str, params: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (key, tail) = after.split_once('}').unwrap_or((after, ""));
        let value = if key == "name" { name } else { params.get(key).map_or("", String::as_str) };
        out.push_str(&contained(value));
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_filled_once() {
        let params = BTreeMap::from([("geofence".to_owned(), "{name}'s".to_owned())]);
        assert_eq!(render("geofence.enter", "Ada", &params).0, "Ada entered {name}'s");
        assert_eq!(render("emergency.raised", "Ada\u{2067}", &params).0, "Ada needs help");
        assert_eq!(render("of the future", "Ada", &params).0, "News of Ada");
    }
}
