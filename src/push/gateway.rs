//! The gateway: a worker for each channel and urgency, and what wakes them.

use super::worker::{UNIT, Worker};
use super::{Channel, Provider, Providers, PushStore, Queue, Urgency, keeper};
use crate::bus::{Bus, Event};
use crate::clock::Clock;
use crate::error::Stored;
use crate::runtime::{Pace, SetAside, Tasks, until};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Between looks at tokens that are soon to end.
const WARM: Duration = Duration::from_secs(60);
/// Between two looks at how old the oldest delivery of an emergency is.
const OLDEST: Duration = Duration::from_secs(5);

/// The push workers of a node.
pub struct Gateway;

impl Gateway {
    /// Starts the workers of all channels that are on. What an earlier process had claimed is due at once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(
        store: Arc<dyn PushStore>,
        providers: &Providers,
        bus: &Bus,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Stored<()> {
        let left = store.recover_pushes(clock.now()).await?;
        if left > 0 {
            tracing::info!(left, "pushes that were on their way at the stop are sent again");
        }
        start_showing_the_oldest(Arc::clone(&store), clock.clone(), tasks);
        // Counted from the start on, also where no channel is on.
        SetAside::of(UNIT);
        let mut wakers = Vec::new();
        for channel in Channel::ALL {
            for urgency in Urgency::ALL {
                let Some(provider) = providers.get(channel, urgency) else { continue };
                let wake = Arc::new(Notify::new());
                wakers.push(Arc::clone(&wake));
                start_warming(Arc::clone(provider), clock, tasks);
                let queue = Queue { channel, urgency };
                let worker = Worker::new(
                    queue,
                    Arc::clone(&store),
                    Arc::clone(provider),
                    wake,
                    bus.clone(),
                    clock.clone(),
                    tasks,
                );
                worker.start_task();
            }
        }
        start_waking(wakers, bus, tasks);
        keeper::start(store, bus.clone(), clock.clone(), tasks);
        Ok(())
    }
}

/// Wakes every worker when an inbox got something: an alert's deliveries are stored with it.
fn start_waking(wakers: Vec<Arc<Notify>>, bus: &Bus, tasks: &Tasks) {
    let (wakers, bus, stop) = (Arc::<[Arc<Notify>]>::from(wakers), bus.clone(), tasks.stop());
    tasks.keep("push_waking", move || {
        let (wakers, stop, mut events) = (Arc::clone(&wakers), stop.clone(), bus.subscribe());
        async move {
            until(&stop, wake(&wakers, &mut events)).await;
        }
    });
}

async fn wake(wakers: &[Arc<Notify>], events: &mut Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Inbox(_) | Event::Resync) | Err(RecvError::Lagged(_)) => {
                wakers.iter().for_each(|b| b.notify_one());
            }
            Ok(_) => {}
            Err(RecvError::Closed) => break,
        }
    }
}

fn start_warming(provider: Arc<dyn Provider>, clock: &Clock, tasks: &Tasks) {
    tasks.every("push_tokens", Pace::of(WARM).by(clock).cut_short(), move || {
        let provider = Arc::clone(&provider);
        async move { provider.warm().await }
    });
}

/// Shows how old the oldest delivery of an emergency is that waits, as the store has it: also one that no worker knows of.
fn start_showing_the_oldest(store: Arc<dyn PushStore>, clock: Clock, tasks: &Tasks) {
    tasks.every("oldest_emergency_delivery", Pace::of(OLDEST), move || {
        let (store, clock) = (Arc::clone(&store), clock.clone());
        async move {
            match store.oldest_emergency_push().await {
                Ok(oldest) => {
                    let age = oldest.map_or(Duration::ZERO, |queued_at| clock.now().since(queued_at));
                    metrics::gauge!("cima_oldest_emergency_delivery_seconds").set(age.as_secs_f64());
                }
                Err(error) => {
                    tracing::debug!(%error, "the oldest delivery of an emergency could not be read")
                }
            }
        }
    });
}
