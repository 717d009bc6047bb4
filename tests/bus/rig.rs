//! A proxy in front of a test's own Redis, which can go silent.

pub(crate) use cima_rig::redis::Redis;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// For whatever a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// A connection of the test's own.
pub(crate) async fn conn(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A road to Redis. When it is cut, the connections on it that subscribed stay open and carry nothing any more; others
/// and new ones are carried.
pub(crate) struct Road {
    pub(crate) port: u16,
    cut_to: Arc<AtomicU64>,
    pub(crate) open: Arc<AtomicUsize>,
    made: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Road {
    pub(crate) async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut_to, open, made) = <(Arc<AtomicU64>, Arc<AtomicUsize>, Arc<AtomicU64>)>::default();
        let (cut, opened, count, redis) =
            (Arc::clone(&cut_to), Arc::clone(&open), Arc::clone(&made), redis.port);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let Ok(far) = TcpStream::connect(("127.0.0.1", redis)).await else { continue };
                let (cut, opened) = (Arc::clone(&cut), Arc::clone(&opened));
                opened.fetch_add(1, Ordering::SeqCst);
                ways.spawn(async move {
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    let subscribed = AtomicBool::new(false);
                    let silent = || subscribed.load(Ordering::SeqCst) && number <= cut.load(Ordering::SeqCst);
                    let ask = |bytes: &[u8]| {
                        if bytes.windows(9).any(|w| w == b"SUBSCRIBE") {
                            subscribed.store(true, Ordering::SeqCst);
                        }
                        !silent()
                    };
                    tokio::select! {
                        () = carry(near_in, far_out, ask) => {}
                        () = carry(far_in, near_out, |_| !silent()) => {}
                    }
                    opened.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, cut_to, open, made, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections were made so far.
    pub(crate) fn tries(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// All subscriptions there are fall silent.
    pub(crate) fn cut(&self) {
        self.cut_to.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // What comes on a cut road is swallowed.
            Ok(n) if !passes(&buffer[..n]) => {}
            Ok(n) => {
                if to.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
