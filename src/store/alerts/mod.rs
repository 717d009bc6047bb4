//! Emergencies, alerts, inboxes, check-ins.
