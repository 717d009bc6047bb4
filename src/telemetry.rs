//! Logs and metrics. Neither carries a coordinate, a name, a handle or a token.

mod limit;

use crate::runtime::Reached;
use limit::Limit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

static LIMIT: OnceLock<Limit> = OnceLock::new();

/// Starts logging to standard error. `filter` is a list such as `info,cima::stream=debug`. What one place in the code repeats
/// is bounded.
pub fn start_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let limit = LIMIT.get_or_init(Limit::default).clone();
    let logs = tracing_subscriber::registry().with(filter).with(limit);
    let lines = fmt::layer().with_writer(std::io::stderr);
    // An error means that a test has started them before.
    let _ = match format {
        LogFormat::Text => logs.with(lines.with_target(false)).try_init(),
        LogFormat::Json => logs.with(lines.json()).try_init(),
    };
}

/// Counters without a label: each is there from the start, so that a first time is seen as a rise.
const COUNTERS: [&str; 15] = [
    "cima_check_ins_missed_total",
    "cima_clock_steps_total",
    "cima_emergencies_opened_total",
    "cima_fixes_expired_total",
    "cima_fixes_recorded_total",
    "cima_folds_lost_total",
    "cima_journal_conflicts_total",
    "cima_log_lines_left_out_total",
    "cima_malformed_frames_total",
    "cima_recorder_full_total",
    "cima_router_lagged_total",
    "cima_slow_consumers_total",
    "cima_transitions_total",
    "cima_zone_entries_total",
    "cima_zone_window_failures_total",
];
/// What may not be taken (`cima_shed_total{what}`).
const SHED: [&str; 3] = ["fix", "frame", "sign-in"];

/// Begins to count at zero.
pub fn begin_counting() {
    for name in COUNTERS {
        metrics::counter!(name).increment(0);
    }
    for reached in Reached::ALL {
        // A series is there from its first handle on.
        let _ = metrics::histogram!("cima_sos_seconds", "until" => reached.word());
    }
    metrics::gauge!("cima_oldest_emergency_delivery_seconds").set(0.0);
    for clock in ["system", "store"] {
        metrics::gauge!("cima_clock_offset_seconds", "of" => clock).set(0.0);
    }
    for what in SHED {
        metrics::counter!("cima_shed_total", "what" => what).increment(0);
    }
}

/// Says how many log lines were left out because one place in the code repeated them.
pub fn tell_left_out() {
    if let Some(limit) = LIMIT.get() {
        limit.tell();
    }
}

/// Buckets of durations, seconds.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of counts.
const COUNTS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// The metrics of this process; the first call starts them.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
                .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_fixes".into()), COUNTS))
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|error| tracing::error!(%error, "there will be no metrics"))
                .ok()
        })
        .as_ref()
}
