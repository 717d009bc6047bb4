//! A bound on what one place in the code may log, so that a fault which ten thousand sockets meet at once does not fill a
//! disk, and hides nothing else.

use dashmap::DashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one place in a while.
const LINES: u32 = 20;
/// The while.
const WHILE: Duration = Duration::from_secs(10);
/// What is set aside is told by its ids, each of them once: that is the only trace of it. What was left out is told from here.
const ALWAYS: [&str; 2] = ["cima::runtime::refusal", module_path!()];

/// Counts what each place logs.
#[derive(Clone, Default)]
pub(super) struct Limit(Arc<DashMap<Identifier, Place>>);

struct Place {
    since: Instant,
    lines: u32,
    left_out: u64,
    /// The module and the line.
    name: (&'static str, u32),
}

impl Limit {
    fn lets_through(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        // Whoever asks for more than `info` wants all of it.
        if *metadata.level() > Level::INFO || ALWAYS.contains(&metadata.target()) {
            return true;
        }
        let new = || Place {
            since: now,
            lines: 0,
            left_out: 0,
            name: (metadata.target(), metadata.line().unwrap_or_default()),
        };
        let mut place = self.0.entry(metadata.callsite()).or_insert_with(new);
        if now.saturating_duration_since(place.since) >= WHILE {
            (place.since, place.lines) = (now, 0);
        }
        place.lines += 1;
        let passes = place.lines <= LINES;
        place.left_out += u64::from(!passes);
        passes
    }

    /// How much of each place was left out since this was asked last.
    fn take_left_out(&self) -> Vec<((&'static str, u32), u64)> {
        let places = self.0.iter_mut().filter(|place| place.left_out > 0);
        places.map(|mut place| (place.name, std::mem::take(&mut place.left_out))).collect()
    }

    /// Tells how much was left out.
    pub(super) fn tell(&self) {
        for ((module, line), left_out) in self.take_left_out() {
            metrics::counter!("cima_log_lines_left_out_total").increment(left_out);
            tracing::warn!(module, line, left_out, "more lines of this place were left out");
        }
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.lets_through(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_place_logs_so_much_and_the_rest_is_counted_and_told() {
        let (limit, lines) = (Limit::default(), Lines::default());
        let logs = tracing_subscriber::registry().with(limit.clone()).with(lines.clone());
        tracing::subscriber::with_default(logs, || {
            for _ in 0..1_000 {
                tracing::warn!("a store is away");
            }
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES);
            tracing::warn!("another place");
            for _ in 0..100 {
                tracing::error!(target: "cima::runtime::refusal", "set aside");
                tracing::debug!("asked for");
            }
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES + 201);
            limit.tell();
            limit.tell();
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES + 202, "it is told once");
        });
    }

    #[test]
    fn a_place_is_heard_again_after_a_while() {
        let (limit, lines) = (Limit::default(), Lines::default());
        let logs = tracing_subscriber::registry().with(limit.clone()).with(lines.clone());
        let often = || (0..LINES + 10).for_each(|_| tracing::warn!("often"));
        tracing::subscriber::with_default(logs, || {
            often();
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES);
            limit.0.iter_mut().for_each(|mut place| place.since -= WHILE);
            often();
            assert_eq!(lines.0.load(Ordering::Relaxed), LINES * 2);
        });
        let left_out: Vec<u64> = limit.take_left_out().into_iter().map(|(_, count)| count).collect();
        assert_eq!(left_out, [20]);
    }
}
