//! `cima-rig`: plays the faults and shows the table.

use anyhow::{Context, bail, ensure};
use cima_rig::crowd::people::{self, be};
use cima_rig::scenario::{ALL, Scale, Scenario};
use cima_rig::table::{self, Row};
use clap::Parser;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The priority of phones and contacts; nodes get the usual one.
const PRIORITY: &str = "-5";
/// Plays faults on real nodes, a real PostgreSQL and a real Redis, and tells what came of everything that was acked.
///
/// The program that is tried is the `cima` beside this one, or CIMA_RIG_PROGRAM. PostgreSQL and Redis are started from what
/// Debian's packages installed (`tests/backends.sh true` installs them).
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Names of faults; all of them if there is none. `list` shows them.
    faults: Vec<String>,
    /// The whole counts, with the limits as they are. A smoke run has a tenth of the counts and ten times the limits.
    #[arg(long)]
    full: bool,
    /// What chance follows from; a run with the same seed throws the same dice.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes the rows as JSON into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the table into this file, between its marks.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What this program starts of itself.
#[derive(clap::Subcommand)]
enum Part {
    /// A part of a crowd.
    #[command(hide = true)]
    Crowd(people::Part),
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Part::Crowd(part)) = arguments.part {
        runtime()?.block_on(be(part))?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.faults == ["list"] {
        for scenario in ALL {
            let smoke = if scenario.smoke { "smoke, full" } else { "full" };
            writeln!(std::io::stdout(), "{:<22} {:<20} {smoke}", scenario.name, scenario.on.word())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments)?;
    take_what_is_needed();
    // A scenario that panics is a row that says why.
    std::panic::set_hook(Box::new(|_| ()));
    let rows = runtime()?.block_on(play(&arguments, &chosen))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)
            .with_context(|| file.display().to_string())?;
    }
    Ok(if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<&'static Scenario>> {
    if arguments.faults.is_empty() {
        return Ok(ALL.iter().filter(|scenario| arguments.full || scenario.smoke).collect());
    }
    let named = |name: &String| {
        let found = ALL.iter().find(|scenario| scenario.name == name);
        found.with_context(|| format!("there is no fault `{name}`: `cima-rig list` shows them"))
    };
    arguments.faults.iter().map(named).collect()
}

/// Phones and contacts are to be on time when nodes take all there is, and a crowd needs many open files.
fn take_what_is_needed() {
    let own = std::process::id().to_string();
    // Without the right to it the figures are a little worse; files that are missing are told where a crowd gathers.
    let _ = Command::new("renice").args(["-n", PRIORITY, "-p", &own]).output();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(hard) = files.and_then(|line| line.split_whitespace().nth(1)) {
        let _ = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={hard}:")]).output();
    }
}

async fn play(arguments: &Arguments, chosen: &[&Scenario]) -> anyhow::Result<Vec<Row>> {
    if arguments.full && cfg!(debug_assertions) {
        bail!("a full run measures: build with --release");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = arguments.seed.unwrap_or(u64::from(now.subsec_nanos()));
    let scale = Scale { full: arguments.full, seed };
    let (mut out, began) = (std::io::stdout(), Instant::now());
    writeln!(out, "{} faults, seed {seed}", chosen.len())?;
    let mut rows = Vec::new();
    for (n, scenario) in chosen.iter().enumerate() {
        writeln!(out, "[{}/{}] {} ...", n + 1, chosen.len(), scenario.name)?;
        let one = Instant::now();
        let row = scenario.play(&scale).await;
        writeln!(out, "{} ({:.0} s)", table::line(&row), one.elapsed().as_secs_f64())?;
        rows.push(row);
    }
    let held = rows.iter().filter(|row| row.holds()).count();
    writeln!(out, "{held} of {} hold, seed {seed}, {:.0} s", rows.len(), began.elapsed().as_secs_f64())?;
    if let Some(file) = &arguments.write {
        ensure!(arguments.full, "only a full run is written down");
        let cores = std::thread::available_parallelism()?;
        let under =
            format!("Seed {seed}; {cores} cores for phones, contacts, nodes, PostgreSQL and Redis together.");
        table::write_into(file, &rows, &under)?;
    }
    Ok(rows)
}
