//! What can go wrong between a domain and the store: a kind to act on, and the source for the log.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// What kind of failure it is; what a caller does next depends on this alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is there and cannot take the call now: locked, full, read-only, out of connections.
    Busy,
    /// It undid the call in favour of another one: the same again may do.
    Conflict,
    /// It did not answer before the deadline. What was written may be stored all the same.
    Timeout,
    /// It is not there: no connection, a connection that ended, a file that cannot be opened, or it was closed.
    Gone,
    /// What came back cannot be read, or what was asked cannot be done: a fault in the data or in cima. The same again
    /// fails again.
    Corrupt,
}

/// Why a store could not do what was asked. A client never sees its text.
pub struct StoreError {
    kind: Fault,
    what: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure that says itself what happened.
    pub fn new(kind: Fault, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// A failure that another one led to. `what` has to hold no value of a row.
    pub fn caused(
        kind: Fault,
        what: impl Into<Cow<'static, str>>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, what: what.into(), source: Some(Box::new(source)) }
    }

    /// What no answer before the deadline is.
    pub fn late() -> Self {
        Self::new(Fault::Timeout, "no answer before the deadline")
    }

    /// Its kind.
    pub fn kind(&self) -> Fault {
        self.kind
    }

    /// Whether the same call may work later; otherwise it fails however often it is tried.
    pub fn is_passing(&self) -> bool {
        self.kind != Fault::Corrupt
    }

    /// The failure behind it, if it is of this type.
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.source.as_deref()?.downcast_ref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Fault::Busy => "the store cannot take it now",
            Fault::Conflict => "the store undid it in favour of another call",
            Fault::Timeout => "the store did not answer in time",
            Fault::Gone => "the store is not there",
            Fault::Corrupt => "the store answered something unreadable",
        };
        write!(f, "{kind}: {}", self.what)
    }
}

/// As it is displayed: the debug form of a driver's error may quote a row.
impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({self})")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What a store method returns.
pub type Stored<T> = Result<T, StoreError>;
