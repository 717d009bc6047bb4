//! The gateway: a worker for each channel and urgency, and what wakes them.

use super::worker::Worker;
use super::{Channel, Provider, Providers, PushStore, Queue, Urgency, keeper};
use crate::bus::{Bus, Event};
use crate::clock::Clock;
use crate::error::Stored;
use crate::runtime::Tasks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// Between looks at tokens that are soon to end.
const WARM: Duration = Duration::from_secs(60);

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
                tasks.spawn("push_worker", worker.run());
            }
        }
        start_waking(wakers, bus, tasks);
        keeper::start(store, bus.clone(), clock.clone(), tasks);
        Ok(())
    }
}

/// Wakes every worker when an inbox got something: an alert's deliveries are stored with it.
fn start_waking(wakers: Vec<Arc<Notify>>, bus: &Bus, tasks: &Tasks) {
    let (mut events, stop) = (bus.subscribe(), tasks.stop());
    tasks.spawn("push_waking", async move {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => event,
            };
            match event {
                Ok(Event::Inbox(_) | Event::Resync) | Err(RecvError::Lagged(_)) => {
                    wakers.iter().for_each(|w| w.notify_one());
                }
                Ok(_) => {}
                Err(RecvError::Closed) => break,
            }
        }
    });
}

fn start_warming(provider: Arc<dyn Provider>, clock: &Clock, tasks: &Tasks) {
    let (clock, stop) = (clock.clone(), tasks.stop());
    tasks.spawn("push_tokens", async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = async {
                    provider.warm().await;
                    clock.sleep(WARM).await;
                } => {}
            }
        }
    });
}
