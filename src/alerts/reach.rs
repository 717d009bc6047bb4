//! A contact who cannot be reached any more: those who count on them are told.

use super::{AlertDraft, AlertKind, Lane, Recipients};
use crate::clock::Timestamp;
use crate::id::{AlertId, UserId, derived};
use crate::tracking::Severity;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Tells the subject that a contact's last endpoint is gone. `registration` was that endpoint's, so a repeat is the
/// same alert.
pub fn contact_unreachable(
    subject: UserId,
    contact: UserId,
    contact_name: &str,
    registration: Uuid,
    at: Timestamp,
) -> AlertDraft {
    let parts = [subject.0.as_bytes().as_slice(), contact.0.as_bytes(), registration.as_bytes()];
    AlertDraft {
        id: AlertId(derived("contact unreachable", &parts)),
        kind: AlertKind::Link,
        severity: Severity::Warning,
        subject,
        at,
        template: "link.unreachable",
        params: BTreeMap::from([("contact".to_owned(), contact_name.to_owned())]),
        emergency: None,
        geofence: None,
        transition: None,
        late: false,
        lane: Lane::Routine,
        recipients: Recipients::Person(subject),
    }
}
