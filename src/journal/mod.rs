//! The journal: the node's own log in front of the store of fixes. What a phone was told is safe is in it.
//!
//! A store pays for every page that it changes, and each phone's fixes live on pages of their own. The journal pays for
//! bytes: a group of fixes is appended to one file and synced, then acked. What was appended is also kept in memory
//! (`pending`), where reads find it, until a sorted heap of it is written to the store at once and its file is
//! overwritten and removed. While the store does not answer, fixes are safe here and phones notice nothing.
//!
//! [`Journal`] is itself a [`crate::tracking::FixStore`], so nobody above knows of it.

mod append;
mod coding;
mod flush;
mod pending;
mod reads;
mod segment;

pub use append::{Journal, Limits};
