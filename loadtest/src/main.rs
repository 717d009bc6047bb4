//! Load on a cima server, measured beside a bare WebSocket sink on the same machine in the same run.

mod compare;
mod frames;
mod gates;
mod idle;
mod ledger;
mod people;
mod progress;
mod report;
mod server;
mod sink;
mod steady;
mod throughput;
mod tracks;

use anyhow::Context;
use clap::{Parser, Subcommand};
use report::Report;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load on a cima server, and beside it a bare WebSocket sink to measure it against.
///
/// Starts the server itself, on a free port and in a temporary data folder. Progress goes to standard error, the
/// report to standard output and, with --out, to report.md and report.json. Exit code 1: a fix or an alert is missing.
#[derive(Parser)]
#[command(name = "cima-loadtest", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Open-loop phones on a real track: time to the ack and to the contact's alert, and a ledger of every fix.
    Steady,
    /// Memory of idle sockets, over the empty server.
    Idle,
    /// Durable fixes per second at a window of unacked fixes, as a ratio to the sink.
    Throughput,
    /// All of them, one after the other.
    All,
    /// This cima and another one, such as the release before, in turns: the ratio of their figures.
    Compare {
        /// The other cima program.
        other: PathBuf,
        /// How often each is measured.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
        turns: u32,
    },
    /// The bare sink itself, which the other commands start as a process of its own.
    #[command(hide = true)]
    Sink {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// What a run is like.
#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Phones, each with its own person, device and socket.
    #[arg(long, global = true, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    sockets: u32,
    /// Seconds of the steady load.
    #[arg(long, global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: u64,
    /// Steady load: fixes per second of each phone.
    #[arg(long, global = true, default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Throughput: fixes that each socket keeps unacked.
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=512))]
    window: u32,
    /// Throughput: fixes of one frame; every one of these is measured.
    #[arg(long, global = true, value_delimiter = ',', default_values_t = [1, 8], value_parser = clap::value_parser!(u32).range(1..=200))]
    batch: Vec<u32>,
    /// Throughput: rounds of each server, taken in turns.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Throughput: seconds of one round, after 5 of warm-up.
    #[arg(long, global = true, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=300))]
    round_seconds: u64,
    /// Idle: seconds before memory is read again; more than the server's 20 s heartbeat, so that it is in the figure.
    #[arg(long, global = true, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=300))]
    settle: u64,
    /// Tracks to replay, as GPX with times, in turns [default: the recorded ride of cima's demo].
    #[arg(long, global = true)]
    track: Vec<PathBuf>,
    /// The cima program [default: the `cima` beside this program].
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// A folder for report.md and report.json.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if (0.1..=100.0).contains(&rate) { Ok(rate) } else { Err("0.1 to 100".into()) }
}

impl Options {
    fn sockets(&self) -> usize {
        self.sockets as usize
    }
    fn server(&self) -> anyhow::Result<PathBuf> {
        let server = match &self.server {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("cima"),
        };
        let built = "build it (cargo build --release --workspace) or name it with --server";
        anyhow::ensure!(server.is_file(), "{} is not there; {built}", server.display());
        Ok(server)
    }
}

// Two threads: the machines that cima is measured on have few cores, and the server needs them too.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cima-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let options = cli.options;
    if let Command::Sink { listen } = cli.command {
        return sink::serve(listen).await.map(|()| ExitCode::SUCCESS);
    }
    cima_rig::files::check_open_files(options.sockets())?;
    if let Command::Compare { other, turns } = cli.command {
        let found = Box::pin(compare::run(&options, other, turns)).await?;
        written(&options, &found.markdown(), &found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::of_this_machine(&options.server()?)?;
    let all = matches!(cli.command, Command::All);
    if all || matches!(cli.command, Command::Steady) {
        report.steady = Some(Box::pin(steady::run(&options)).await.context("steady load")?);
    }
    if all || matches!(cli.command, Command::Idle) {
        report.idle = Some(Box::pin(idle::run(&options)).await.context("idle sockets")?);
    }
    if all || matches!(cli.command, Command::Throughput) {
        report.throughput = Box::pin(throughput::run(&options)).await.context("throughput")?;
    }
    written(&options, &report.markdown(), &report)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report, to standard output and where `--out` says.
fn written(options: &Options, markdown: &str, report: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{markdown}");
    if let Some(folder) = &options.out {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.md"), markdown)?;
        std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)?)?;
    }
    Ok(())
}
