//! What has had its time: deliveries past their deadline are given up, platform tokens that nobody refreshed are
//! removed.

use super::PushStore;
use super::endpoint::EXPIRED;
use crate::bus::{Bus, Event};
use crate::clock::Clock;
use crate::runtime::{Pace, Tasks};
use std::sync::Arc;
use std::time::Duration;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(60);

pub(super) fn start(store: Arc<dyn PushStore>, bus: Bus, clock: Clock, tasks: &Tasks) {
    tasks.every("push_keeper", Pace::of(SWEEP).by(&clock), move || {
        let (store, bus, now) = (Arc::clone(&store), bus.clone(), clock.now());
        async move {
            match store.sweep_pushes(now, now - EXPIRED).await {
                Ok(told) if told.is_empty() => {}
                Ok(told) => bus.publish(Event::Inbox(told.into())),
                Err(error) => tracing::warn!(%error, "old pushes could not be swept; it is tried again"),
            }
        }
    });
}
