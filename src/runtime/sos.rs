//! How long an SOS takes, until each place on its way.

use std::time::Duration;

/// A place on the way of an SOS. The time until each counts from when its frame was read, so that one less the one before it is
/// what the stage between them took, and they add up to the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// It is stored, with its alerts and pushes.
    Durable,
    /// A contact who was there has it on their socket.
    Written,
    /// A provider of push was asked to take it to a contact.
    Asked,
    /// The provider took it.
    Accepted,
}

impl Reached {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Durable, Self::Written, Self::Asked, Self::Accepted];

    /// Its name in `cima_sos_seconds`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Written => "written",
            Self::Asked => "asked",
            Self::Accepted => "accepted",
        }
    }

    /// An SOS has got there.
    pub fn after(self, took: Duration) {
        metrics::histogram!("cima_sos_seconds", "until" => self.word()).record(took.as_secs_f64());
    }
}
