//! A newest position, sealed: it opens for the holder of a grant.

use super::StoredFix;
use crate::id::UserId;
use crate::trust::{Basis, Grant};

/// The newest fix of a device, on its way to whoever may see it.
#[derive(Clone)]
pub struct Position {
    pub(super) user: UserId,
    pub(super) tracked: bool,
    pub(super) stored: StoredFix,
}

impl Position {
    /// Whose.
    pub fn user(&self) -> UserId {
        self.user
    }
    /// The fix, for the holder of a grant: a live one covers the tracked device, an emergency's any device.
    pub fn reveal(&self, grant: &Grant) -> Option<&StoredFix> {
        let covered = self.tracked || !matches!(grant.basis(), Basis::LiveLocation);
        (grant.subject() == self.user && covered).then_some(&self.stored)
    }
}
