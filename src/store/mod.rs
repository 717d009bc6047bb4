//! The cellar: everything that must not be lost, behind the store traits of the rooms.
//!
//! A store method is one use case: atomic, promised in its trait's comment, and held to that promise on every
//! backend by `tests/store_contract.rs`: [`sqlite`], the embedded default, and [`postgres`], for many nodes.
//!
//! No SQL leaves this module, and no room's rule is in it: a store finds, counts and keeps, and decides only what
//! has to be decided inside a transaction (who is a contact at this moment, whether an id is new).

mod cellar;
pub mod postgres;
pub mod sqlite;

pub use cellar::{Durability, Place, Stores, migrate, open};

pub use crate::error::{StoreError, Stored};

use std::time::Duration;

/// How long it is told where zones changed: a node that has not asked for so long looks everywhere.
const CHANGES_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What is left of an account's id after a deletion, so that nobody takes the place of somebody forgotten.
fn retired_mark(user: crate::id::UserId) -> [u8; 16] {
    crate::id::derived("retired_account", &[user.0.as_bytes()]).into_bytes()
}
