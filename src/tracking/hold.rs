//! The right to store what a tracker finds, as the tracker and the engine that stores share it.

use super::FoldToken;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const HELD: u8 = 0;
const LOST_QUIETLY: u8 = 1;
const LOST_WITH_NEWS: u8 = 2;

/// A token, and whether the store still takes it.
#[derive(Clone, Debug)]
pub struct Hold {
    token: FoldToken,
    state: Arc<AtomicU8>,
}

/// What became of a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Nothing else is known.
    Yes,
    /// Another node has the fold, and nothing that was found here is missing there.
    Elsewhere,
    /// Another node has the fold, and something was found here that may be missing there.
    Missing,
}

impl Hold {
    /// What was just taken.
    pub fn new(token: FoldToken) -> Self {
        Self { token, state: Arc::default() }
    }

    /// The token that the store is shown.
    pub fn token(&self) -> FoldToken {
        self.token
    }

    /// The store has refused the token. `news`: with something that was found.
    pub fn lose(&self, news: bool) {
        self.state.fetch_max(if news { LOST_WITH_NEWS } else { LOST_QUIETLY }, Ordering::Relaxed);
    }

    /// Whether the store still takes the token, as far as is known here.
    pub fn state(&self) -> Held {
        match self.state.load(Ordering::Relaxed) {
            HELD => Held::Yes,
            LOST_QUIETLY => Held::Elsewhere,
            _ => Held::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_with_news_stays_so() {
        let hold = Hold::new(FoldToken(7));
        let other = hold.clone();
        assert_eq!(hold.state(), Held::Yes);
        other.lose(false);
        assert_eq!(hold.state(), Held::Elsewhere);
        other.lose(true);
        other.lose(false);
        assert_eq!((hold.state(), hold.token()), (Held::Missing, FoldToken(7)));
    }
}
