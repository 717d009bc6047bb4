//! The one place that puts a node together from its settings, and that stops it so that nothing is lost.

mod health;
mod push;
mod waiting;

pub(crate) use push::channels as push_channels;

use health::Health;

use crate::alerts::{Alerts, Engine, start_zones};
use crate::bus::{Bus, SharedSettings};
use crate::clock::Clock;
use crate::config::Config;
use crate::id::UserId;
use crate::identity::{Hasher, Identity, SigningKey};
use crate::journal::{Journal, Limits};
use crate::push::{Gateway, Push};
use crate::role::{Role, Roles};
use crate::runtime::{Mechanism, Pace, Tasks};
use crate::services::Services;
use crate::store::Stores;
use crate::stream::{Registry, Stream, StreamSettings, start_poll};
use crate::timekeeper::Timekeeper;
use crate::tracking::{Evaluation, FixStore, Kept, Tracking};
use crate::trust::Trust;
use crate::usecases::devices::start_considering;
use crate::{http, telemetry};
use anyhow::{Context, bail};
use axum::serve::ListenerExt;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Between writings of disclosure counts.
const LEDGER: Duration = Duration::from_secs(5);
/// The part of the drain over which closes are spread; the rest is for those that close last to do so.
const SPREAD: f64 = 0.8;
/// For asking who has part in an open emergency when the node stops.
const ASKING: Duration = Duration::from_secs(1);
/// Between two upkeeps of the metrics.
const METRICS: Duration = Duration::from_secs(5);
/// Between two checks for sockets that are still closing.
const LOOK: Duration = Duration::from_millis(20);

/// A running node.
pub struct Node {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The services of its domains.
    pub services: Services,
    registry: Arc<Registry>,
    tasks: Tasks,
    stores: Arc<Stores>,
    journal: Option<Arc<Journal>>,
    health: Arc<Health>,
    stop_serving: CancellationToken,
    drain: Duration,
    _lock: File,
}

impl Node {
    /// Starts a node. When this returns it serves.
    ///
    /// # Errors
    /// When the data folder, the key, the store or the address cannot be used; the message says which.
    pub async fn start(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let roles = config.role;
        if let Some(refusal) = roles.refusal(config.database_url.is_some(), config.redis_url.is_some()) {
            bail!(refusal);
        }
        telemetry::metrics();
        push::install_crypto();
        let settings = push::settings(&config.push)?;
        let lock = lock_data_dir(&config.data_dir)?;
        let key = signing_key(config)?;
        let backend = config.backend();
        let stores = Arc::new(waiting::open(&backend, &clock, config.listen).await?);
        let time = Arc::new(Timekeeper::new(clock.clone(), stores.time.clone()));
        if let Err(error) = time.look().await {
            tracing::warn!(%error, "the store does not say what time it is; this machine's clock is used until it does");
        }
        let tasks = Tasks::default();
        let bus = bus(config, &clock, &tasks)?;
        let journal = journal(config, &stores, &tasks).await?;
        let fixes: Arc<dyn FixStore> = match &journal {
            Some(journal) => journal.clone(),
            None => stores.fixes.clone(),
        };
        let hasher = Hasher::new(config.password_memory_kib, cores())?;
        let identity =
            Identity::start(stores.identity.clone(), hasher, key, bus.clone(), clock.clone()).await?;
        let identity = Arc::new(identity);
        let trust = Arc::new(Trust::new(stores.trust.clone(), bus.clone(), clock.clone()));
        let evaluates = roles.has(Role::Tracking);
        let evaluation = evaluates.then(|| Evaluation {
            sink: Engine::start(stores.alerts.clone(), bus.clone(), &tasks),
            zones: stores.zones.clone(),
            zone_sink: start_zones(stores.alerts.clone(), bus.clone(), &tasks),
        });
        let tracking = Tracking::start(
            stores.tracking.clone(),
            fixes,
            evaluation,
            bus.clone(),
            clock.clone(),
            kept(config),
            &tasks,
        );
        let alerts = Alerts::new(
            stores.alerts.clone(),
            Arc::clone(&trust),
            Arc::clone(&tracking),
            bus.clone(),
            clock.clone(),
        );
        let providers = push::providers(&settings, &clock)?;
        if roles.has(Role::Push) {
            Gateway::start(stores.push.clone(), &providers, &bus, &clock, &tasks).await?;
        }
        let push = Push::new(stores.push.clone(), providers, settings.guard, clock.clone());
        let health = Health::of(Arc::clone(&stores), Arc::clone(&time)).await;
        health.start(&tasks);
        let services = Services {
            identity,
            trust,
            tracking,
            alerts,
            push: Arc::new(push),
            bus,
            clock,
            readiness: health.clone(),
        };
        if roles.has(Role::Alerts) {
            services.alerts.start_timers(&tasks, time);
            services.alerts.start_retention(&tasks);
        }
        if roles.serves_people() {
            services.identity.start_revocations(&tasks);
            start_ledger(&services, &tasks);
        }
        start_metrics(roles, &tasks);
        let registry = Arc::new(Registry::default());
        if evaluates {
            if services.bus.is_shared() {
                services.tracking.start_living(&tasks);
            }
            recover(&services, journal.as_deref()).await?;
            registry.start_router(&services.bus, &tasks);
            start_poll(&services, &registry, &tasks);
            start_considering(&services, &tasks);
        }
        let stop_serving = CancellationToken::new();
        let addr = serve(config, &services, &registry, &tasks, &stop_serving).await?;
        let drain = Duration::from_secs(config.drain_s);
        Ok(Self {
            addr,
            services,
            registry,
            tasks,
            stores,
            journal,
            health,
            stop_serving,
            drain,
            _lock: lock,
        })
    }

