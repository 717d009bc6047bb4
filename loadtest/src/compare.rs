//! Two cima programs on one machine, in turns: what one is as a ratio to the other.

use crate::{Options, idle, steady, throughput};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One measure of both programs, turn by turn.
#[derive(Serialize)]
pub(crate) struct Measure {
    name: String,
    server: Vec<f64>,
    other: Vec<f64>,
}

/// What a comparison has found.
#[derive(Serialize)]
pub(crate) struct Comparison {
    server: PathBuf,
    other: PathBuf,
    pub(crate) measures: Vec<Measure>,
}

/// Measures the program of `options` and another one `turns` times each; who begins alternates.
pub(crate) async fn run(options: &Options, other: PathBuf, turns: u32) -> anyhow::Result<Comparison> {
    let server = options.server()?;
    ensure!(other.is_file(), "{} is not there", other.display());
    let mut comparison = Comparison { server, other, measures: Vec::new() };
    for turn in 1..=turns {
        let mut sides = [false, true];
        if turn % 2 == 0 {
            sides.reverse();
        }
        for is_other in sides {
            let program = if is_other { &comparison.other } else { &comparison.server };
            eprintln!("turn {turn} of {turns}: {}", program.display());
            let found = measure(options, program).await.with_context(|| program.display().to_string())?;
            for (name, value) in found {
                comparison.add(name, value, is_other);
            }
        }
    }
    Ok(comparison)
}

async fn measure(options: &Options, program: &Path) -> anyhow::Result<Vec<(String, f64)>> {
    let options = Options { server: Some(program.to_owned()), rounds: 1, ..options.clone() };
    let steady = Box::pin(steady::run(&options)).await?;
    ensure!(steady.is_whole(), "a fix, an ack or an alert is missing");
    let idle = Box::pin(idle::run(&options)).await?;
    let mut found = vec![
        ("due to `acked`, p50 ms".to_owned(), steady.to_ack.p50_ms),
        ("due to `acked`, p99 ms".to_owned(), steady.to_ack.p99_ms),
        ("due to the contact's `alert`, p50 ms".to_owned(), steady.to_alert.p50_ms),
        ("due to the contact's `alert`, p99 ms".to_owned(), steady.to_alert.p99_ms),
        ("processor time of a fix, µs".to_owned(), steady.server_cpu_s * 1e6 / steady.fixes_sent as f64),
        ("an idle socket, KiB".to_owned(), idle.cima.kib_per_socket),
        ("an idle socket after a heartbeat, KiB".to_owned(), idle.cima.kib_per_socket_settled),
    ];
    for report in Box::pin(throughput::run(&options)).await? {
        found.push((format!("durable fixes/s, {} a frame", report.fixes_per_frame), report.cima_per_s));
    }
    Ok(found)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

impl Comparison {
    fn add(&mut self, name: String, value: f64, is_other: bool) {
        let known = self.measures.iter().position(|measure| measure.name == name);
        let place = known.unwrap_or_else(|| {
            self.measures.push(Measure { name, server: Vec::new(), other: Vec::new() });
            self.measures.len() - 1
        });
        let measure = &mut self.measures[place];
        if is_other { measure.other.push(value) } else { measure.server.push(value) }
    }

    /// As a table: medians, their ratio, and the ratio of each turn.
    pub(crate) fn markdown(&self) -> String {
        let (server, other) = (self.server.display(), self.other.display());
        let mut text = format!("`{server}` beside `{other}`, in turns.\n\n");
        text.push_str("| what | this | the other | ratio | turn by turn |\n|---|---|---|---|---|\n");
        for Measure { name, server, other } in &self.measures {
            let (this, that) = (median(server), median(other));
            let turns: Vec<String> = server.iter().zip(other).map(|(a, b)| format!("{:.2}", a / b)).collect();
            let ratio = this / that;
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {name} | {this:.1} | {that:.1} | {ratio:.2} | {} |", turns.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_and_their_ratio() {
        let mut comparison = Comparison { server: "new".into(), other: "old".into(), measures: Vec::new() };
        for (value, is_other) in
            [(2.0, false), (4.0, true), (9.0, false), (4.0, true), (3.0, false), (5.0, true)]
        {
            comparison.add("ms".into(), value, is_other);
        }
        let table = comparison.markdown();
        assert!(table.contains("| ms | 3.0 | 4.0 | 0.75 | 0.50, 2.25, 0.60 |"), "{table}");
    }
}
