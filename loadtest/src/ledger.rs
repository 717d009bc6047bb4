//! The ledger of one phone: what it sent, when that was due, and what came back.

use std::time::Duration;
use tokio::time::Instant;

/// What one phone sent and what was acked. Fixes are numbered from 1.
#[derive(Default)]
pub(crate) struct Ledger {
    due: Vec<Instant>,
    acked: usize,
    /// Refused by the server; none should be.
    pub(crate) rejected: usize,
    /// Acks of what was never sent; there must be none.
    pub(crate) impossible: usize,
    /// From due to sent: how late the generator itself was.
    pub(crate) lateness: Vec<Duration>,
    /// From due to acked.
    pub(crate) latency: Vec<Duration>,
}

impl Ledger {
    /// Enters the next fix as sent now.
    pub(crate) fn sent(&mut self, due: Instant, now: Instant) {
        self.due.push(due);
        self.lateness.push(now.saturating_duration_since(due));
    }

    /// Enters an ack of everything up to `seq`; how many fixes it newly covers.
    pub(crate) fn acked(&mut self, seq: i64, now: Instant) -> usize {
        let Some(to) = usize::try_from(seq).ok().filter(|to| *to <= self.due.len()) else {
            self.impossible += 1;
            return 0;
        };
        let newly = self.due.get(self.acked..to).unwrap_or_default();
        self.latency.extend(newly.iter().map(|due| now.saturating_duration_since(*due)));
        let count = newly.len();
        self.acked = self.acked.max(to);
        count
    }

    /// Fixes sent.
    pub(crate) fn sent_count(&self) -> usize {
        self.due.len()
    }
    /// Fixes acked.
    pub(crate) fn acked_count(&self) -> usize {
        self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_covers_all_before_it_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut ledger = Ledger::default();
        for n in 0..3 {
            ledger.sent(start + second * n, start + second * n);
        }
        assert_eq!(ledger.acked(2, start + second * 3), 2);
        assert_eq!(ledger.latency, [second * 3, second * 2]);
        assert_eq!(ledger.acked(2, start + second * 4), 0);
        assert_eq!(ledger.acked(1, start + second * 4), 0);
        assert_eq!((ledger.sent_count(), ledger.acked_count()), (3, 2));
        assert_eq!((ledger.acked(4, start), ledger.impossible), (0, 1));
        assert_eq!((ledger.acked(3, start), ledger.acked_count()), (1, 3));
    }
}
