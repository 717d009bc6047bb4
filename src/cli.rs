//! The command line.

mod zones;

use crate::app::Node;
use crate::clock::Clock;
use crate::config::{Config, table};
use crate::store;
use crate::telemetry::{LogFormat, start_logs};
use crate::{demo, doctor};
use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The open backend for personal safety.
#[derive(Parser)]
#[command(name = "cima", version, about, long_about = None)]
struct Cli {
    /// How logs are written.
    #[arg(long, global = true, env = "CIMA_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged, for example `info,cima::stream=debug`.
    #[arg(long, global = true, env = "CIMA_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Config),
    /// Check that this machine can run the server, and say what to do where it cannot.
    Doctor(Config),
    /// Show cima at work: a real track, two fences, a contact, an SOS.
    Demo(demo::Options),
    /// Bring the schema of the database up to date; running servers go on meanwhile.
    Migrate(Config),
    /// Send again the pushes that were given up; a running server takes them up within a second.
    Replay(Config),
    /// Import, list and remove public zones: people are told when they enter one.
    #[command(subcommand)]
    Zones(zones::Zones),
    /// Print the table of all settings, as it is in README.md.
    Settings,
    /// Ask a running server whether it is ready; for container health checks.
    Healthcheck {
        /// Where the server listens.
        #[arg(long, env = "CIMA_LISTEN", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
}

/// Runs the command line.
///
/// # Errors
/// When a command cannot be carried out; the message is for the person who gave it.
pub async fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let filter = match cli.command {
        Command::Demo(_) if cli.log == "info" => "warn",
        _ => &cli.log,
    };
    start_logs(cli.log_format, filter);
    match cli.command {
        Command::Serve(config) => serve(&config).await,
        Command::Doctor(config) => Ok(doctor::run(&config).await),
        Command::Demo(options) => demo::run(options).await,
        Command::Migrate(config) => migrate(&config).await,
        Command::Replay(config) => replay(&config).await,
        Command::Zones(options) => zones::run(&options).await,
        Command::Settings => {
            print!("{}", table());
            Ok(ExitCode::SUCCESS)
        }
        Command::Healthcheck { listen } => healthcheck(listen).await,
    }
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let node = Node::start(config, Clock::system()).await?;
    tracing::info!(role = %config.role, listen = %node.addr, data_dir = %config.data_dir.display(), "cima serves");
    // A line that a script can wait for, whatever the log level.
    println!("cima listens on http://{}", node.addr);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let failed = node.failed();
    let fault = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        () = failed.cancelled() => node.fault(),
    };
    tracing::info!("stopping: sockets are told and closed; a second signal ends at once");
    let clean = tokio::select! {
        clean = node.stop() => clean,
        _ = term.recv() => false,
        _ = int.recv() => false,
    };
    if let Some(task) = fault {
        bail!("the task `{task}` ended, and without it this is no node; see the log above");
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let backend = config.backend();
    store::migrate(&backend, Clock::system())
        .await
        .with_context(|| format!("{backend} was left as it was"))?;
    println!("{backend} is up to date");
    Ok(ExitCode::SUCCESS)
}

async fn replay(config: &Config) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    let backend = config.backend();
    let stores =
        store::open(&backend, clock.clone()).await.with_context(|| format!("{backend} cannot be opened"))?;
    let replayed = stores.push.replay_pushes(clock.now()).await;
    stores.close().await;
    println!("{} pushes are due again", replayed?);
    Ok(ExitCode::SUCCESS)
}

async fn healthcheck(listen: SocketAddr) -> anyhow::Result<ExitCode> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build()?;
    let url = format!("http://{listen}/readyz");
    let answer = client.get(&url).send().await.with_context(|| format!("nothing answers at {url}"))?;
    println!("{}", answer.status());
    Ok(if answer.status().is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
