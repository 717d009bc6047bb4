//! Many people whose apps are open, and who do nothing.

use anyhow::{Context, ensure};
use cima::client::{Api, Heard, Session, Socket};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Sign-ups at a time.
const AT_ONCE: usize = 32;
/// Sockets that are asked whether they are served.
const ASKED: usize = 200;
/// Until a node that does not answer is left.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    closes: AtomicUsize,
    answers: AtomicUsize,
}

/// Their sockets; they come back when they are closed, with jitter.
pub struct Crowd {
    size: usize,
    counts: Arc<Counts>,
    ask: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// So many, in turns on these nodes; they sign up at `rest`.
    ///
    /// # Errors
    /// When somebody cannot be signed up, or this process may not open so many files.
    pub async fn gather(rest: &Api, nodes: &[Api], size: usize) -> anyhow::Result<Self> {
        check_open_files(size)?;
        let (counts, ask) = (Arc::<Counts>::default(), watch::channel(0).0);
        let mut tasks = JoinSet::new();
        let mut people = stream::iter(0..size)
            .map(|n| async move {
                let session = rest.sign_up(&format!("idle_{n}"), "Idle").await?;
                let socket = nodes[n % nodes.len()].stream(&session.access).await?;
                anyhow::Ok((n, session, socket))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((n, session, socket)) = people.try_next().await.context("a crowd")? {
            let (counts, asked) = (Arc::clone(&counts), (n < ASKED).then(|| ask.subscribe()));
            let node = nodes[n % nodes.len()].clone();
            counts.open.fetch_add(1, Ordering::SeqCst);
            tasks.spawn(stay(node, session, socket, asked, counts, n as u64));
        }
        drop(people);
        Ok(Self { size, counts, ask, _tasks: tasks })
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// How often one ended so far.
    pub fn closes(&self) -> usize {
        self.counts.closes.load(Ordering::SeqCst)
    }

    /// How long it takes from now until all are open, and those that are asked are served; `None` if not in time.
    pub async fn as_before(&self, within: Duration) -> Option<Duration> {
        let (began, asked) = (Instant::now(), ASKED.min(self.size));
        while began.elapsed() < within {
            self.counts.answers.store(0, Ordering::SeqCst);
            self.ask.send_modify(|round| *round += 1);
            for _ in 0..20 {
                sleep(Duration::from_millis(50)).await;
                if self.open() == self.size && self.counts.answers.load(Ordering::SeqCst) >= asked {
                    return Some(began.elapsed());
                }
            }
        }
        None
    }
}

async fn stay(
    node: Api,
    session: Session,
    mut socket: Socket,
    mut asked: Option<watch::Receiver<u64>>,
    counts: Arc<Counts>,
    n: u64,
) {
    // What was asked before it was there is none of its business.
    if let Some(asked) = &mut asked {
        asked.mark_unchanged();
    }
    loop {
        let question = async {
            match &mut asked {
                Some(asked) => asked.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            heard = socket.hear() => match heard {
                // Nobody may watch a stranger: the answer is read from the store.
                Heard::Frame(frame) if frame["type"] == "unavailable" => {
                    counts.answers.fetch_add(1, Ordering::SeqCst);
                    false
                }
                Heard::Frame(_) => false,
                Heard::Closed(_) | Heard::Gone => true,
            },
            _ = question => {
                let watch = json!({"type": "watch", "user": session.device});
                socket.send(&watch).await.is_err()
            }
        };
        if gone {
            counts.open.fetch_sub(1, Ordering::SeqCst);
            counts.closes.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(100 + n.wrapping_mul(7919) % 3_000)).await;
            socket = loop {
                if let Ok(Ok(next)) = timeout(CONNECT, node.stream(&session.access)).await {
                    break next;
                }
                sleep(Duration::from_secs(1)).await;
            };
            counts.open.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Each socket is a file here and one in a node, which inherits the limit.
fn check_open_files(sockets: usize) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap_or_default();
    let soft: usize = line.split_whitespace().next().unwrap_or_default().parse().unwrap_or(usize::MAX);
    let wanted = sockets + sockets / 10 + 500;
    ensure!(
        soft >= wanted,
        "only {soft} files may be open, {wanted} are needed; run `ulimit -n {wanted}` first"
    );
    Ok(())
}
