//! A message of FCM HTTP v1.

use super::super::{Notification, Urgency, text};
use crate::clock::Timestamp;
use serde_json::{Value, json};

/// The body of `messages:send`. The `apns` part is for iPhones that are reached through FCM.
pub(super) fn message(notification: &Notification, token: &str, now: Timestamp) -> Value {
    let (title, body) = text::texts(notification.matter, &notification.locale);
    let id = notification.alert.to_string();
    let (android, apns, level) = match notification.urgency {
        Urgency::Emergency => ("high", "10", "time-sensitive"),
        Urgency::Routine => ("normal", "5", "active"),
    };
    json!({"message": {
        "token": token,
        "notification": {"title": title, "body": body},
        "data": {"alert": id, "kind": notification.matter.word()},
        "android": {
            "priority": android,
            "ttl": format!("{}s", notification.ttl_s(now)),
            "collapse_key": id,
            "notification": {"tag": id, "channel_id": notification.urgency.word()},
        },
        "apns": {
            "headers": {
                "apns-priority": apns,
                "apns-expiration": notification.until.unix_s().to_string(),
                "apns-collapse-id": id,
            },
            "payload": {"aps": {"interruption-level": level, "sound": "default", "mutable-content": 1}},
        },
    }})
}
