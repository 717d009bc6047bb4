//! `cima zones`: puts public zones, shows them and removes them. A running server takes the changes up within seconds.

use crate::clock::Clock;
use crate::config::Config;
use crate::geo::{Point, RawShape};
use crate::id::ZoneId;
use crate::runtime::Backoff;
use crate::store::{self, Backend, Stores};
use crate::tracking::{Feature, Zone, ZoneDraft, read_features};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Zones stored in one transaction, at most.
const BATCH: usize = 250;
/// And their vertices, about.
const BATCH_VERTICES: usize = 20_000;
/// Features that are read ahead.
const AHEAD: usize = 1_000;
/// Refused features that are shown one by one.
const SHOWN: u64 = 20;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// How often a batch is tried that the store could not take, and how long after.
const TRIES: u32 = 5;
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// Zones asked for at a time.
const PAGE: u32 = 500;

/// Public zones: people are told when they enter one.
#[derive(Subcommand)]
pub(super) enum Zones {
    /// Store the zones of a GeoJSON file.
    ///
    /// A FeatureCollection of Polygons, MultiPolygons, and Points with the property `radius_m`. Properties: `name` (1 to 64
    /// characters) and `severity` (info, warning, critical; info if absent). A feature with an id replaces the zone of that
    /// id; without one a zone is what its name and shape are. What is the same already stays untouched, so a file can be
    /// imported again at any time. Features that are no zone are reported and left out; the exit code is then 1.
    Import {
        /// The file, or - for standard input.
        file: PathBuf,
        /// Only check the file.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        config: Config,
    },
    /// Show zones: id, severity, revision, shape, name.
    List {
        /// Only those near this place: `LAT,LON`.
        #[arg(long, value_parser = backend, allow_hyphen_values = true)]
        near: Option<Point>,
        /// How near, metres.
        #[arg(long, default_value_t = 2_000.0, requires = "near", value_parser = radius)]
        radius: f64,
        #[command(flatten)]
        config: Config,
    },
    /// Remove zones.
    Remove {
        /// Their ids.
        #[arg(required_unless_present = "all")]
        ids: Vec<ZoneId>,
        /// Remove every zone.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        config: Config,
    },
}

fn backend(text: &str) -> Result<Point, String> {
    let degrees = |text: &str| text.trim().parse::<f64>().ok();
    text.split_once(',')
        .and_then(|(lat, lon)| Point::new(degrees(lat)?, degrees(lon)?))
        .ok_or_else(|| "a backend is LAT,LON in degrees, for example 48.2,16.3".into())
}

fn radius(text: &str) -> Result<f64, String> {
    let radius_m = text.parse().ok().filter(|radius_m| (0.0..=100_000.0).contains(radius_m));
    radius_m.ok_or_else(|| "a radius is 0 to 100,000 metres".into())
}

/// Runs `cima zones`.
///
/// # Errors
/// When the file cannot be read, or the store cannot be used.
pub(super) async fn run(zones: &Zones) -> anyhow::Result<ExitCode> {
    let config = match zones {
        Zones::Import { file, dry_run: true, .. } => return import(file, None).await,
        Zones::Import { config, .. } | Zones::List { config, .. } | Zones::Remove { config, .. } => config,
    };
    let clock = Clock::system();
    let backend = config.backend();
    let stores =
        store::open(&backend, clock.clone()).await.with_context(|| format!("{backend} cannot be opened"))?;
    let stores = Arc::new(stores);
    let done = match zones {
        Zones::Import { file, .. } => {
            let yields = matches!(backend, Backend::Folder(_));
            import(file, Some(Target { stores: Arc::clone(&stores), clock, yields })).await
        }
        Zones::List { near, radius, .. } => list(&stores, *near, *radius).await,
        Zones::Remove { ids, all, .. } => remove(&stores, &clock, ids, *all).await,
    };
    stores.close().await;
    done
}

/// Where zones go.
struct Target {
    stores: Arc<Stores>,
    clock: Clock,
    /// The store takes one writer at a time: a running server gets as much of it.
    yields: bool,
}

/// What became of the features so far.
#[derive(Default)]
struct Tally {
    read: u64,
    new: u64,
    same: u64,
    refused: u64,
}

impl Tally {
    fn refuse(&mut self, feature: u64, id: Option<&str>, reason: &str) {
        self.refused += 1;
        if self.refused <= SHOWN {
            let id = id.map(|id| format!(" (id {id})")).unwrap_or_default();
            eprintln!("feature {feature}{id} is refused: {reason}");
        } else if self.refused == SHOWN + 1 {
            eprintln!("more are refused; they are only counted");
        }
    }
}

/// Counts what is read.
struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(into)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

