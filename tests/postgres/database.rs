//! What every test begins with.

use cima::clock::{Clock, Timestamp};
use cima::store::postgres;
use sqlx::PgConnection;
use uuid::Uuid;

/// When every test begins.
pub(crate) const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

/// A new database with the schema in it.
pub(crate) struct Fresh {
    pub(crate) url: String,
}

pub(crate) async fn fresh() -> Fresh {
    Fresh { url: cima_rig::database::fresh().await }
}

impl Fresh {
    /// A connection beside the store's.
    pub(crate) async fn connect(&self) -> PgConnection {
        cima_rig::database::connect(&self.url).await
    }
    /// The store.
    pub(crate) async fn open(&self) -> postgres::Stores {
        postgres::open(&self.url, Clock::manual(T0)).await.unwrap()
    }
}

/// An id nobody else has.
pub(crate) fn id() -> Uuid {
    cima::id::fresh(&Clock::system())
}
