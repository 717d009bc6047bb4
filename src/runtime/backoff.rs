//! The pause between tries: it doubles up to a bound, and is spread, so that many who failed together do not come back
//! together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The pauses of one who tries again.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Pauses of at most `first`, then twice that, and so on; never of more than `most`.
    pub const fn between(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The next pause: between half of what the number of tries comes to and all of it.
    pub fn pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * spread())
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    /// It worked: the next pause is the first again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Any number from 0 to 1. The keys of the standard library's hash maps are random.
fn spread() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_precision_loss, reason = "a spread needs no precision")]
    let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_are_spread_and_begin_again() {
        let (first, most) = (Duration::from_millis(200), Duration::from_secs(2));
        let mut backoff = Backoff::between(first, most);
        for whole in [200, 400, 800, 1_600, 2_000, 2_000].map(Duration::from_millis) {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
        for _ in 0..100 {
            assert!(backoff.pause() <= most, "it never overflows");
        }
        let pauses: Vec<Duration> = (0..8).map(|_| backoff.pause()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "not all at once");
    }
}