    /// Cancelled when a task has ended without which a node is none: it has to stop.
    pub fn failed(&self) -> CancellationToken {
        self.tasks.failed()
    }

    /// The name of that task.
    pub fn fault(&self) -> Option<&'static str> {
        self.tasks.fault()
    }

    /// The stores under it.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Stops: nobody new, sockets told and closed, queues emptied, files closed. `false` if something did not end
    /// in time; what was acked is on disk all the same.
    pub async fn stop(self) -> bool {
        self.health.drain();
        let last = self.leave_last().await;
        self.registry.drain(self.drain.mul_f64(SPREAD), &last);
        let closed = tokio::time::timeout(self.drain, async {
            while self.registry.open() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
        .is_ok();
        self.stop_serving.cancel();
        let ended = self.tasks.shut_down(self.drain + Duration::from_secs(1)).await;
        let flushed = self.services.trust.ledger().flush().await.is_ok();
        let (tasks, stores, journal) = (self.tasks.clone(), Arc::clone(&self.stores), self.journal.clone());
        let node = self.services.tracking.node();
        let drain = self.drain;
        drop(self);
        let last = tasks.wait_last(drain + Duration::from_secs(1)).await;
        if let Some(journal) = journal
            && let Err(error) = journal.flush().await
        {
            tracing::warn!(%error, "the next start moves the rest of the journal to the store");
        }
        if let Err(error) = stores.tracking.end_node(node).await {
            tracing::warn!(%error, "the other nodes notice by themselves that this one is gone");
        }
        stores.close().await;
        let whole = [
            (closed, "sockets were still open"),
            (ended, "tasks were still running"),
            (flushed, "who has seen a position could not be stored"),
            (last, "what was read was still being stored"),
        ];
        for (_, left) in whole.iter().filter(|(whole, _)| !whole) {
            tracing::warn!(left, "this node did not stop in order");
        }
        whole.iter().all(|(whole, _)| *whole)
    }

    /// Whose sockets close last: a move to another node in the middle of an emergency comes as late as it can. A store that
    /// does not answer holds up no stop.
    async fn leave_last(&self) -> HashSet<UserId> {
        let asked = tokio::time::timeout(ASKING, self.services.alerts.people_in_open()).await;
        asked.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// Evaluates the fences for fixes that a stop came before.
async fn recover(services: &Services, journal: Option<&Journal>) -> anyhow::Result<()> {
    let brought = journal.map(|journal| journal.brought().clone()).unwrap_or_default();
    let recovered = services.tracking.recover(&brought).await?;
    if recovered > 0 {
        tracing::info!(people = recovered, "fences are evaluated now for fixes from before the stop");
    }
    Ok(())
}

async fn serve(
    config: &Config,
    services: &Services,
    registry: &Arc<Registry>,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let settings = StreamSettings {
        window: config.stream_window as usize,
        heartbeat: Duration::from_secs(config.heartbeat_s),
        write_deadline: Duration::from_secs(config.write_deadline_s),
    };
    let stream = Stream::new(services.clone(), Arc::clone(registry), settings);
    let public = http::router(services.clone(), config.admin_listen.is_none(), stream.router(), config.role);
    let addr = listen(config.listen, public, "http", tasks, stop).await?;
    if let Some(admin) = config.admin_listen {
        listen(admin, http::admin_router(services.clone()), "admin", tasks, stop).await?;
    }
    Ok(addr)
}

async fn listen(
    on: SocketAddr,
    router: axum::Router,
    name: &'static str,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(on).await.with_context(|| format!("cannot listen on {on}"))?;
    let addr = listener.local_addr()?;
    // Frames are small and wanted now.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps its delay");
        }
    });
    let stop = stop.clone();
    // Whoever cannot be reached is no node, whatever else works in it.
    tasks.vital(name, async move {
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
    });
    Ok(addr)
}

