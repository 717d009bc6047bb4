//! Emergencies, alerts, inboxes, check-ins.

pub(super) mod inbox;
