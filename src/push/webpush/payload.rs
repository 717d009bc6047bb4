//! What a service worker is given, once the browser has decrypted it.

use super::super::{Notification, text};
use serde_json::{Value, json};

pub(super) fn message(notification: &Notification) -> Value {
    let (title, body) = text::texts(notification.matter, &notification.locale);
    json!({
        "alert": notification.alert,
        "kind": notification.matter.word(),
        "urgency": notification.urgency.word(),
        "title": title,
        "body": body,
    })
}
