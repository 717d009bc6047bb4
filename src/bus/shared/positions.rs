//! Positions between nodes: one channel per person, on connections apart from those of hints, so that no hint waits
//! behind many positions.

use super::Shared;
use super::connect::{ANSWER, Pair, failure, keep, pair, within};
use super::heartbeat::Heartbeat;
use crate::bus::Event;
use crate::bus::envelope::Message;
use crate::id::UserId;
use futures_util::StreamExt;
use redis::RedisResult;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Channels in one command.
const AT_ONCE: usize = 500;

fn channel(subject: UserId) -> String {
    format!("cima:pos:{subject}")
}

/// Carries positions until the node stops.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    keep("positions", &stop, || async {
        let ended = once(&shared).await;
        shared.positions.clear();
        ended
    })
    .await;
}

async fn once(shared: &Shared) -> RedisResult<()> {
    let Pair { out, mut subscriptions, incoming } = pair(&shared.client).await?;
    let own = format!("cima:pos-probe:{}", shared.node);
    within(ANSWER, subscriptions.subscribe(&own)).await?;
    let heartbeat = Heartbeat::default();
    heartbeat.heard();
    metrics::gauge!("cima_bus_up", "link" => "positions").set(1.0);
    tokio::select! {
        ended = receive(shared, incoming, &own, &heartbeat) => ended,
        ended = send(shared, out.clone()) => ended,
        ended = subscribe(shared, subscriptions) => ended,
        ended = heartbeat.beat(out.clone(), &own), if shared.probe => ended,
    }
}

async fn receive(
    shared: &Shared,
    mut incoming: PubSubStream,
    own: &str,
    heartbeat: &Heartbeat,
) -> RedisResult<()> {
    while let Some(message) = incoming.next().await {
        if message.get_channel_name() == own {
            heartbeat.heard();
        } else {
            shared.receive(message.get_payload_bytes());
        }
    }
    Err(failure("the subscription ended"))
}

async fn send(shared: &Shared, mut out: MultiplexedConnection) -> RedisResult<()> {
    loop {
        let mut pipe = redis::pipe();
        for (subject, sealed) in shared.positions.take().await {
            let event = Event::Position { subject, sealed };
            pipe.publish(channel(subject), shared.write(Message::Event(event))).ignore();
        }
        within::<()>(ANSWER, pipe.query_async(&mut out)).await?;
    }
}

/// Keeps subscriptions equal to who is watched here.
async fn subscribe(shared: &Shared, mut subscriptions: PubSubSink) -> RedisResult<()> {
    let mut subscribed: HashSet<UserId> = HashSet::new();
    // Changes so far are in the list of who is watched.
    shared.take_changed();
    let mut changed: HashSet<UserId> = shared.interest.watched_here().into_iter().collect();
    loop {
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for subject in changed {
            match shared.interest.is_watched_here(subject) {
                true if subscribed.insert(subject) => more.push(channel(subject)),
                false if subscribed.remove(&subject) => less.push(channel(subject)),
                _ => {}
            }
        }
        for channels in more.chunks(AT_ONCE) {
            within(ANSWER, subscriptions.subscribe(channels)).await?;
        }
        for channels in less.chunks(AT_ONCE) {
            within(ANSWER, subscriptions.unsubscribe(channels)).await?;
        }
        shared.changes.notified().await;
        changed = shared.take_changed();
    }
}
