//! Positions between nodes: a channel a person, on a pair of connections of their own, so that a crowd of fixes is never
//! in front of a bell.

use super::Shared;
use super::connect::{ANSWER, Pair, failure, keep, pair, within};
use super::pulse::Pulse;
use crate::bus::Event;
use crate::bus::envelope::Said;
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
    let Pair { out, mut subscriptions, heard } = pair(&shared.client).await?;
    let own = format!("cima:pos-probe:{}", shared.node);
    within(ANSWER, subscriptions.subscribe(&own)).await?;
    let pulse = Pulse::default();
    pulse.felt();
    metrics::gauge!("cima_bus_up", "link" => "positions").set(1.0);
    tokio::select! {
        ended = hear(shared, heard, &own, &pulse) => ended,
        ended = speak(shared, out.clone()) => ended,
        ended = subscribe(shared, subscriptions) => ended,
        ended = pulse.keep(out.clone(), &own), if shared.probe => ended,
    }
}

async fn hear(shared: &Shared, mut heard: PubSubStream, own: &str, pulse: &Pulse) -> RedisResult<()> {
    while let Some(message) = heard.next().await {
        if message.get_channel_name() == own {
            pulse.felt();
        } else {
            shared.take(message.get_payload_bytes());
        }
    }
    Err(failure("the subscription ended"))
}

async fn speak(shared: &Shared, mut out: MultiplexedConnection) -> RedisResult<()> {
    loop {
        let mut pipe = redis::pipe();
        for (subject, sealed) in shared.positions.take().await {
            let event = Event::Position { subject, sealed };
            pipe.publish(channel(subject), shared.write(Said::Event(event))).ignore();
        }
        within::<()>(ANSWER, pipe.query_async(&mut out)).await?;
    }
}

/// Keeps subscriptions equal to who is watched here.
async fn subscribe(shared: &Shared, mut subscriptions: PubSubSink) -> RedisResult<()> {
    let mut subscribed: HashSet<UserId> = HashSet::new();
    // All that came before is in the list of who is watched.
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
