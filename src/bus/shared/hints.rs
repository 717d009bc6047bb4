//! Hints between nodes: one channel, one pair of connections.

use super::Shared;
use super::connect::{ANSWER, Pair, failure, keep, pair, within};
use crate::bus::Event;
use crate::bus::envelope::Message;
use crate::bus::interest::ANNOUNCED_EVERY;
use crate::runtime::{Pace, repeat};
use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::{MultiplexedConnection, PubSubStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The channel that every node subscribes to. Here and in the label of the metrics a hint is called a bell: nodes of
/// other versions listen on that name, and dashboards ask for it.
const CHANNEL: &str = "cima:bell";
/// What metrics and logs call this link.
const LINK: &str = "bell";
/// Messages in one round trip.
const BATCH: usize = 256;

/// Sends and receives until the node stops.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    keep(LINK, &stop, || async {
        let sending = AtomicBool::new(false);
        let ended = once(&shared, &sending).await;
        shared.heartbeat.lost();
        // Nobody knows whether what was on its way has arrived.
        if sending.load(Ordering::Relaxed) {
            shared.resync_owed.store(true, Ordering::Relaxed);
        }
        ended
    })
    .await;
}

async fn once(shared: &Shared, sending: &AtomicBool) -> RedisResult<()> {
    let Pair { out, mut subscriptions, incoming } = pair(&shared.client).await?;
    let own = format!("cima:probe:{}", shared.node);
    within(ANSWER, subscriptions.subscribe(&[CHANNEL, &own])).await?;
    // From here on nothing is missed; what was published before is looked for in the store.
    shared.resync_here(LINK);
    shared.heartbeat.heard();
    metrics::gauge!("cima_bus_up", "link" => LINK).set(1.0);
    shared.send(Message::Hello);
    shared.announce();
    tokio::select! {
        ended = receive(shared, incoming, &own) => ended,
        ended = send(shared, out.clone(), sending) => ended,
        ended = shared.heartbeat.beat(out.clone(), &own), if shared.probe => ended,
        ended = announce(shared) => ended,
    }
}

async fn receive(shared: &Shared, mut incoming: PubSubStream, own: &str) -> RedisResult<()> {
    while let Some(message) = incoming.next().await {
        if message.get_channel_name() == own {
            shared.heartbeat.heard();
        } else {
            shared.receive(message.get_payload_bytes());
        }
    }
    Err(failure("the subscription ended"))
}

async fn send(shared: &Shared, mut out: MultiplexedConnection, sending: &AtomicBool) -> RedisResult<()> {
    loop {
        let batch = shared.hints.take(BATCH).await;
        sending.store(true, Ordering::Relaxed);
        let mut pipe = redis::pipe();
        if shared.resync_owed.swap(false, Ordering::Relaxed) {
            pipe.publish(CHANNEL, shared.write(Message::Event(Event::Resync))).ignore();
        }
        for message in batch {
            pipe.publish(CHANNEL, message).ignore();
        }
        within::<()>(ANSWER, pipe.query_async(&mut out)).await?;
        sending.store(false, Ordering::Relaxed);
    }
}

/// Announces who is watched here, before the others forget it.
async fn announce(shared: &Shared) -> RedisResult<()> {
    let ended = repeat(Pace::of(ANNOUNCED_EVERY).later(), || async {
        shared.announce();
        shared.interest.forget_old(Instant::now());
        Ok(())
    });
    Err(ended.await)
}
