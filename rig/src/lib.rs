//! The fault rig: real nodes, a real PostgreSQL and a real Redis as processes, on roads that fail on purpose, under phones
//! and contacts who keep books; and a checker that reads the books.
//!
//! Start reading at [`node::Site`] (what a run is made of) and [`books::Books`] (what is known of it in the end). The
//! `cima-rig` program in `main.rs` plays the [`scenario`]s, each a row of the table of faults in README.md; the tests under
//! `rig/tests` use the same parts for what needs a closer look.

#![expect(clippy::unwrap_used, reason = "a process that cannot be started or asked ends the run")]

pub mod background;
pub mod books;
pub mod crowd;
pub mod database;
pub mod dice;
pub mod files;
pub mod front;
pub mod layout;
pub mod ledger;
pub mod listener;
pub mod node;
pub mod phone;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod quiet;
pub mod redis;
pub mod scenario;
pub mod sos;
pub mod table;
