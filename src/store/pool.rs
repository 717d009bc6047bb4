//! Which connections a call takes.

use crate::alerts::Lane;
use crate::runtime::Mechanism;

/// Connections that calls of one kind have to themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pool {
    /// Everybody's calls.
    Routine,
    /// What people are told and shown: inboxes, the emergencies they have part in, and who may see whom. No routine call
    /// stands in front of it, and it stands in front of no raise.
    Told,
    /// What changes emergencies.
    Emergency,
}

impl Pool {
    /// For what people are told.
    pub(super) fn told() -> Self {
        if Mechanism::ToldPool.works() { Self::Told } else { Self::Routine }
    }

    /// The queue in front of a store's one writer.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Routine | Self::Told => Lane::Routine,
            Self::Emergency => Lane::Emergency,
        }
    }
}

impl From<Lane> for Pool {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Routine => Self::Routine,
            Lane::Emergency => Self::Emergency,
        }
    }
}
