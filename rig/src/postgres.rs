//! A PostgreSQL of one's own that can be frozen, stopped and started again.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tokio::task::block_in_place;

/// A running server, empty but for cima's schema.
pub struct Postgres {
    port: u16,
    fsync: &'static str,
    folder: TempDir,
    programs: PathBuf,
}

/// Debian keeps every version in a folder of its own.
fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("run `tests/backends.sh`, which installs PostgreSQL");
    let mut versions: Vec<PathBuf> = versions.map(|v| v.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.pop().unwrap()
}

impl Postgres {
    /// One that forgets what a crash of the machine would take.
    pub async fn start() -> Self {
        Self::start_with("off").await
    }

    /// One that says that it has written what it has written, as in use.
    pub async fn start_lasting() -> Self {
        Self::start_with("on").await
    }

    async fn start_with(fsync: &'static str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let postgres = Self { port, fsync, folder: TempDir::new().unwrap(), programs: programs() };
        if is_root() {
            // It refuses to run as root.
            let id = |flag: &str| {
                let said = Command::new("id").args([flag, "postgres"]).output().unwrap().stdout;
                String::from_utf8(said).unwrap().trim().parse().unwrap()
            };
            chown(postgres.folder.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        postgres.run("initdb", &["-U", "cima", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        postgres.start_again();
        cima::store::postgres::migrate(&postgres.url()).await.unwrap();
        postgres
    }

    /// Starts the server; it has to be stopped.
    pub fn start_again(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync={} -c max_connections=300 -c logging_collector=off",
            self.port,
            self.folder.path().display(),
            self.fsync
        );
        self.run("pg_ctl", &["-w", "-l", &self.log_file(), "-o", &options, "start"]);
    }

    /// Restarts the server in order.
    pub fn restart(&self) {
        self.run("pg_ctl", &["-w", "-l", &self.log_file(), "-m", "fast", "restart"]);
    }

    /// Stops the server as a crash does.
    pub fn stop(&self) {
        self.run("pg_ctl", &["-m", "immediate", "-w", "stop"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").arg("-D").arg(self.data()).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let done = block_in_place(|| command.status()).unwrap();
        assert!(done.success(), "{command:?}");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> String {
        self.folder.path().join("log").display().to_string()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its database.
    pub fn url(&self) -> String {
        format!("postgres://cima@{}/postgres", self.address())
    }

    fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    /// Freezes (`STOP`) or wakes (`CONT`) the server with all its processes: connections stay open, nothing answers.
    pub fn signal(&self, name: &str) {
        let postmaster = self.postmaster();
        let send = |process: &str| {
            let sent =
                Command::new("kill").args([&format!("-{name}"), process]).stderr(Stdio::null()).status();
            sent.unwrap().success()
        };
        assert!(send(&postmaster.to_string()));
        for child in children(postmaster) {
            // It may have ended since it was found.
            send(&child);
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

fn children(of: u32) -> Vec<String> {
    let parent = |process: &Path| -> Option<u32> {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let of_it = processes.filter(|process| parent(process) == Some(of));
    of_it.filter_map(|process| Some(process.file_name()?.to_str()?.to_owned())).collect()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.data().join("postmaster.pid").exists() {
            return;
        }
        self.signal("CONT");
        self.run("pg_ctl", &["-m", "immediate", "stop"]);
    }
}
