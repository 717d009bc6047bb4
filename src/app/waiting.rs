//! A node whose database cannot be reached yet: it waits, and answers the probes meanwhile.

use crate::clock::Clock;
use crate::http;
use crate::runtime::{Backoff, detach};
use crate::store::{self, Backend, Stores};
use anyhow::Context;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Between two tries, at first and at most.
const APART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Between two lines of the log that say so.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// For the requests that are being answered when the wait is over.
const LAST: Duration = Duration::from_secs(1);

/// Opens the stores. A database that is not there, or lets nobody in, is waited for: to end and be started again would heal
/// nothing, and come back later.
pub(super) async fn open(backend: &Backend, clock: &Clock, listen: SocketAddr) -> anyhow::Result<Stores> {
    let mut backoff = Backoff::between(APART.0, APART.1);
    let mut waiting: Option<(Waiting, Instant)> = None;
    loop {
        let error = match store::open(backend, clock.clone()).await {
            Ok(stores) => {
                if let Some((waiting, _)) = waiting {
                    waiting.end().await;
                    tracing::info!("{backend} is there");
                }
                return Ok(stores);
            }
            Err(error) => error,
        };
        if !(error.is_passing() && backend.is_shared()) {
            return Err(error).with_context(|| format!("{backend} cannot be opened"));
        }
        if waiting.as_ref().is_none_or(|(_, said_at)| said_at.elapsed() >= SAID_EVERY) {
            tracing::warn!(%error, "{backend} cannot be opened yet; this node waits for it");
            let listens = match waiting {
                Some((listens, _)) => listens,
                None => Waiting::start(listen).await?,
            };
            waiting = Some((listens, Instant::now()));
        }
        backoff.wait().await;
    }
}

/// Answers on the node's address until there is a node.
struct Waiting {
    over: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Waiting {
    async fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let (over, (tell, ended)) = (CancellationToken::new(), oneshot::channel());
        let until = over.clone();
        detach("waiting", async move {
            let served = axum::serve(listener, http::waiting_router())
                .with_graceful_shutdown(async move { until.cancelled().await });
            if let Err(error) = served.await {
                tracing::warn!(%error, "the probes of a node that waits are not answered any more");
            }
            // Nobody may wait for it.
            let _ = tell.send(());
        });
        Ok(Self { over, ended })
    }

    /// Gives the address back.
    async fn end(self) {
        self.over.cancel();
        if timeout(LAST, self.ended).await.is_err() {
            tracing::debug!("a request to the node that waited is still being answered");
        }
    }
}
