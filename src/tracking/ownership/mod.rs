//! Which node owns a device. The owner evaluates its fixes and stores what it finds, whichever node the phone comes to.
//!
//! `store` hands out a fencing token with every taking of a device and refuses what comes with an older one. An
//! [`Ownership`] is that token as a tracker and the engine share it, with what the store said of it last.

mod store;

pub use store::{FORGOTTEN_AFTER_S, FencingToken, Orphan, OwnershipStore, Taken};

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OURS: u8 = 0;
const LOST_QUIETLY: u8 = 1;
const LOST_WITH_NEWS: u8 = 2;

/// The fencing token of a device, and whether the store still takes it.
#[derive(Clone, Debug)]
pub struct Ownership {
    token: FencingToken,
    state: Arc<AtomicU8>,
}

/// Which node owns a device, as far as is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This one, unless the store says otherwise at the next batch.
    ThisNode,
    /// Another one, and nothing that was found here was refused.
    Another,
    /// Another one, and the store refused something that was found here: the other node may not have found it.
    AnotherMissesNews,
}

impl Ownership {
    /// Of a device that was just taken.
    pub fn new(token: FencingToken) -> Self {
        Self { token, state: Arc::default() }
    }

    /// The token that the store is shown.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// The store has refused the token. `news`: together with something that was found.
    pub fn lose(&self, news: bool) {
        self.state.fetch_max(if news { LOST_WITH_NEWS } else { LOST_QUIETLY }, Ordering::Relaxed);
    }

    /// Which node owns the device, as far as is known here.
    pub fn owner(&self) -> Owner {
        match self.state.load(Ordering::Relaxed) {
            OURS => Owner::ThisNode,
            LOST_QUIETLY => Owner::Another,
            _ => Owner::AnotherMissesNews,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_with_news_stays_so() {
        let ownership = Ownership::new(FencingToken(7));
        let other = ownership.clone();
        assert_eq!(ownership.owner(), Owner::ThisNode);
        other.lose(false);
        assert_eq!(ownership.owner(), Owner::Another);
        other.lose(true);
        other.lose(false);
        assert_eq!((ownership.owner(), ownership.token()), (Owner::AnotherMissesNews, FencingToken(7)));
    }
}
