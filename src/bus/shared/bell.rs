//! The bell between nodes: one channel, one pair of connections.

use super::Shared;
use super::connect::{ANSWER, Pair, failure, keep, pair, within};
use crate::bus::Event;
use crate::bus::envelope::Said;
use crate::bus::interest::SAID_EVERY;
use crate::runtime::{Pace, repeat};
use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::{MultiplexedConnection, PubSubStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The channel of every node.
const CHANNEL: &str = "cima:bell";
/// Messages in one round trip.
const BATCH: usize = 256;

/// Rings and hears until the node stops.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    keep("bell", &stop, || async {
        let sending = AtomicBool::new(false);
        let ended = once(&shared, &sending).await;
        shared.bell_pulse.lost();
        // What was on its way may have come or not.
        if sending.load(Ordering::Relaxed) {
            shared.owed.store(true, Ordering::Relaxed);
        }
        ended
    })
    .await;
}

async fn once(shared: &Shared, sending: &AtomicBool) -> RedisResult<()> {
    let Pair { out, mut subscriptions, heard } = pair(&shared.client).await?;
    let own = format!("cima:probe:{}", shared.node);
    within(ANSWER, subscriptions.subscribe(&[CHANNEL, &own])).await?;
    // From here on nothing is missed; what was before is looked for.
    shared.resync_here("bell");
    shared.bell_pulse.felt();
    metrics::gauge!("cima_bus_up", "link" => "bell").set(1.0);
    shared.say(Said::Hello);
    shared.announce();
    tokio::select! {
        ended = hear(shared, heard, &own) => ended,
        ended = speak(shared, out.clone(), sending) => ended,
        ended = shared.bell_pulse.keep(out.clone(), &own), if shared.probe => ended,
        ended = announce(shared) => ended,
    }
}

async fn hear(shared: &Shared, mut heard: PubSubStream, own: &str) -> RedisResult<()> {
    while let Some(message) = heard.next().await {
        if message.get_channel_name() == own {
            shared.bell_pulse.felt();
        } else {
            shared.take(message.get_payload_bytes());
        }
    }
    Err(failure("the subscription ended"))
}

async fn speak(shared: &Shared, mut out: MultiplexedConnection, sending: &AtomicBool) -> RedisResult<()> {
    loop {
        let batch = shared.bells.take(BATCH).await;
        sending.store(true, Ordering::Relaxed);
        let mut pipe = redis::pipe();
        if shared.owed.swap(false, Ordering::Relaxed) {
            pipe.publish(CHANNEL, shared.write(Said::Event(Event::Resync))).ignore();
        }
        for message in batch {
            pipe.publish(CHANNEL, message).ignore();
        }
        within::<()>(ANSWER, pipe.query_async(&mut out)).await?;
        sending.store(false, Ordering::Relaxed);
    }
}

/// Says who is watched here before the others forget it.
async fn announce(shared: &Shared) -> RedisResult<()> {
    let ended = repeat(Pace::of(SAID_EVERY).later(), || async {
        shared.announce();
        shared.interest.forget_old(Instant::now());
        Ok(())
    });
    Err(ended.await)
}
