//! PostgreSQL with PostGIS: what only this backend has to show. `tests/backends.sh` starts a server and runs this.

#![expect(clippy::unwrap_used, reason = "a database that does not answer has failed the test")]

mod cursors;
mod database;
mod geometry;
mod lanes;
mod plans;
mod quiet;
mod shapes;
mod zones;

/// The whole count with `CIMA_PROVE=1`, a tenth of it otherwise.
fn count(whole: usize) -> usize {
    if std::env::var_os("CIMA_PROVE").is_some() { whole } else { whole.div_ceil(10) }
}

/// What random numbers begin with: `CIMA_SEED`, or any; printed, so that it can be given again.
fn seed() -> u64 {
    let given = std::env::var("CIMA_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed =
        given.unwrap_or_else(|| u64::from_le_bytes(database::id().as_bytes()[8..].try_into().unwrap()));
    eprintln!("CIMA_SEED={seed}");
    seed
}
