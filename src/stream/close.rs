//! How the server closes a socket: every code, what it means and whether to come back, in one table. Each close is made
//! from it, and so is the AsyncAPI document.

use axum::extract::ws::{CloseFrame, Message};

macro_rules! close_codes {
    ($($variant:ident = $number:literal, $name:literal, $meaning:literal, $reconnect:literal;)*) => {
        /// A code of a close frame (RFC 6455, 7.4). Those from 4000 on are cima's own.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum CloseCode {
            $(#[doc = $meaning] $variant,)*
        }

        impl CloseCode {
            /// All of them, as the document lists them.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            pub(super) const fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)* }
            }
            /// Its stable name.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// What happened.
            pub(super) const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
            /// Whether and when a client comes back.
            pub(super) const fn reconnect(self) -> &'static str {
                match self { $(Self::$variant => $reconnect,)* }
            }
        }
    };
}

close_codes! {
    Normal = 1000, "normal", "The client closed and the server answered.", "when wanted";
    GoingAway = 1001, "going_away", "One side is leaving.", "at once, with jitter";
    Policy = 1008, "policy", "Ten malformed frames in a minute.", "not before the client is mended";
    TooLarge = 1009, "too_large", "A frame was over 64 KiB.", "at once, with smaller frames";
    Internal = 1011, "internal", "A fault of the server.", "with backoff and jitter";
    Restart = 1012, "restart", "The node stops; `drain` came before if there was time.", "with jitter";
    Token = 4401, "token", "The token is not valid, or its session ended.", "with a fresh token";
    DeviceRemoved = 4403, "device_removed", "The device was removed.", "never; sign in again";
    SlowConsumer = 4408, "slow_consumer", "The client did not read in time.", "with backoff; `resume` from the last cursor";
    Replaced = 4409, "replaced", "A newer socket of this device sends fixes.", "not while that one is open";
}

impl CloseCode {
    /// A close with this code.
    pub(super) const fn because(self, reason: &'static str) -> Close {
        Close { code: self, reason }
    }
}

/// A close by the server: its code, and the reason for whoever reads a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Close {
    code: CloseCode,
    reason: &'static str,
}

impl From<Close> for Message {
    fn from(close: Close) -> Self {
        Self::Close(Some(CloseFrame { code: close.code.number(), reason: close.reason.into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let numbers: Vec<u16> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [1000, 1001, 1008, 1009, 1011, 1012, 4401, 4403, 4408, 4409]);
    }

    #[test]
    fn a_close_says_its_code_and_its_reason() {
        let close = CloseCode::Token.because("the session ended");
        let Message::Close(Some(frame)) = Message::from(close) else { panic!("no close frame") };
        assert_eq!((frame.code, frame.reason.as_str()), (4401, "the session ended"));
    }

    /// A close that is made elsewhere could have a code that no document tells.
    #[test]
    fn no_close_frame_is_made_elsewhere() {
        for (file, source) in [
            ("connection.rs", include_str!("connection.rs")),
            ("effects.rs", include_str!("effects.rs")),
            ("upgrade.rs", include_str!("upgrade.rs")),
        ] {
            assert!(!source.contains("CloseFrame"), "{file} makes a close frame");
        }
    }
}
