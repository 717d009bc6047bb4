//! A person's inbox: read by cursor, acked, and marked as sent.

use super::{AlertError, AlertView, Alerts, DeliveryState};
use crate::bus::Event;
use crate::error::Stored;
use crate::id::{AlertId, UserId};

impl Alerts {
    /// The newest cursor of an inbox.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn inbox_head(&self, user: UserId) -> Stored<i64> {
        self.store.inbox_head(user).await
    }

    /// The inbox after a cursor.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn inbox_after(&self, user: UserId, cursor: i64, limit: u32) -> Stored<Vec<AlertView>> {
        Ok(self.store.inbox_after(user, cursor, limit).await?.into_iter().map(AlertView::from).collect())
    }

    /// A person's app has an alert, or they looked at it.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] if it is not in their inbox.
    pub async fn ack(&self, user: UserId, alert: AlertId, state: DeliveryState) -> Result<(), AlertError> {
        let at = self.clock.now();
        if !self.store.ack(user, alert, state, at).await? {
            return Err(AlertError::NotFound("alert"));
        }
        if state == DeliveryState::Seen {
            self.bus.publish(Event::Seen { user, alert, at });
        }
        Ok(())
    }

    /// A socket took a part of an inbox.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn sent(&self, user: UserId, from: i64, to: i64) -> Stored<()> {
        self.store.sent(user, from, to, self.clock.now()).await
    }
}
