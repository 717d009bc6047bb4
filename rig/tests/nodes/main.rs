//! Many nodes as processes of their own, on one database and one Redis, under phones that stream.

#![expect(clippy::unwrap_used, reason = "a server that does not answer has failed the test")]

mod clocks;
mod ends;
mod lane;
mod migrating;
mod outage;
mod promises;
mod readiness;
mod scaling;
mod storm;
mod trace;

/// The whole count with `CIMA_PROVE=1`, a tenth of it otherwise.
fn count(whole: usize) -> usize {
    if proving() { whole } else { whole.div_ceil(10) }
}

fn proving() -> bool {
    std::env::var_os("CIMA_PROVE").is_some()
}
