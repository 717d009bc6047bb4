//! Fences, what devices are in, who owns a device, public zones, retention.

pub(super) mod zones;

/// Who owns a device in the one process that has the store.
#[derive(Default)]
pub(super) struct Owners {}
