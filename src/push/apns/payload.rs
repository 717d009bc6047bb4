//! The body of a notification to APNs.

use super::super::{Notification, Urgency, text};
use serde_json::{Value, json};

/// `critical` sounds on a muted phone and needs Apple's entitlement; without it an emergency is time-sensitive.
pub(super) fn aps(notification: &Notification, critical: bool) -> Value {
    let (title, body) = text::texts(notification.matter, &notification.locale);
    let (level, sound) = match notification.urgency {
        Urgency::Emergency if critical => {
            ("critical", json!({"critical": 1, "name": "default", "volume": 1.0}))
        }
        Urgency::Emergency => ("time-sensitive", json!("default")),
        Urgency::Routine => ("active", json!("default")),
    };
    json!({
        "aps": {
            "alert": {"title": title, "body": body},
            "sound": sound,
            "interruption-level": level,
            // The app's extension may fetch the alert and write its own text.
            "mutable-content": 1,
        },
        "alert": notification.alert,
        "kind": notification.matter.word(),
    })
}
