//! The foreign clients of `tests/clients` against five processes, one for each role and a second for tracking: the phone on
//! one of these, the contact on the other. `tests/cluster/run.sh` runs it; the clients need Python and Node.

use crate::rig::{Shared, services};
use cima_rig::front::Front;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A node in a process of its own.
struct Process(Child);

impl Process {
    /// Starts `cima serve` with these roles; where it listens.
    fn start(shared: &Shared, name: &str, roles: &str) -> (Self, std::net::SocketAddr) {
        let config = shared.settings(name, roles);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cima"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--password-memory-kib", "64", "--drain-s", "2"]);
        command.args(["--role", roles, "--database-url", &shared.database, "--redis-url", &shared.redis]);
        command.arg("--data-dir").arg(&config.data_dir);
        command.arg("--signing-key-file").arg(config.signing_key_file.unwrap());
        command.args(["--log", "warn"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listens = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("cima listens on http://").and_then(|addr| addr.parse().ok()));
        (Self(child), listens.expect("the node did not start"))
    }

    /// Stops it in order.
    fn stop(mut self) -> bool {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        told.unwrap().success() && self.0.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended if the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and Node: tests/cluster/run.sh"]
async fn foreign_clients_play_their_stories_over_five_processes() {
    let shared = Shared::new().await;
    let (mut nodes, mut behind) = (Vec::new(), Vec::new());
    for (n, role) in ["api", "tracking", "tracking", "alerts", "push"].into_iter().enumerate() {
        let (node, addr) = Process::start(&shared, &n.to_string(), role);
        nodes.push(node);
        behind.push((services(role), addr));
    }
    let front = Front::start(&behind).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/run.sh");
    let url = format!("http://{}", front.addr);
    let clients = tokio::task::spawn_blocking(move || Command::new(script).arg(url).status());
    assert!(clients.await.unwrap().unwrap().success(), "a client failed; see its steps above");
    // Streams come in turns, the phone's and the contact's.
    println!("{} streams over two tracking nodes", front.streams("cima-tracking"));
    assert!(front.streams("cima-tracking") >= 4);
    for node in nodes {
        assert!(node.stop(), "a node did not stop in order");
    }
}
