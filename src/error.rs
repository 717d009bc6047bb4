//! What can go wrong between a room and the cellar, said in words a room can act on.

/// Why a store could not do what was asked. The source is kept for the log; a client never sees it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer in time or is not there: the same call may work later.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// What came back cannot be read: a fault in the data or in cima.
    #[error("the store answered something unreadable: {0}")]
    Corrupt(String),
}

/// What a store method returns.
pub type Stored<T> = Result<T, StoreError>;
