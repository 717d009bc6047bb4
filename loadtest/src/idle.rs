//! Idle sockets: what each costs the server in memory, beside what it costs the bare sink.

use crate::Options;
use crate::people::{self, Ws};
use crate::report::{IdleReport, IdleServer};
use crate::server::{Memory, Server};
use cima::client::Api;
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::sleep;

/// After the warm-up, and after the last socket was opened.
const MOMENT: Duration = Duration::from_secs(3);

/// Runs it.
pub(crate) async fn run(options: &Options) -> anyhow::Result<IdleReport> {
    let folder = tempfile::tempdir()?;
    let program = options.server()?;
    // Signing up leaves its own traces in memory, so it is done by a process that ends.
    let signing = Server::cima(&program, folder.path()).await?;
    let people = people::sign_up(&Api::new(&signing.base)?, "idle", options.sockets()).await?;
    signing.stop().await?;

    let server = Server::cima(&program, folder.path()).await?;
    let tokens: Vec<_> = people::tokens(&people).collect();
    let cima = measure(&server, &tokens, options.settle).await?;
    server.stop().await?;

    let server = Server::sink().await?;
    let sink = measure(&server, &vec![None; options.sockets()], options.settle).await?;
    Ok(IdleReport { sockets: options.sockets(), settle_s: options.settle, cima, sink })
}

/// Memory before, soon after, and after a heartbeat of sockets that say nothing.
async fn measure(server: &Server, tokens: &[Option<&str>], settle: u64) -> anyhow::Result<IdleServer> {
    drop(people::connect_all(&server.base, tokens.iter().copied().take(1)).await?);
    sleep(MOMENT).await;
    let empty = server.memory()?;
    eprintln!("empty: {} KiB; opening {} sockets", empty.rss_kib, tokens.len());
    let sockets = people::connect_all(&server.base, tokens.iter().copied()).await?;
    let count = sockets.len() as f64;
    let quiet: Vec<_> = sockets.into_iter().map(|ws| tokio::spawn(answer_pings(ws))).collect();
    sleep(MOMENT).await;
    let open = server.memory()?;
    sleep(Duration::from_secs(settle).saturating_sub(MOMENT)).await;
    let settled = server.memory()?;
    let closed = quiet.iter().filter(|q| q.is_finished()).count();
    anyhow::ensure!(closed == 0, "{closed} idle sockets were closed");
    let each = |m: Memory| (m.rss_kib as f64 - empty.rss_kib as f64) / count;
    eprintln!("{:.1} KiB a socket, {:.1} KiB after {settle} s", each(open), each(settled));
    quiet.iter().for_each(|q| q.abort());
    Ok(IdleServer { empty, open, settled, kib_per_socket: each(open), kib_per_socket_settled: each(settled) })
}

/// Reading is what answers pings.
async fn answer_pings(mut ws: Ws) {
    while let Some(Ok(_)) = ws.next().await {}
}
