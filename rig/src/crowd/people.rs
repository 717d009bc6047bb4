//! A part of a crowd, in a process of its own.

use crate::files::check_open_files;
use anyhow::Context;
use cima::client::{Api, Heard, Session, Socket};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// Sign-ups at a time.
const AT_ONCE: usize = 32;
/// One in so many sockets is asked whether it is served.
pub const EACH: usize = 100;
/// Until a node that does not answer is left.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    closes: AtomicUsize,
    answers: AtomicUsize,
}

/// Who and where.
#[derive(clap::Args)]
pub struct Part {
    /// Where they sign up.
    #[arg(long)]
    pub rest: String,
    /// Where they stream, in turns.
    #[arg(long = "node")]
    pub nodes: Vec<String>,
    /// The number of the first.
    #[arg(long)]
    pub from: usize,
    /// How many.
    #[arg(long)]
    pub size: usize,
}

/// Opens the sockets, and then says whenever it changes how many are open, how often one ended, and how many have answered
/// since it was last asked, until its input ends. A line of input asks those that are asked.
///
/// # Errors
/// When somebody cannot be signed up, or this process may not open so many files.
pub async fn be(part: Part) -> anyhow::Result<()> {
    let Part { rest, nodes, from, size } = part;
    check_open_files(size)?;
    let (rest, counts, ask) = (Api::new(rest)?, Arc::<Counts>::default(), watch::channel(0_u64).0);
    let nodes: Vec<Api> = nodes.into_iter().map(Api::new).collect::<Result<_, _>>()?;
    let mut tasks = JoinSet::new();
    let mut people = stream::iter(from..from + size)
        .map(|n| {
            let (rest, nodes) = (&rest, &nodes);
            async move {
                let session = rest.sign_up(&format!("idle_{n}"), "Idle").await?;
                let socket = nodes[n % nodes.len()].stream(&session.access).await?;
                anyhow::Ok((n, session, socket))
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((n, session, socket)) = people.try_next().await.context("a crowd")? {
        let (counts, asked) = (Arc::clone(&counts), (n % EACH == 0).then(|| ask.subscribe()));
        let node = nodes[n % nodes.len()].clone();
        counts.open.fetch_add(1, Ordering::SeqCst);
        tasks.spawn(stay(node, session, socket, asked, counts, n as u64));
    }
    drop(people);
    let asked = Arc::clone(&counts);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            asked.answers.store(0, Ordering::SeqCst);
            ask.send_modify(|round| *round += 1);
        }
        // Whoever has started this is gone.
        std::process::exit(0);
    });
    let (mut look, mut said) = (interval(Duration::from_millis(20)), String::new());
    loop {
        look.tick().await;
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let now = format!("{} {} {}", of(&counts.open), of(&counts.closes), of(&counts.answers));
        if now != said {
            writeln!(std::io::stdout(), "{now}")?;
            said = now;
        }
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
