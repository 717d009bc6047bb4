//! A node in a process of its own.

use cima::client::Api;
use cima::identity::SigningKey;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What all nodes have in common.
pub(crate) struct Site {
    pub(crate) database: String,
    pub(crate) redis: String,
    folder: TempDir,
}

impl Site {
    pub(crate) fn new(database: String, redis: String) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("key.pem"), SigningKey::generate_pem().unwrap()).unwrap();
        Self { database, redis, folder }
    }

    /// With a database and the Redis of the test run.
    pub(crate) async fn fresh() -> Self {
        let redis = std::env::var("CIMA_TEST_REDIS_URL").expect("run `tests/backends.sh cargo nextest run`");
        Self::new(crate::database::fresh().await, redis)
    }

    /// Another node; its data folder has this name.
    pub(crate) fn node(&self, name: &str) -> Server {
        self.node_without(name, "")
    }

    /// Another node, with a mechanism of recovery switched off.
    pub(crate) fn node_without(&self, name: &str, mechanism: &str) -> Server {
        self.begin(name, &[("CIMA_WITHOUT", mechanism)], "127.0.0.1:0").serves()
    }

    /// Another node on this address, which may not be able to serve yet, with these variables.
    pub(crate) fn begin(&self, name: &str, variables: &[(&str, &str)], listen: &str) -> Begun {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        let child = Command::new(env!("CARGO_BIN_EXE_cima"))
            .args(["--log", "warn", "serve", "--listen", listen, "--password-memory-kib", "64"])
            .args(["--database-url", &self.database, "--redis-url", &self.redis])
            .arg("--signing-key-file")
            .arg(path("key.pem"))
            .arg("--data-dir")
            .arg(path(name))
            .env("CIMA_DRAIN_S", "4")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Begun(child)
    }
}

/// A process that is to become a node.
pub(crate) struct Begun(pub(crate) Child);

impl Begun {
    /// Waits until it says that it serves.
    pub(crate) fn serves(mut self) -> Server {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, address) =
            line.trim().split_once("http://").unwrap_or_else(|| panic!("it did not start: {line:?}"));
        Server { base: format!("http://{address}"), child: self.0 }
    }
}

/// A running node.
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(self.base.as_str()).unwrap()
    }

    /// Asks it to stop, and waits until it has: with 0, if everything was left whole.
    pub(crate) async fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ended().await, Some(0), "a node did not stop in order");
    }

    /// Sends it a signal: `TERM`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// How it ended.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap().code()
    }

    /// The value of a metric without labels, or the sum of all that have some.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.base)).await.unwrap().text().await.unwrap();
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        text.lines()
            .filter(of)
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, |all, one| all + one)
    }

    /// Kilobytes of memory that it has, and how many threads.
    pub(crate) fn size(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (of("VmRSS:"), of("Threads:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended, which is what most tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
