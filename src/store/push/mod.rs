//! Endpoints, and what is handed to their providers.

use super::database::Tx;
use crate::alerts::AlertDraft;
use crate::clock::Timestamp;
use crate::error::Stored;

/// One delivery for each endpoint of each recipient of an alert that is being stored.
pub(super) async fn queue(_tx: &mut Tx<'_>, _draft: &AlertDraft, _now: Timestamp) -> Stored<()> {
    Ok(())
}
