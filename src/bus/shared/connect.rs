//! Connections to Redis, their deadlines, and the pause between tries.

use super::BusError;
use crate::runtime::{Backoff, until};
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, RedisResult};
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For a connection to be made and ready.
const CONNECT: Duration = Duration::from_secs(2);
/// For an answer to a command. A server that hangs is noticed by the first one that it does not answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Between the first tries to connect again, and between later ones.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A client of the address; connects to nothing yet.
pub(super) fn client(url: &str) -> Result<Client, BusError> {
    let info = url.into_connection_info().map_err(|_| BusError::Address)?;
    if matches!(info.addr(), ConnectionAddr::Unix(_)) {
        return Client::open(info).map_err(|_| BusError::Address);
    }
    // Messages are small and wanted now.
    let settings = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_tcp_settings(settings)).map_err(|_| BusError::Address)
}

/// Holds an answer to a deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(failure("no answer in time")),
    }
}

/// A failure that is ours to find.
pub(super) fn failure(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, what))
}

/// A connection for commands, each with this deadline.
pub(super) async fn commands(client: &Client, answer: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(answer))
        .set_concurrency_limit(64);
    within(CONNECT, client.get_multiplexed_async_connection_with_config(&config)).await
}

/// Asks a server whether it answers.
pub(super) async fn ping(client: &Client) -> RedisResult<()> {
    let mut connection = commands(client, ANSWER).await?;
    redis::cmd("PING").query_async(&mut connection).await
}

/// One connection that publishes and one that subscribes. The library puts what it receives into a queue without a bound,
/// so the reader of it does nothing but take and pass on.
pub(super) struct Pair {
    pub(super) out: MultiplexedConnection,
    pub(super) subscriptions: PubSubSink,
    pub(super) incoming: PubSubStream,
}

pub(super) async fn pair(client: &Client) -> RedisResult<Pair> {
    let out = commands(client, ANSWER).await?;
    let (subscriptions, incoming) = within(CONNECT, client.get_async_pubsub()).await?.split();
    Ok(Pair { out, subscriptions, incoming })
}

/// Keeps something connected until the node stops: `once` connects and returns why it is not any more.
pub(super) async fn keep<F: Future<Output = RedisResult<()>>>(
    link: &'static str,
    stop: &CancellationToken,
    mut once: impl FnMut() -> F,
) {
    let mut backoff = Backoff::between(PAUSE.0, PAUSE.1);
    let up = metrics::gauge!("cima_bus_up", "link" => link);
    loop {
        up.set(0.0);
        let began = tokio::time::Instant::now();
        let Some(ended) = until(stop, once()).await else { break };
        up.set(0.0);
        metrics::counter!("cima_bus_breaks_total", "link" => link).increment(1);
        if let Err(error) = ended {
            tracing::warn!(%error, link, "Redis is not reached; nodes poll the store meanwhile");
        }
        // One that held for a while is tried again at once.
        if began.elapsed() > PAUSE.1 * 5 {
            backoff.reset();
        }
        if until(stop, backoff.wait()).await.is_none() {
            break;
        }
    }
    up.set(0.0);
}
