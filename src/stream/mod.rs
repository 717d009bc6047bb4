//! The stream: the WebSocket door, `GET /v1/stream`. One actor task per socket; a socket is a person's device.
//!
//! [`protocol`](protocol::ServerFrame) is the frames, `mailbox` what waits for a socket (bounded by its shape: flags
//! and newest values, never a queue), `registry` who is connected and who watches whom, `actor` the loop. [`document`]
//! is what the AsyncAPI document says of all that, made of the frames' own types.

mod actor;
mod document;
mod examples;
mod fixes;
mod lane;
mod mailbox;
mod poll;
mod protocol;
mod registry;
mod upgrade;
mod watch;

pub use document::document;
pub use poll::start_poll;
pub use protocol::{ClientFrame, FrameError, ServerFrame};
pub use registry::Registry;
pub use upgrade::{Stream, StreamSettings};