/// The journal in front of the embedded store's fixes. Nodes that share a database have none: what one of them acked must
/// be what all of them read.
async fn journal(config: &Config, stores: &Stores, tasks: &Tasks) -> anyhow::Result<Option<Arc<Journal>>> {
    if config.database_url.is_some() {
        return Ok(None);
    }
    let folder = config.data_dir.join("journal");
    Ok(Some(Journal::open(&folder, stores.fixes.clone(), Limits::default(), tasks).await?))
}

/// The bus, over Redis if there are other nodes.
fn bus(config: &Config, clock: &Clock, tasks: &Tasks) -> anyhow::Result<Bus> {
    match &config.redis_url {
        Some(url) => {
            let settings = SharedSettings { url: url.clone(), probe: Mechanism::BusProbe.works() };
            Ok(Bus::shared(&settings, clock.clone(), tasks)?)
        }
        None => Ok(Bus::default()),
    }
}

/// Sums up what was measured, also where nobody asks for the metrics: until then every single value is kept.
fn start_metrics(roles: Roles, tasks: &Tasks) {
    for role in roles.iter() {
        metrics::gauge!("cima_role", "role" => role.word()).set(1.0);
    }
    let Some(metrics) = telemetry::metrics() else { return };
    telemetry::begin_counting();
    tasks.every("metrics", Pace::of(METRICS).later(), move || async move {
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        metrics::gauge!("cima_tasks").set(alive as f64);
        metrics.run_upkeep();
        telemetry::tell_left_out();
    });
}

fn start_ledger(services: &Services, tasks: &Tasks) {
    let ledger = Arc::clone(services.trust.ledger());
    tasks.every("disclosures", Pace::of(LEDGER).later(), move || {
        let ledger = Arc::clone(&ledger);
        async move {
            if let Err(error) = ledger.flush().await {
                tracing::warn!(%error, "disclosure counts could not be written; they are kept");
            }
        }
    });
}

fn kept(config: &Config) -> Kept {
    Kept {
        fixes: Duration::from_secs(config.retention_s),
        incidents: Duration::from_secs(config.incident_retention_s),
        alerts: Duration::from_secs(config.alert_retention_s),
        disclosures: Duration::from_secs(config.disclosure_retention_s),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes the data folder and takes it for this process alone.
fn lock_data_dir(dir: &Path) -> anyhow::Result<File> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("the data folder {} cannot be made", dir.display()))?;
    let lock = File::create(dir.join("lock"))
        .with_context(|| format!("the data folder {} cannot be written to", dir.display()))?;
    if lock.try_lock().is_err() {
        bail!("another cima is running on {}; stop it, or give this one its own --data-dir", dir.display());
    }
    Ok(lock)
}

/// The key of the settings, or the one in the data folder, made at the first start.
fn signing_key(config: &Config) -> anyhow::Result<SigningKey> {
    if let Some(file) = &config.signing_key_file {
        let pem = fs::read_to_string(file).with_context(|| format!("the signing key {}", file.display()))?;
        return Ok(SigningKey::from_pem(&pem)?);
    }
    if config.database_url.is_some() {
        bail!("a token of one node must be good on all: give every node the same --signing-key-file");
    }
    let file = config.data_dir.join("signing-key.pem");
    if !file.exists() {
        let made = config.data_dir.join("signing-key.pem.new");
        let mut out =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&made)?;
        out.write_all(SigningKey::generate_pem()?.as_bytes())?;
        out.sync_all()?;
        fs::rename(&made, &file)?;
        File::open(&config.data_dir)?.sync_all()?;
    }
    let pem = fs::read_to_string(&file).with_context(|| format!("the signing key {}", file.display()))?;
    Ok(SigningKey::from_pem(&pem)?)
}
