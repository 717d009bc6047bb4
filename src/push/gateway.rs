//! The gateway: a worker for each channel and urgency, and the bell that wakes them.

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
        // Counted from the start on, also where no channel is on.
        SetAside::of(UNIT);
        let mut bells = Vec::new();
        for channel in Channel::ALL {
            for urgency in Urgency::ALL {
                let Some(provider) = providers.get(channel, urgency) else { continue };
                let bell = Arc::new(Notify::new());
                bells.push(Arc::clone(&bell));
                start_warming(Arc::clone(provider), clock, tasks);
                let queue = Queue { channel, urgency };
                let worker = Worker::new(
                    queue,
                    Arc::clone(&store),
                    Arc::clone(provider),
                    bell,
                    bus.clone(),
                    clock.clone(),
                    tasks,
                );
                worker.start_task();
            }
        }
        start_bell(bells, bus, tasks);
        keeper::start(store, bus.clone(), clock.clone(), tasks);
        Ok(())
    }
}

/// Wakes every worker when an inbox got something: an alert's deliveries are stored with it.
fn start_bell(bells: Vec<Arc<Notify>>, bus: &Bus, tasks: &Tasks) {
    let (bells, bus, stop) = (Arc::<[Arc<Notify>]>::from(bells), bus.clone(), tasks.stop());
    tasks.keep("push_bell", move || {
        let (bells, stop, mut events) = (Arc::clone(&bells), stop.clone(), bus.subscribe());
        async move {
            until(&stop, wake(&bells, &mut events)).await;
        }
    });
}

async fn wake(bells: &[Arc<Notify>], events: &mut Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Inbox(_) | Event::Resync) | Err(RecvError::Lagged(_)) => {
                bells.iter().for_each(|b| b.notify_one());
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
