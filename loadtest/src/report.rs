//! The report of a run, as JSON and as Markdown.

use crate::server::Memory;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Aims, as the report says them.
const ALERT_P99_MS: f64 = 50.0;
const IDLE_KIB: f64 = 12.0;
const RATIO: f64 = 0.5;

/// Everything a run has found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) steady: Option<SteadyReport>,
    pub(crate) idle: Option<IdleReport>,
    pub(crate) throughput: Vec<ThroughputReport>,
}

/// On what and how it was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) command: String,
    pub(crate) server: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// The file system of the data folder: `tmpfs` has no disk under it.
    pub(crate) data_on: String,
    /// Average load of the machine in the minute before: what else ran.
    pub(crate) load_before: f64,
}

/// Latencies of a run.
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Microseconds up to ten minutes, three digits: the bounds are constants that the crate takes.
        Self(
            Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("constant bounds")),
        )
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, all: &[Duration]) -> anyhow::Result<()> {
        for one in all {
            self.0.record(u64::try_from(one.as_micros())?.max(1))?;
        }
        Ok(())
    }
    pub(crate) fn percentiles(&self) -> Percentiles {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(self.0.max()),
        }
    }
}

/// What a histogram says.
#[derive(Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// Of the steady load.
#[derive(Default, Serialize)]
pub(crate) struct SteadyReport {
    pub(crate) phones: usize,
    pub(crate) contacts: usize,
    pub(crate) fences: usize,
    pub(crate) seconds: u64,
    pub(crate) rate: f64,
    pub(crate) fixes_sent: usize,
    pub(crate) fixes_acked: usize,
    pub(crate) fixes_rejected: usize,
    pub(crate) acks_impossible: usize,
    pub(crate) alerts_expected: usize,
    pub(crate) alerts_received: usize,
    pub(crate) alerts_unexpected: usize,
    /// From due to sent: the generator's own.
    pub(crate) lateness: Percentiles,
    /// From due to acked.
    pub(crate) to_ack: Percentiles,
    /// From the crossing fix's due time to the contact's alert.
    pub(crate) to_alert: Percentiles,
    pub(crate) server_cpu_s: f64,
    pub(crate) generator_cpu_s: f64,
    pub(crate) server_rss_mib: f64,
}

impl SteadyReport {
    /// Whether nothing is missing that had to come and nothing came that had not to.
    pub(crate) fn is_whole(&self) -> bool {
        self.fixes_sent == self.fixes_acked
            && self.fixes_rejected + self.acks_impossible + self.alerts_unexpected == 0
            && self.alerts_received == self.alerts_expected
    }
}

/// Of idle sockets.
#[derive(Serialize)]
pub(crate) struct IdleReport {
    pub(crate) sockets: usize,
    pub(crate) settle_s: u64,
    pub(crate) cima: IdleServer,
    pub(crate) sink: IdleServer,
}

/// One server with idle sockets.
#[derive(Serialize)]
pub(crate) struct IdleServer {
    pub(crate) empty: Memory,
    pub(crate) open: Memory,
    pub(crate) settled: Memory,
    pub(crate) kib_per_socket: f64,
    pub(crate) kib_per_socket_settled: f64,
}

/// Of throughput, for one number of fixes in a frame.
#[derive(Serialize)]
pub(crate) struct ThroughputReport {
    pub(crate) sockets: usize,
    pub(crate) window: u32,
    pub(crate) fixes_per_frame: u32,
    pub(crate) round_seconds: u64,
    /// The median of the rounds.
    pub(crate) cima_per_s: f64,
    /// The median of the rounds.
    pub(crate) sink_per_s: f64,
    pub(crate) ratio: f64,
    pub(crate) cima: Vec<Round>,
    pub(crate) sink: Vec<Round>,
}

/// One round.
#[derive(Serialize)]
pub(crate) struct Round {
    pub(crate) acked_per_s: f64,
    pub(crate) missing: i64,
    pub(crate) server_cpu_us_per_fix: f64,
    pub(crate) generator_cpu_us_per_fix: f64,
    pub(crate) server_cores: f64,
    pub(crate) generator_cores: f64,
}

/// The middle one, or between the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

impl Report {
    /// Empty, of this machine.
    pub(crate) fn of_this_machine(server: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let processor = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
        let load = read("/proc/loadavg");
        let machine = Machine {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            server: server.display().to_string(),
            cores: std::thread::available_parallelism()?.get(),
            processor: processor.trim_start_matches(|c: char| c.is_whitespace() || c == ':').to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            data_on: file_system_of(&std::env::temp_dir(), &read("/proc/mounts")).context("no mounts")?,
            load_before: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
        };
        Ok(Self { machine, steady: None, idle: None, throughput: Vec::new() })
    }

    /// Whether nothing is missing that had to come and nothing came that had not to.
    pub(crate) fn is_whole(&self) -> bool {
        let steady = self.steady.as_ref().is_none_or(SteadyReport::is_whole);
        steady && self.throughput.iter().all(|t| t.cima.iter().chain(&t.sink).all(|r| r.missing == 0))
    }

