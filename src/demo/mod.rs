//! `cima demo`: the main job of cima, shown working on a real recorded track.
//!
//! It starts a whole server on the embedded store in a temporary folder, with a clock that runs faster, and plays two
//! phones against it through the public contract. It ends well only if everything that had to arrive did.

mod fences;
mod gpx;
mod people;
mod story;

pub use gpx::{Recorded, read};

use crate::app::Node;
use crate::clock::Clock;
use crate::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// The track that is played unless another is given.
const TRACK: &str = include_str!("../../data/tracks/los-angeles-ride.gpx");

/// The settings of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many times as fast as it was recorded.
    #[arg(long, default_value_t = 40.0, value_parser = speed)]
    pub speed: f64,
    /// Another track to play, as GPX with times.
    #[arg(long)]
    pub track: Option<PathBuf>,
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
    let gpx = match &options.track {
        Some(file) => std::fs::read_to_string(file)?,
        None => TRACK.to_owned(),
    };
    let track = gpx::read(&gpx)?;
    let folder = TempFolder::new()?;
    let clock = Clock::scaled(Clock::system().now(), options.speed);
    let node = Node::start(&Config::with_defaults(folder.0.clone()), clock.clone()).await?;
    let told = Box::pin(story::play(&node, &clock, &track, options.speed)).await;
    node.stop().await;
    let faults = told?;
    for fault in &faults {
        println!("MISSING  {fault}");
    }
    println!();
    if faults.is_empty() {
        println!("Everything that had to arrive did, and nothing that must not.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} of what had to happen did not.", faults.len());
    Ok(ExitCode::FAILURE)
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