async fn import(path: &Path, target: Option<Target>) -> anyhow::Result<ExitCode> {
    let name = path.display().to_string();
    let (file, size): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
        (Box::new(std::io::stdin()), None)
    } else {
        let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
        let size = file.metadata().ok().map(|data| data.len()).filter(|size| *size > 0);
        (Box::new(file), size)
    };
    let done = Arc::new(AtomicU64::new(0));
    let file = BufReader::with_capacity(1 << 20, Counted(file, Arc::clone(&done)));
    let (features, mut read) = mpsc::channel::<Feature>(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        read_features(file, |feature| match features.blocking_send(feature) {
            Ok(()) => ControlFlow::Continue(()),
            // The store has failed.
            Err(_) => ControlFlow::Break(()),
        })
    });
    let (mut tally, mut seen) = (Tally::default(), HashSet::new());
    let (mut batch, mut vertices): (Vec<ZoneDraft>, usize) = (Vec::new(), 0);
    let mut shown = Instant::now();
    let start = shown;
    while let Some(Feature { index, id, zone }) = read.recv().await {
        tally.read += 1;
        match zone {
            Ok(zone) if !seen.insert(zone.id) => {
                tally.refuse(index, id.as_deref(), "an earlier feature is the same zone");
            }
            Ok(zone) => {
                vertices += zone.shape.vertices();
                batch.push(zone);
            }
            Err(reason) => tally.refuse(index, id.as_deref(), reason.as_str()),
        }
        if batch.len() >= BATCH || vertices >= BATCH_VERTICES {
            put(target.as_ref(), &mut batch, &mut tally).await?;
            vertices = 0;
        }
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            let part =
                size.map(|size| format!(" ({} % of the file)", 100 * done.load(Ordering::Relaxed) / size));
            let (read, refused) = (tally.read, tally.refused);
            eprintln!("{read} features read{}, {refused} refused", part.unwrap_or_default());
        }
    }
    put(target.as_ref(), &mut batch, &mut tally).await?;
    let took = start.elapsed().as_secs_f64();
    let Tally { read, new, same, refused } = tally;
    let did = if target.is_some() {
        format!("{new} zones are new or changed, {same} were there already")
    } else {
        format!("{} zones could be stored", new)
    };
    println!("{read} features read in {took:.1} s: {did}, {refused} features are refused");
    let fault = reading.await?;
    fault.with_context(|| {
        format!("{name} could not be read to its end; the zones before that backend are stored")
    })?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stores a batch and empties it.
async fn put(target: Option<&Target>, batch: &mut Vec<ZoneDraft>, tally: &mut Tally) -> anyhow::Result<()> {
    let zones = std::mem::take(batch);
    let Some(target) = target else {
        tally.new += zones.len() as u64;
        return Ok(());
    };
    if zones.is_empty() {
        return Ok(());
    }
    let (mut tries, mut backoff) = (1, Backoff::between(AGAIN.0, AGAIN.1));
    let differ = loop {
        let start = Instant::now();
        match target.stores.zones.put_zones(&zones, target.clock.now()).await {
            Ok(differ) => {
                if target.yields {
                    tokio::time::sleep(start.elapsed()).await;
                }
                break differ;
            }
            Err(error) if error.is_passing() && tries < TRIES => {
                tries += 1;
                backoff.wait().await;
            }
            Err(error) => {
                let stored = tally.new + tally.same;
                return Err(error).with_context(|| {
                    format!("{stored} zones are stored; import the file again for the rest")
                });
            }
        }
    };
    let new = differ.iter().filter(|differs| **differs).count() as u64;
    tally.new += new;
    tally.same += differ.len() as u64 - new;
    Ok(())
}

async fn list(stores: &Stores, near: Option<Point>, radius_m: f64) -> anyhow::Result<ExitCode> {
    if let Some(near) = near {
        stores.zones.zones_near(near, radius_m, u32::MAX).await?.iter().for_each(show);
        return Ok(ExitCode::SUCCESS);
    }
    let mut after = None;
    loop {
        let page = stores.zones.zones(after, PAGE).await?;
        page.iter().for_each(show);
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.id),
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn show(zone: &Zone) {
    let shape = match zone.shape.raw() {
        RawShape::Circle { radius_m, .. } => format!("circle of {radius_m} m"),
        RawShape::Polygon { .. } => format!("polygon, {} vertices", zone.shape.vertices()),
        RawShape::MultiPolygon { .. } => format!("multipolygon, {} vertices", zone.shape.vertices()),
    };
    println!("{}\t{}\t{}\t{shape}\t{}", zone.id, zone.severity.word(), zone.revision, zone.name);
}

async fn remove(stores: &Stores, clock: &Clock, ids: &[ZoneId], all: bool) -> anyhow::Result<ExitCode> {
    let mut removed = 0;
    if all {
        loop {
            let page: Vec<ZoneId> =
                stores.zones.zones(None, PAGE).await?.iter().map(|zone| zone.id).collect();
            if page.is_empty() {
                break;
            }
            removed += stores.zones.delete_zones(&page, clock.now()).await?;
        }
    } else {
        removed = stores.zones.delete_zones(ids, clock.now()).await?;
    }
    println!("{removed} zones are removed");
    if !all && removed < ids.len() as u64 {
        bail!("{} of them were not there", ids.len() as u64 - removed);
    }
    Ok(ExitCode::SUCCESS)
}
