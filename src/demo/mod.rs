//! `cima demo`: the main job of cima, shown working on real recorded tracks.
//!
//! It starts a whole server on the embedded store in a temporary folder, with a clock that runs faster. Through the public
//! contract it plays three people who move, and one contact with a phone that is awake and one that sleeps. It succeeds
//! only if everything that had to arrive did.

mod board;
mod cast;
mod contact;
mod fences;
mod gpx;
mod phone;
mod sleeper;
mod story;

pub use gpx::{Recorded, read};

use crate::app::Node;
use crate::clock::Clock;
use crate::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The settings of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many times as fast as it was recorded, 1 to 200.
    #[arg(long, default_value_t = 40.0, value_parser = speed)]
    pub speed: f64,
    /// Seconds that the story may take; chooses the speed.
    #[arg(long, conflicts_with = "speed", value_parser = clap::value_parser!(u32).range(12..=3_600))]
    pub duration: Option<u32>,
    /// End when the story does; otherwise the server stays for clients of your own until Ctrl-C.
    #[arg(long)]
    pub exit_when_done: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if (1.0..=200.0).contains(&speed) { Ok(speed) } else { Err("1 to 200".into()) }
}

/// Plays the story.
///
/// # Errors
/// When it cannot be played at all; what did not arrive is exit code 1.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let cast = cast::cast()?;
    let longest = cast.iter().map(cast::Mover::length).max().unwrap_or_default();
    let speed =
        options.duration.map_or(options.speed, |s| (longest.as_secs_f64() / f64::from(s)).clamp(1.0, 200.0));
    let folder = TempFolder::new()?;
    let clock = Clock::scaled(Clock::system().now(), speed);
    let mut config = Config::with_defaults(folder.0.clone());
    config.push.webhooks = true;
    config.push.push_allow_hosts = vec![sleeper::HOST.to_string()];
    let node = Node::start(&config, clock.clone()).await?;
    let base = format!("http://{}", node.addr);
    let fixes: usize = cast.iter().map(|m| m.track.len()).sum();
    println!(
        "cima serves on {base}, its clock runs {speed:.0} times as fast: {} s to go.",
        seconds(longest, speed)
    );
    println!("Ada rides, Cleo runs and Mia drives on real tracks of {fixes} fixes; Bo is their contact.");
    println!("A second phone of Bo's sleeps: pushes reach it, and they say neither who nor where.");
    println!("The contract: {base}/docs   A client of your own: ws://{}/v1/stream\n", node.addr);
    let told = Box::pin(story::play(&base, &clock, &cast)).await;
    if told.is_ok() && !options.exit_when_done {
        println!("\nThe server stays at {base} until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    node.stop().await;
    let faults = told?;
    for fault in &faults {
        println!("MISSING  {fault}");
    }
    if faults.is_empty() {
        println!("Everything that had to arrive did, and nothing that must not.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} of what had to happen did not.", faults.len());
    Ok(ExitCode::FAILURE)
}

fn seconds(length: Duration, speed: f64) -> u64 {
    length.div_f64(speed).as_secs()
}

/// A folder that goes when the demo does.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> anyhow::Result<Self> {
        let name = format!("cima-demo-{}", crate::id::fresh(&Clock::system()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
