//! A Redis of one's own that can be killed, stopped and started empty.

use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// Until a server that was started answers.
const DEADLINE: Duration = Duration::from_secs(15);

/// A `redis-server` that keeps nothing on disk.
pub struct Redis {
    child: Child,
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
}

impl Redis {
    /// An empty one.
    pub async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = TempDir::new().unwrap();
        let child = spawn(port, &folder);
        let redis = Self { child, port, folder };
        redis.answers().await;
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address as a setting.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    async fn answers(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let until = Instant::now() + DEADLINE;
        while client.get_multiplexed_async_connection().await.is_err() {
            assert!(Instant::now() < until, "redis-server does not answer");
            tokio::task::yield_now().await;
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with nothing in it.
    pub async fn start_empty(&mut self) {
        self.child = spawn(self.port, &self.folder);
        self.answers().await;
    }

    /// Stops (`STOP`) or wakes (`CONT`) the process: its connections stay open and nothing answers.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

fn spawn(port: u16, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--daemonize", "no", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed for these tests: apt-get install redis-server")
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
