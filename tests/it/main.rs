//! The real server, real sockets: every test starts its own node on port 0 and speaks the public contract.

#![expect(clippy::unwrap_used, reason = "a server that does not answer has failed the test")]

mod any_client;
mod bad_input;
mod check_ins;
mod drain;
mod duress;
mod dwell;
mod emergencies;
mod export;
mod fences;
mod harness;
mod history;
mod identity;
mod kill;
mod names;
mod operations;
mod phones;
mod poison;
mod push;
mod retention;
mod sockets;
mod stored;
mod visibility;
mod zones;
