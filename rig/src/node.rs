//! A node in a process of its own.

use cima::client::Api;
use cima::identity::SigningKey;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::task::{block_in_place, spawn_blocking};

/// The shared library that shows a process another wall clock, below a folder that is named after the machine's kind; the
/// package `faketime` has it.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// The `cima` program that is tried: `CIMA_RIG_PROGRAM`, or the one that was built beside this one.
///
/// # Panics
/// When there is none.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CIMA_RIG_PROGRAM") {
        return named.into();
    }
    let own = std::env::current_exe().unwrap();
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("cima"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no cima beside {}: run `cargo build --bin cima`", own.display()))
}

/// What all nodes have in common.
pub struct Site {
    /// Where they store; without it each stores in its own folder.
    pub database: Option<String>,
    /// By what they hint to each other.
    pub redis: Option<String>,
    folder: TempDir,
}

/// How a node is started.
#[derive(Clone, Default)]
pub struct Launch {
    listen: Option<String>,
    variables: Vec<(String, String)>,
    disk_mib: Option<u32>,
    own_clock: Option<i64>,
}

impl Launch {
    /// On this address instead of a free one.
    #[must_use]
    pub fn on(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }
    /// With a setting, or any other variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }
    /// With these roles only.
    #[must_use]
    pub fn role(self, roles: &str) -> Self {
        self.with("CIMA_ROLE", roles)
    }
    /// With a mechanism of recovery switched off.
    #[must_use]
    pub fn without(self, mechanism: &str) -> Self {
        self.with("CIMA_WITHOUT", mechanism)
    }
    /// With its data folder on a disk of this size, which nobody else sees.
    #[must_use]
    pub fn on_a_small_disk(mut self, mib: u32) -> Self {
        self.disk_mib = Some(mib);
        self
    }
    /// With a wall clock that [`Server::shift_clock`] moves.
    #[must_use]
    pub fn with_own_clock(self) -> Self {
        self.clock_off_by(0)
    }
    /// With a wall clock so many seconds beside the true one.
    #[must_use]
    pub fn clock_off_by(mut self, by_s: i64) -> Self {
        self.own_clock = Some(by_s);
        self
    }
}

impl Site {
    /// On a database and a Redis.
    pub fn new(database: String, redis: String) -> Self {
        Self::of(Some(database), Some(redis))
    }

    /// Of nodes that store each in its own folder, and know of no other.
    pub fn embedded() -> Self {
        Self::of(None, None)
    }

    fn of(database: Option<String>, redis: Option<String>) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("key.pem"), SigningKey::generate_pem().unwrap()).unwrap();
        Self { database, redis, folder }
    }

    /// With a database and the Redis of the test run.
    ///
    /// # Panics
    /// When the run has none.
    pub async fn fresh() -> Self {
        let redis = std::env::var("CIMA_TEST_REDIS_URL").expect("run `tests/backends.sh cargo nextest run`");
        Self::new(crate::database::fresh().await, redis)
    }

    /// The address of the database.
    ///
    /// # Panics
    /// When nodes store in their own folders.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap()
    }

    /// The folder of all nodes' files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Another node; its data folder has this name.
    pub fn node(&self, name: &str) -> Server {
        self.launch(name, &Launch::default()).serves()
    }

    /// Another node, with a mechanism of recovery switched off.
    pub fn node_without(&self, name: &str, mechanism: &str) -> Server {
        self.launch(name, &Launch::default().without(mechanism)).serves()
    }

    /// Another node, which may not be able to serve yet.
    pub fn launch(&self, name: &str, how: &Launch) -> Begun {
        let data = self.folder.path().join(name);
        let mut command = match how.disk_mib {
            Some(mib) => on_a_small_disk(&data, mib),
            None => with_usual_priority(),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CIMA_") {
                command.env_remove(name);
            }
        }
        command.args(["--log", "warn", "serve"]);
        command.args(["--listen", how.listen.as_deref().unwrap_or("127.0.0.1:0")]);
        if let Some(database) = &self.database {
            command.args(["--database-url", database]);
        }
        if let Some(redis) = &self.redis {
            command.args(["--redis-url", redis]);
        }
        command.arg("--signing-key-file").arg(self.folder.path().join("key.pem"));
        command.arg("--data-dir").arg(data.join("data"));
        let (clock, log) = (data.with_extension("clock"), data.with_extension("log"));
        if let Some(by_s) = how.own_clock {
            shift(&clock, by_s);
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let said = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        // Not as flags, which would go before what a launch says. Passwords cost little where they are not looked at.
        command
            .env("CIMA_PASSWORD_MEMORY_KIB", "64")
            .env("CIMA_DRAIN_S", "4")
            .envs(how.variables.iter().map(|(n, v)| (n, v)));
        let child = command.stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        Begun { child, clock, log }
    }
}

