//! The mechanisms of recovery that a test can switch off, to see that it fails without them.
//!
//! `CIMA_WITHOUT` names them, separated by commas, and is read only by a build with debug assertions: in a release all of
//! them always work.

use std::str::FromStr;
use std::sync::OnceLock;

/// A mechanism of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// A node looks whether its own messages come back over Redis.
    BusProbe,
    /// A raise on a socket passes by what the socket is doing.
    SocketLane,
    /// What people are told is read over connections of its own.
    ToldPool,
    /// A step of a migration waits for its locks only a moment, and is tried again.
    ShortLocks,
    /// A node looks whether it could store an emergency.
    ReadinessProbe,
    /// After lost hints a node looks for all of its sockets at once.
    PacedResync,
    /// A node goes by the store's clock, and what is due moves when that is set.
    StoreClock,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BusProbe,
        Self::SocketLane,
        Self::ToldPool,
        Self::ShortLocks,
        Self::ReadinessProbe,
        Self::PacedResync,
        Self::StoreClock,
    ];

    /// Its name in `CIMA_WITHOUT`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BusProbe => "bus-probe",
            Self::SocketLane => "socket-lane",
            Self::ToldPool => "told-pool",
            Self::ShortLocks => "short-locks",
            Self::ReadinessProbe => "readiness-probe",
            Self::PacedResync => "paced-resync",
            Self::StoreClock => "store-clock",
        }
    }

    /// Whether it is on.
    pub fn works(self) -> bool {
        static OFF: OnceLock<Vec<Mechanism>> = OnceLock::new();
        !cfg!(debug_assertions) || !OFF.get_or_init(switched_off).contains(&self)
    }
}

impl FromStr for Mechanism {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mechanism| mechanism.word() == word).ok_or(())
    }
}

fn switched_off() -> Vec<Mechanism> {
    let words = std::env::var("CIMA_WITHOUT").unwrap_or_default();
    let named = words.split(',').filter(|word| !word.is_empty()).filter_map(|word| match word.parse() {
        Ok(mechanism) => Some(mechanism),
        Err(()) => {
            tracing::error!(word, "CIMA_WITHOUT names no mechanism of this build");
            None
        }
    });
    let off: Vec<Mechanism> = named.collect();
    if !off.is_empty() {
        tracing::warn!(?off, "mechanisms of recovery are switched off for a test");
    }
    off
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_a_word_of_its_own_and_works() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.word().parse(), Ok(mechanism));
            assert!(mechanism.works());
        }
        assert_eq!("nothing".parse::<Mechanism>(), Err(()));
    }
}
