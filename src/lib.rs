//! cima: the open backend for personal safety.
pub mod alerts;
pub mod bus;
pub mod clock;
pub mod error;
pub mod geo;
pub mod id;
pub mod identity;
pub mod runtime;
pub mod services;
pub mod tracking;
pub mod trust;
