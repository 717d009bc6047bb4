//! A server under test: a child process, its address, its memory and its processor time.

use anyhow::{Context, bail, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Until a server must say where it listens.
const START: Duration = Duration::from_secs(20);
/// Until a server must have ended after it was told to.
const STOP: Duration = Duration::from_secs(40);
/// What `/proc/PID/stat` counts processor time in; Linux shows 100 a second to user space on every machine.
const TICKS_PER_S: u64 = 100;

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    /// Such as `http://127.0.0.1:8080`.
    pub(crate) base: String,
}

/// Resident memory, KiB.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) rss_kib: u64,
    /// Without the pages of files.
    pub(crate) anon_kib: u64,
}

impl Server {
    /// Starts cima on a data folder, with cheap password hashes: signing up is not what is measured.
    pub(crate) async fn cima(program: &Path, data_dir: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CIMA_") {
                command.env_remove(name);
            }
        }
        command.args(["--log", "warn", "serve", "--listen", "127.0.0.1:0", "--password-memory-kib", "64"]);
        command.arg("--data-dir").arg(data_dir);
        Self::start(command).await.context("cima")
    }

    /// Starts the bare sink: this program, as a process of its own.
    pub(crate) async fn sink() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", "--listen", "127.0.0.1:0"]);
        Self::start(command).await.context("the sink")
    }

    async fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let pid = child.id().context("it ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let base = timeout(START, async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, base)) = line.split_once("listens on ") {
                    return Ok(base.trim().to_owned());
                }
            }
            bail!("it ended without saying where it listens")
        });
        let base = base.await.context("it did not say in time where it listens")??;
        Ok(Self { child, pid, base })
    }

    /// Its memory now.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let kib = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let number =
                line.and_then(|l| l.split_whitespace().next()).with_context(|| format!("no {name}"))?;
            Ok(number.parse()?)
        };
        Ok(Memory { rss_kib: kib("VmRSS")?, anon_kib: kib("RssAnon")? })
    }

    /// Processor time it has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.pid.to_string())
    }

    /// Stops it by SIGTERM and waits until it has ended well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid)]).status().await?;
        ensure!(told.success(), "the server could not be told to stop");
        let ended = timeout(STOP, self.child.wait()).await.context("the server did not stop in time")??;
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }
}

/// Processor time of this process so far.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may hold anything; after it utime and stime are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(')').context("not the stat of a process")?;
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    ensure!(ticks.len() == 2, "not the stat of a process");
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / TICKS_PER_S))
}
