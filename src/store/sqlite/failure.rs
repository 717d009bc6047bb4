//! The shared mapping, for the modules of this backend.

pub(super) use crate::store::failure::{READ, by, failure, read, result_code, unreadable, unwritable};

use crate::error::StoreError;

pub(super) fn late() -> StoreError {
    StoreError::late()
}
