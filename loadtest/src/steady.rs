//! Steady load: open-loop phones on a real track, and the contacts who are told of their crossings.
//!
//! A fix has its moment whether or not the earlier ones were acked, and every latency counts from that moment: a
//! server that falls behind cannot slow the phones down and so look better than it is.

use crate::Options;
use crate::frames::{Writer, ack_in};
use crate::gates::{Gate, WATCHED_EVERY, crossings, gates, trust_and_fences};
use crate::ledger::Ledger;
use crate::people::{self, Ws};
use crate::progress::{Progress, Tally};
use crate::report::{Latencies, SteadyReport};
use crate::server::{Server, own_cpu};
use crate::tracks::{Tracks, as_sent};
use anyhow::Context;
use cima::client::Api;
use cima::clock::{Clock, Timestamp};
use cima::geo::Point;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::Message;

/// From the last fix until an ack or an alert that has not come is missing.
const GRACE: Duration = Duration::from_secs(10);
/// An alert that comes after the last one that was expected is one too many; so long it is waited for.
const QUIET: Duration = Duration::from_secs(1);
/// From the last socket opened to the first fix.
const LEAD: Duration = Duration::from_secs(2);

/// When the fixes of a phone are due.
#[derive(Clone, Copy)]
struct Beat {
    start: Instant,
    start_wall: Timestamp,
    interval: Duration,
}

impl Beat {
    /// The beat of the n-th of so many phones: they are spread evenly over the interval.
    fn of(self, n: usize, phones: usize) -> Self {
        let phase = self.interval.mul_f64(n as f64 / phones as f64);
        Self { start: self.start + phase, start_wall: self.start_wall + phase, ..self }
    }
    fn due(&self, k: usize) -> Instant {
        self.start + self.interval.mul_f64(k as f64)
    }
    fn fixed_at(&self, k: usize) -> Timestamp {
        self.start_wall + self.interval.mul_f64(k as f64)
    }
}

/// What names an alert at a fence: the fence, the transition, and the moment of the fix that crossed.
type Told = (String, String, String);

/// Runs it.
pub(crate) async fn run(options: &Options) -> anyhow::Result<SteadyReport> {
    let folder = tempfile::tempdir()?;
    let server = Server::cima(&options.server()?, folder.path()).await?;
    let (people, interval) = (options.sockets(), Duration::from_secs(1).div_f64(options.rate));
    let count = (options.seconds as f64 * options.rate) as usize;
    let tracks = Tracks::read(&options.track)?;
    let ways: Vec<Vec<Point>> =
        (0..people).map(|n| as_sent(&tracks.way(n, people, count, interval))).collect();

    let api = Api::new(&server.base)?;
    let phones = people::sign_up(&api, "phone", people).await?;
    let contacts = people::sign_up(&api, "contact", people.div_ceil(WATCHED_EVERY)).await?;
    let gates = gates(&ways);
    trust_and_fences(&api, &phones, &contacts, &gates).await?;
    eprintln!("{} contacts, {} fences; opening sockets", contacts.len(), gates.len());
    let listening = people::connect_all(&server.base, people::tokens(&contacts)).await?;
    let sending = people::connect_all(&server.base, people::tokens(&phones)).await?;

    let beat = Beat { start: Instant::now() + LEAD, start_wall: Clock::system().now() + LEAD, interval };
    let mut expected = expected(&gates, &ways, beat);
    let mut report = SteadyReport {
        phones: people,
        contacts: contacts.len(),
        seconds: options.seconds,
        rate: options.rate,
        fences: gates.len(),
        alerts_expected: expected.len(),
        ..SteadyReport::default()
    };
    let (cpu, cpu_own) = (server.cpu()?, own_cpu()?);
    let tally = Arc::new(Tally::default());
    let progress = Progress::start("steady".into(), Arc::clone(&tally));
    let end = beat.due(count + 1) + GRACE;
    let (heard, mut alerts) = mpsc::channel(1_024);
    for ws in listening {
        tokio::spawn(listen(ws, heard.clone(), Arc::clone(&tally)));
    }
    let start_phone = |(n, (ws, way)): (usize, (Ws, &Vec<Point>))| {
        tokio::spawn(phone(ws, Writer::new(way), beat.of(n, people), count, end, Arc::clone(&tally)))
    };
    let phones: Vec<_> = sending.into_iter().zip(&ways).enumerate().map(start_phone).collect();
    let alert_latency = settle_alerts(&mut report, &mut expected, &mut alerts, end).await;

    let (mut lateness, mut latency) = (Latencies::default(), Latencies::default());
    for phone in phones {
        let ledger = phone.await?.context("a phone")?;
        report.fixes_sent += ledger.sent_count();
        report.fixes_acked += ledger.acked_count();
        report.fixes_rejected += ledger.rejected;
        report.acks_impossible += ledger.impossible;
        lateness.add(&ledger.lateness)?;
        latency.add(&ledger.latency)?;
    }
    drop(progress);
    report.server_cpu_s = (server.cpu()? - cpu).as_secs_f64();
    report.generator_cpu_s = (own_cpu()? - cpu_own).as_secs_f64();
    report.server_rss_mib = server.memory()?.rss_kib as f64 / 1024.0;
    report.lateness = lateness.percentiles();
    report.to_ack = latency.percentiles();
    report.to_alert = alert_latency?.percentiles();
    server.stop().await?;
    Ok(report)
}

