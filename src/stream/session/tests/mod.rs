//! Sessions without a socket, a server or a sleep: inputs go in at given moments, a pretended node answers what is asked,
//! and what comes out is written down in order.

mod ends;
mod fixes;
mod frames;
mod inbox;
mod liveness;
mod node;
mod positions;
mod rig;
mod words;
