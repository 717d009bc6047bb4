//! The frames of a stream, as the contract names them: `client` what is read, `server` what is written.

mod client;
mod server;

pub use client::{ClientFrame, FrameError};
pub(super) use client::{End, FixesFrame, GivenFix, Plain};
pub(super) use server::PlainFrame;
pub use server::ServerFrame;
