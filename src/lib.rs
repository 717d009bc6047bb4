//! cima: the open backend for personal safety.
//!
//! A phone streams its fixes over a WebSocket; a tracker evaluates the person's geofences on them and raises alerts;
//! an emergency shows a person's position to the contacts they trust, only while it is active. One rule above all:
//! **fail open for distress, fail closed for disclosure.**
//!
//! The map, from what stands on nothing to what stands on all:
//!
//! - **Base**: [`id`] (identifiers), [`clock`] (time), [`json`] and [`typed`] (what clients and people write), [`geo`] (places),
//!   [`error`] (how the store fails),
//!   [`refusal`] (what every "no" is made of), [`runtime`] (tasks, and the loops they have in common), [`timekeeper`] (the time
//!   of all nodes).
//! - **Messages**: [`bus`] (publish and subscribe between parts and nodes: hints where to look, which may be lost),
//!   [`push`] (hands what is stored to the providers that reach a device, at least once).
//! - **Domains**, each with types, pure rules, a service and a store trait: [`identity`] (accounts, devices, tokens),
//!   [`trust`] (links, who may see whom), [`tracking`] (fixes, fences, transitions), [`alerts`] (inboxes, emergencies,
//!   check-ins).
//! - **Store**: [`store`] (everything that must not be lost).
//! - **Journal**: [`journal`] (the write-ahead log of acked fixes on their way to the store).
//! - **Transports**, which hold no rules: [`http`] (REST), [`stream`] (the WebSocket), in front of [`services`] (the
//!   domains) and [`usecases`] (what takes more than one of them); both say no as a [`problem`].
//! - **Process**: [`app`] (puts it all together), [`role`] (which part of it a node does), [`config`] (settings), [`cli`]
//!   (commands), [`doctor`], [`telemetry`], and [`client`] and [`demo`], which only know the public contract.

pub mod alerts;
pub mod app;
pub mod bus;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod geo;
pub mod http;
pub mod id;
pub mod identity;
pub mod journal;
pub mod json;
pub mod problem;
pub mod push;
pub mod refusal;
pub mod role;
pub mod runtime;
pub mod services;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod timekeeper;
pub mod tracking;
pub mod trust;
pub mod typed;
pub mod usecases;
