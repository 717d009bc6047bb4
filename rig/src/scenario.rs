//! The faults, each with what must hold under it: a row of the table.
//!
//! A scenario sets a [`Stage`], lets phones stream and people raise on it, does what it does to it, waits until all is quiet,
//! and reads the books. Limits are those of the full run; a smoke run has a tenth of the counts, a program with debug
//! assertions and two cores that do other things as well, and ten times the time.

mod clocks;
mod floods;
mod idle;
mod kills;
mod migrating;
mod plain;
mod readiness;
mod rolling;
mod stage;
mod storms;

pub use stage::Stage;

use crate::table::Row;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// On what a scenario is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Nodes with PostgreSQL and Redis.
    Scaled,
    /// One node on its own files.
    Embedded,
}

impl On {
    /// As the table has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scaled => "PostgreSQL + Redis",
            Self::Embedded => "embedded",
        }
    }
}

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Scale {
    /// The whole counts, with the limits as they are; otherwise a tenth of the counts and ten times the limits.
    pub full: bool,
    /// What chance follows from.
    pub seed: u64,
}

impl Scale {
    /// A tenth of it, in a smoke run.
    pub const fn count(&self, whole: usize) -> usize {
        if self.full { whole } else { whole.div_ceil(10) }
    }
    /// A limit on a time, in its unit.
    pub fn limit(&self, whole: f64) -> f64 {
        if self.full { whole } else { whole * 10.0 }
    }
    /// How long something goes on.
    pub const fn lasting(&self, whole: Duration, smoke: Duration) -> Duration {
        if self.full { whole } else { smoke }
    }
    /// Fixes a second that all phones send together meanwhile.
    pub const fn fixes_per_second(&self) -> usize {
        self.count(500)
    }
}

type Play = for<'a> fn(&'a Scale, On) -> BoxFuture<'a, anyhow::Result<Row>>;

/// A fault that can be played.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// On what.
    pub on: On,
    /// Part of the smoke run.
    pub smoke: bool,
    play: Play,
}

impl Scenario {
    /// Plays it. What cannot be played is a row too.
    pub async fn play(&self, scale: &Scale) -> Row {
        let (play, on, owned) = (self.play, self.on, scale.clone());
        let played = tokio::spawn(async move { play(&owned, on).await }).await;
        let failed = match played {
            Ok(Ok(row)) => return row,
            Ok(Err(error)) => format!("could not be played: {error:#}"),
            Err(panic) => format!("could not be played: {panic}"),
        };
        Row { failed: Some(failed), ..Row::new(self.name, self.on.word()) }
    }
}

const fn scenario(name: &'static str, on: On, smoke: bool, play: Play) -> Scenario {
    Scenario { name, on, smoke, play }
}

/// All of them, in the order of the table.
pub const ALL: &[Scenario] = &[
    scenario("none", On::Scaled, true, |s, on| Box::pin(plain::none(s, on))),
    scenario("none-embedded", On::Embedded, false, |s, on| Box::pin(plain::none(s, on))),
    scenario("redis-away", On::Scaled, true, |s, _| Box::pin(storms::redis_away(s))),
    scenario("postgres-restart", On::Scaled, false, |s, _| Box::pin(storms::postgres_restarted(s))),
    scenario("migrate", On::Scaled, true, |s, _| Box::pin(migrating::beside_a_dump(s))),
    scenario("rolling-restart", On::Scaled, true, |s, _| Box::pin(rolling::restarted(s))),
    scenario("node-killed", On::Scaled, true, |s, _| Box::pin(kills::tracking(s))),
    scenario("killed-embedded", On::Embedded, true, |s, _| Box::pin(kills::embedded(s))),
    scenario("fix-flood", On::Scaled, false, |s, on| Box::pin(floods::fixes(s, on))),
    scenario("fix-flood-embedded", On::Embedded, false, |s, on| Box::pin(floods::fixes(s, on))),
    scenario("logins", On::Scaled, false, |s, on| Box::pin(floods::logins(s, on))),
    scenario("logins-embedded", On::Embedded, false, |s, on| Box::pin(floods::logins(s, on))),
    scenario("own-window", On::Scaled, true, |s, on| Box::pin(floods::own_window(s, on))),
    scenario("own-window-embedded", On::Embedded, false, |s, on| Box::pin(floods::own_window(s, on))),
    scenario("claim-loop", On::Scaled, false, |s, on| Box::pin(floods::claims(s, on))),
    scenario("claim-loop-embedded", On::Embedded, false, |s, on| Box::pin(floods::claims(s, on))),
    scenario("idle", On::Scaled, false, |s, _| Box::pin(idle::nothing_to_do(s))),
    scenario("not-ready", On::Scaled, false, |s, _| Box::pin(readiness::of_the_database(s))),
    scenario("disk-full-embedded", On::Embedded, false, |s, _| Box::pin(readiness::of_a_full_disk(s))),
    scenario("clocks", On::Scaled, false, |s, _| Box::pin(clocks::of_nodes(s))),
    scenario("clock-set-embedded", On::Embedded, false, |s, _| Box::pin(clocks::embedded(s))),
    scenario("shaken", On::Scaled, true, |s, _| Box::pin(kills::shaken(s))),
];