/// What must be told, and when the fix that crosses is due.
fn expected(gates: &[Gate], ways: &[Vec<Point>], beat: Beat) -> HashMap<Told, Instant> {
    let mut expected = HashMap::new();
    for gate in gates {
        let beat = beat.of(gate.person, ways.len());
        for crossing in crossings(&ways[gate.person], gate.center) {
            let at = beat.fixed_at(crossing.fix).to_string();
            expected.insert((gate.name.clone(), crossing.transition.to_owned(), at), beat.due(crossing.fix));
        }
    }
    expected
}

/// One phone: sends each fix at its moment, hears acks in between.
async fn phone(
    mut ws: Ws,
    mut writer: Writer,
    beat: Beat,
    count: usize,
    end: Instant,
    tally: Arc<Tally>,
) -> anyhow::Result<Ledger> {
    let mut ledger = Ledger::default();
    while ledger.acked_count() < count {
        let sent = ledger.sent_count();
        let next = if sent < count { beat.due(sent) } else { end };
        tokio::select! {
            message = ws.next() => match message.context("the server closed")?? {
                Message::Text(text) => match ack_in(&text) {
                    Some(seq) => Tally::add(&tally.acked, ledger.acked(seq, Instant::now())),
                    None if text.contains(r#""rejected""#) => ledger.rejected += 1,
                    None => {}
                },
                Message::Close(why) => anyhow::bail!("the server closed: {why:?}"),
                _ => {}
            },
            () = sleep_until(next) => {
                if sent == count {
                    break;
                }
                let frame = writer.frame(sent as i64 + 1, 1, &beat.fixed_at(sent).to_string());
                ws.send(Message::Text(frame.into())).await?;
                ledger.sent(next, Instant::now());
                Tally::add(&tally.sent, 1);
            }
        }
    }
    Ok(ledger)
}

/// One contact: hands on each alert with the moment at which it came.
async fn listen(mut ws: Ws, heard: mpsc::Sender<(Told, Instant)>, tally: Arc<Tally>) {
    while let Some(Ok(message)) = ws.next().await {
        let now = Instant::now();
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        if frame["type"] == "alert" {
            Tally::add(&tally.alerts, 1);
            let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let told = (word(&frame["params"]["geofence"]), word(&frame["transition"]), word(&frame["at"]));
            if heard.send((told, now)).await.is_err() {
                break;
            }
        }
    }
}

/// Takes alerts until all that were expected have come, and a moment longer.
async fn settle_alerts(
    report: &mut SteadyReport,
    expected: &mut HashMap<Told, Instant>,
    alerts: &mut mpsc::Receiver<(Told, Instant)>,
    end: Instant,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut until = end;
    while let Ok(Some((told, came))) = timeout_at(until, alerts.recv()).await {
        match expected.remove(&told) {
            Some(due) => {
                report.alerts_received += 1;
                latencies.add(&[came.saturating_duration_since(due)])?;
            }
            None => report.alerts_unexpected += 1,
        }
        if expected.is_empty() {
            until = end.min(Instant::now() + QUIET);
        }
    }
    Ok(latencies)
}