/// Whoever starts nodes may have a higher priority than they.
fn with_usual_priority() -> Command {
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = own.rsplit_once(')').unwrap();
    let nice: i32 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
    let mut command = Command::new("nice");
    command.args(["-n", &(-nice).to_string()]).arg(program());
    command
}

/// Runs `cima` in a namespace of its own, in which its data folder is a small file system in memory.
fn on_a_small_disk(folder: &Path, mib: u32) -> Command {
    std::fs::create_dir_all(folder).unwrap();
    let mount = format!(r#"mount -t tmpfs -o size={mib}m tmpfs "$0" && exec "$@""#);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount]).arg(folder).arg(program());
    command
}

fn faketime() -> PathBuf {
    let kinds = std::fs::read_dir("/usr/lib").unwrap().map(|kind| kind.unwrap().path().join(FAKETIME));
    kinds.into_iter().find(|file| file.is_file()).expect("run `tests/backends.sh`, which installs faketime")
}

fn shift(file: &Path, by_s: i64) {
    // Renamed into place: it is never read half written.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{by_s:+}")).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// A process that is to become a node.
pub struct Begun {
    /// The process.
    pub child: Child,
    clock: PathBuf,
    log: PathBuf,
}

impl Begun {
    /// Waits until it says that it serves.
    ///
    /// # Panics
    /// When it ends before.
    pub fn serves(mut self) -> Server {
        let mut line = String::new();
        let said = self.child.stdout.take().unwrap();
        // The roads that it starts on are tasks of this runtime.
        block_in_place(|| BufReader::new(said).read_line(&mut line)).unwrap();
        let (_, address) = line.trim().split_once("http://").unwrap_or_else(|| {
            panic!("it did not start: {line:?} {}", std::fs::read_to_string(&self.log).unwrap_or_default())
        });
        Server { base: format!("http://{address}"), child: self.child, clock: self.clock, log: self.log }
    }
}

/// A running node.
pub struct Server {
    child: Child,
    /// Such as `http://127.0.0.1:8080`.
    pub base: String,
    clock: PathBuf,
    log: PathBuf,
}

impl Server {
    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens, without the scheme.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// A client of it.
    pub fn api(&self) -> Api {
        Api::new(self.base.as_str()).unwrap()
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it did not leave everything whole.
    pub async fn stop(self) {
        self.signal("TERM");
        let log = self.log.clone();
        let ended = self.ended().await;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(ended, Some(0), "a node did not stop in order: {}", said());
    }

    /// Kills it.
    pub async fn kill(self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Sends it a signal: `TERM`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// How it ended.
    pub async fn ended(mut self) -> Option<i32> {
        spawn_blocking(move || self.child.wait().unwrap()).await.unwrap().code()
    }

    /// Moves its wall clock to so many seconds beside the true one; it was launched with a clock of its own.
    pub fn shift_clock(&self, by_s: i64) {
        shift(&self.clock, by_s);
    }

    /// What it has written into its log so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The value of a metric without labels, or the sum of all that have some.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metrics(name).await.into_iter().fold(0.0, |all, (_, one)| all + one)
    }

    /// Each series of a metric: its labels as they are written, and its value.
    pub async fn metrics(&self, name: &str) -> Vec<(String, f64)> {
        let text = reqwest::get(format!("{}/metrics", self.base)).await.unwrap().text().await.unwrap();
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let wanted = labels.is_empty() || labels.starts_with('{');
            Some((labels.to_owned(), value.parse().ok()?)).filter(|_| wanted)
        };
        text.lines().filter_map(of).collect()
    }

    /// Kilobytes of memory that it has, and how many threads.
    pub fn size(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (of("VmRSS:"), of("Threads:"))
    }

    /// A file beside the data folder of a node on a small disk, as seen from outside.
    pub fn file_on_its_disk(&self, name: &str) -> PathBuf {
        let folder = self.clock.with_extension("");
        format!("/proc/{}/root{}/{name}", self.pid(), folder.display()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended, which is what most runs want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
