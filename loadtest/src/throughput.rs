//! Throughput: each socket keeps a window of unacked fixes full, on cima and on the sink in turns.

use crate::Options;
use crate::frames::{Writer, ack_in};
use crate::people::{self, Ws};
use crate::progress::{Progress, Tally};
use crate::report::{Round, ThroughputReport, median};
use crate::server::{Server, own_cpu};
use crate::tracks::{Tracks, as_sent};
use anyhow::{Context, bail, ensure};
use cima::client::Api;
use cima::clock::Clock;
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Before counting: cima's journal fills meanwhile, so that what counts is what its store keeps up with.
const WARM_UP: Duration = Duration::from_secs(5);
/// Until what is in flight at the end of a round must be acked.
const LAST_ACKS: Duration = Duration::from_secs(20);
/// Places of a phone's way; it goes round.
const PLACES: usize = 600;

/// Runs it, once for each number of fixes in a frame.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<ThroughputReport>> {
    let mut reports = Vec::new();
    for batch in &options.batch {
        reports.push(Box::pin(one(options, *batch)).await?);
    }
    Ok(reports)
}

/// What is the same in all rounds.
struct Load {
    window: i64,
    batch: u32,
    round: Duration,
    ways: Vec<Vec<cima::geo::Point>>,
    clock: Clock,
}

async fn one(options: &Options, batch: u32) -> anyhow::Result<ThroughputReport> {
    let folder = tempfile::tempdir()?;
    let cima = Server::cima(&options.server()?, folder.path()).await?;
    let sink = Server::sink().await?;
    let count = options.sockets();
    let people = people::sign_up(&Api::new(&cima.base)?, "phone", count).await?;
    let (with_token, without) = (people::tokens(&people).collect::<Vec<_>>(), vec![None; count]);
    let tracks = Tracks::read(&options.track)?;
    let way = |n| as_sent(&tracks.way(n, count, PLACES, Duration::from_secs(1)));
    let load = Load {
        window: i64::from(options.window),
        batch,
        round: Duration::from_secs(options.round_seconds),
        ways: (0..count).map(way).collect(),
        clock: Clock::system(),
    };
    ensure!(batch <= options.window, "{batch} fixes in a frame do not fit a window of {}", options.window);
    let (mut on_cima, mut on_sink) = (Vec::new(), Vec::new());
    let mut seqs = vec![0; count];
    for n in 1..=options.rounds {
        let name = |who| format!("{who} round {n}, {batch} in a frame");
        on_sink.push(load.round(&sink, &without, &mut vec![0; count], name("sink")).await?);
        on_cima.push(load.round(&cima, &with_token, &mut seqs, name("cima")).await?);
    }
    cima.stop().await?;
    let rates = |rounds: &[Round]| median(rounds.iter().map(|r| r.acked_per_s));
    let (cima_per_s, sink_per_s) = (rates(&on_cima), rates(&on_sink));
    Ok(ThroughputReport {
        sockets: count,
        window: options.window,
        fixes_per_frame: batch,
        round_seconds: options.round_seconds,
        cima_per_s,
        sink_per_s,
        ratio: cima_per_s / sink_per_s,
        cima: on_cima,
        sink: on_sink,
    })
}

impl Load {
    /// One round on fresh sockets. `seqs` is the last number of each phone, before and after.
    async fn round(
        &self,
        server: &Server,
        tokens: &[Option<&str>],
        seqs: &mut [i64],
        name: String,
    ) -> anyhow::Result<Round> {
        let sockets = people::connect_all(&server.base, tokens.iter().copied()).await?;
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let progress = Progress::start(name, Arc::clone(&tally));
        let mut phones = Vec::new();
        for (n, ws) in sockets.into_iter().enumerate() {
            let phone = Phone {
                ws,
                writer: Writer::new(&self.ways[n]),
                clock: self.clock.clone(),
                window: self.window,
                batch: self.batch,
                sent: seqs[n],
                acked: seqs[n],
            };
            phones.push(tokio::spawn(phone.run(Arc::clone(&tally), Arc::clone(&stop))));
        }
        sleep(WARM_UP).await;
        let (from, before, cpu, own) = (Instant::now(), tally.acked(), server.cpu()?, own_cpu()?);
        sleep(self.round).await;
        let (lasted, acked) = (from.elapsed().as_secs_f64(), tally.acked() - before);
        let (cpu, own) = (server.cpu()? - cpu, own_cpu()? - own);
        stop.store(true, Ordering::Relaxed);
        let mut missing = 0;
        for (seq, phone) in seqs.iter_mut().zip(phones) {
            let (sent, acked) = phone.await?.context("a phone")?;
            missing += sent - acked;
            *seq = sent;
        }
        drop(progress);
        let us_each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / acked.max(1) as f64;
        Ok(Round {
            acked_per_s: acked as f64 / lasted,
            missing,
            server_cpu_us_per_fix: us_each(cpu),
            generator_cpu_us_per_fix: us_each(own),
            server_cores: cpu.as_secs_f64() / lasted,
            generator_cores: own.as_secs_f64() / lasted,
        })
    }
}

/// A phone that always has its window full.
struct Phone {
    ws: Ws,
    writer: Writer,
    clock: Clock,
    window: i64,
    batch: u32,
    sent: i64,
    acked: i64,
}

impl Phone {
    /// Until told to stop, and until all is acked; the last numbers sent and acked.
    async fn run(mut self, tally: Arc<Tally>, stop: Arc<AtomicBool>) -> anyhow::Result<(i64, i64)> {
        loop {
            if !stop.load(Ordering::Relaxed) {
                self.fill(&tally).await?;
            } else if self.acked == self.sent {
                // Closing in good order, so that nothing of this round is left to the next.
                let _ = self.ws.close(None).await;
                while let Ok(Some(Ok(_))) = timeout(LAST_ACKS, self.ws.next()).await {}
                return Ok((self.sent, self.acked));
            }
            let before = self.acked;
            let Ok(message) = timeout(LAST_ACKS, self.ws.next()).await else {
                return Ok((self.sent, self.acked));
            };
            self.take(message)?;
            // Whatever else has come already, so that the window is filled in one go.
            while let Some(message) = self.ws.next().now_or_never() {
                self.take(message)?;
            }
            Tally::add(&tally.acked, usize::try_from(self.acked - before).unwrap_or(0));
        }
    }

    async fn fill(&mut self, tally: &Tally) -> anyhow::Result<()> {
        let batch = i64::from(self.batch);
        if self.sent + batch - self.acked > self.window {
            return Ok(());
        }
        let now = self.clock.now().to_string();
        while self.sent + batch - self.acked <= self.window {
            let frame = self.writer.frame(self.sent + 1, self.batch, &now);
            self.ws.feed(Message::Text(frame.into())).await?;
            self.sent += batch;
            Tally::add(&tally.sent, self.batch as usize);
        }
        Ok(self.ws.flush().await?)
    }

    fn take(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> anyhow::Result<()> {
        match message.context("the server closed")?? {
            Message::Text(text) => match ack_in(&text) {
                Some(seq) => {
                    ensure!(seq <= self.sent, "{seq} was acked, {} was the last sent", self.sent);
                    self.acked = self.acked.max(seq);
                }
                None => bail!("not an ack: {text}"),
            },
            Message::Close(why) => bail!("the server closed: {why:?}"),
            _ => {}
        }
        Ok(())
    }
}
