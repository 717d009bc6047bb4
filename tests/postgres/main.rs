//! PostgreSQL with PostGIS: what only this backend has to show. `tests/backends.sh` starts a server and runs this.

#![expect(clippy::unwrap_used, reason = "a database that does not answer has failed the test")]

mod cursors;
mod database;
mod geometry;
mod lanes;
mod plans;
mod shapes;
