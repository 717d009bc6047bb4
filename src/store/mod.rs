//! The cellar: everything that must not be lost, behind the store traits of the rooms.
//!
//! A store method is one use case: atomic, promised in its trait's comment, and held to that promise on every
//! backend by `tests/store_contract.rs`. Today there is one backend, [`sqlite`], the embedded default.
//!
//! No SQL leaves this module, and no room's rule is in it: a store finds, counts and keeps, and decides only what
//! has to be decided inside a transaction (who is a contact at this moment, whether an id is new).

mod cellar;
pub mod sqlite;

pub use cellar::{Place, Stores, open};

pub use crate::error::{StoreError, Stored};