    /// For people.
    pub(crate) fn markdown(&self) -> String {
        let m = &self.machine;
        let mut out = String::from("# Load on cima\n\n");
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "`{}` on {} cores ({}), Linux {}, data on {}, load {:.2} before. Server: `{}`. Server and generator \
             share the cores: read ratios, not rates.",
            m.command, m.cores, m.processor, m.kernel, m.data_on, m.load_before, m.server
        );
        if let Some(steady) = &self.steady {
            out += &steady.markdown();
        }
        if let Some(idle) = &self.idle {
            out += &idle.markdown();
        }
        for throughput in &self.throughput {
            out += &throughput.markdown();
        }
        out
    }
}

/// The type of the file system under a path.
fn file_system_of(path: &Path, mounts: &str) -> Option<String> {
    let fields = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let under = fields.filter(|f| f.len() > 2 && path.starts_with(f[1]));
    under.max_by_key(|f| f[1].len()).map(|f| f[2].to_owned())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

impl SteadyReport {
    fn markdown(&self) -> String {
        let mut out = format!(
            "\n## Steady: {} phones at {} fix/s for {} s, {} contacts, {} fences\n\n\
             | | sent or due | came | missing | beyond |\n|---|---|---|---|---|\n\
             | fixes | {} | {} acked | {} | {} rejected, {} acks of nothing |\n\
             | alerts | {} | {} | {} | {} unexpected |\n\n\
             | from due time, ms | count | p50 | p90 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n",
            self.phones,
            self.rate,
            self.seconds,
            self.contacts,
            self.fences,
            self.fixes_sent,
            self.fixes_acked,
            self.fixes_sent - self.fixes_acked,
            self.fixes_rejected,
            self.acks_impossible,
            self.alerts_expected,
            self.alerts_received,
            self.alerts_expected - self.alerts_received,
            self.alerts_unexpected,
        );
        let rows = [
            ("to sent (the generator itself)", &self.lateness),
            ("to `acked`", &self.to_ack),
            ("to the contact's `alert`", &self.to_alert),
        ];
        for (what, p) in rows {
            let _ = writeln!(
                out,
                "| {what} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                p.count, p.p50_ms, p.p90_ms, p.p99_ms, p.p999_ms, p.max_ms
            );
        }
        let met = self.to_alert.p99_ms.max(self.to_ack.p99_ms) < ALERT_P99_MS;
        let _ = writeln!(
            out,
            "\nAim, p99 under {ALERT_P99_MS} ms: {}. Processor: server {:.1} s, generator {:.1} s. Server's memory \
             at the end: {:.0} MiB.",
            verdict(met),
            self.server_cpu_s,
            self.generator_cpu_s,
            self.server_rss_mib
        );
        out
    }
}

impl IdleReport {
    fn markdown(&self) -> String {
        let mut out = format!(
            "\n## Idle: {} sockets\n\n| | empty, KiB | open, KiB | after {} s, KiB | a socket, KiB | after {} s |\n\
             |---|---|---|---|---|---|\n",
            self.sockets, self.settle_s, self.settle_s
        );
        for (name, s) in [("cima", &self.cima), ("bare sink", &self.sink)] {
            let _ = writeln!(
                out,
                "| {name} | {} | {} | {} | {:.2} | {:.2} |",
                s.empty.rss_kib,
                s.open.rss_kib,
                s.settled.rss_kib,
                s.kib_per_socket,
                s.kib_per_socket_settled
            );
        }
        let met = verdict(self.cima.kib_per_socket_settled <= IDLE_KIB);
        let _ = writeln!(
            out,
            "\nAim, at most {IDLE_KIB} KiB a socket after a heartbeat (before it, the heap still holds what opening left): {met}."
        );
        out
    }
}

impl ThroughputReport {
    fn markdown(&self) -> String {
        let mut out = format!(
            "\n## Throughput: {} sockets, window {}, {} fixes in a frame\n\n\
             | {} s rounds, fixes/s | sink | cima | cima's processor, us a fix | sink's | generator's beside cima |\n\
             |---|---|---|---|---|---|\n",
            self.sockets, self.window, self.fixes_per_frame, self.round_seconds
        );
        for (n, (cima, sink)) in self.cima.iter().zip(&self.sink).enumerate() {
            let _ = writeln!(
                out,
                "| {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} |",
                n + 1,
                sink.acked_per_s,
                cima.acked_per_s,
                cima.server_cpu_us_per_fix,
                sink.server_cpu_us_per_fix,
                cima.generator_cpu_us_per_fix
            );
        }
        let _ = writeln!(
            out,
            "| median | {:.0} | {:.0} | | | |\n\nDurable fixes as a ratio to the bare sink: **{:.2}**. Aim, {RATIO}: {}.",
            self.sink_per_s,
            self.cima_per_s,
            self.ratio,
            verdict(self.ratio >= RATIO)
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(file_system_of(Path::new("/tmp/x"), mounts).as_deref(), Some("tmpfs"));
        assert_eq!(file_system_of(Path::new("/var"), mounts).as_deref(), Some("ext4"));
    }
}
