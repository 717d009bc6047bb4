//! The stream: the WebSocket transport, `GET /v1/stream`. A socket is a person's device.
//!
//! From the wire inwards:
//!
//! - `upgrade`: from an HTTP request to a socket: who it is, and with what buffers.
//! - `connection`: the task that owns one socket; `effects` carries out what its session asks for, against the services.
//!   `lane` takes raises and ends past everything else, `parked` keeps what is read meanwhile.
//! - `session`: what a socket says and does, as a state machine without a socket.
//! - [`protocol`](ServerFrame): the frames. `close`: the codes that close a socket. [`document`]: the AsyncAPI document,
//!   made of both.
//! - `mailbox`: what waits for a socket, bounded by its shape: flags and newest values, never a queue. `registry`: who is
//!   connected to this node and who watches whom. `router` puts what the bus says into mailboxes, `poll` what it may have lost.

mod close;
mod connection;
mod document;
mod effects;
mod lane;
mod mailbox;
mod parked;
mod poll;
mod protocol;
mod registry;
mod router;
mod session;
mod upgrade;

pub use document::document;
pub use poll::start_poll;
pub use protocol::{ClientFrame, FrameError, ServerFrame};
pub use registry::Registry;
pub use upgrade::{Stream, StreamSettings};
