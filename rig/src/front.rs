//! What stands before the nodes: it routes by path as `k8s/base/ingress.yaml` says, so that both are tried, and judges
//! readiness as the probes of `k8s/base` do.

use cima::runtime::detach;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The head of a request, at most.
const HEAD: usize = 64 * 1024;
/// Between two probes of a node, the longest that one takes, and after how many failures it is left out.
const PROBE: (Duration, Duration, usize) = (Duration::from_secs(3), Duration::from_secs(3), 2);
/// For whoever asks when no node can be asked.
const NOBODY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// One node behind the front.
struct Behind {
    addr: SocketAddr,
    ready: AtomicBool,
    leaving: AtomicBool,
}

/// The nodes of a service, in turns.
#[derive(Default)]
struct Service {
    nodes: Vec<Arc<Behind>>,
    next: AtomicUsize,
    /// Streams have turns of their own: the second one is on the second node, whatever else was asked meanwhile.
    next_stream: AtomicUsize,
}

/// A front that listens.
pub struct Front {
    /// Where.
    pub addr: SocketAddr,
    services: Arc<Services>,
    nodes: Vec<Arc<Behind>>,
    _probes: JoinSet<()>,
}

struct Services {
    rules: Vec<Rule>,
    by_name: BTreeMap<String, Service>,
}

impl Front {
    /// In front of these nodes, each with the names of the services that lead to it.
    pub async fn start(nodes: &[(Vec<String>, SocketAddr)]) -> Self {
        let mut by_name = BTreeMap::<String, Service>::new();
        let (mut all, mut probes) = (Vec::new(), JoinSet::new());
        for (names, addr) in nodes {
            let (ready, leaving) = (AtomicBool::new(true), AtomicBool::new(false));
            let node = Arc::new(Behind { addr: *addr, ready, leaving });
            for name in names {
                by_name.entry(name.clone()).or_default().nodes.push(Arc::clone(&node));
            }
            probes.spawn(Arc::clone(&node).probe());
            all.push(node);
        }
        let services = Arc::new(Services { rules: ingress(), by_name });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Self {
            addr: listener.local_addr().unwrap(),
            services: Arc::clone(&services),
            nodes: all,
            _probes: probes,
        };
        detach("front", async move {
            while let Ok((near, _)) = listener.accept().await {
                let services = Arc::clone(&services);
                detach("way", async move {
                    // Either side may go at any time; the other sees the end of its connection.
                    let _ = services.carry(near).await;
                });
            }
        });
        front
    }

    /// Leads nobody to a node that is about to stop, or again to one that is back.
    pub fn leaves(&self, node: SocketAddr, leaving: bool) {
        for behind in self.nodes.iter().filter(|behind| behind.addr == node) {
            behind.leaving.store(leaving, Ordering::Relaxed);
            behind.ready.store(!leaving, Ordering::Relaxed);
        }
    }

    /// How many streams were led to nodes of a service.
    pub fn streams(&self, service: &str) -> usize {
        self.services.by_name[service].next_stream.load(Ordering::Relaxed)
    }
}

impl Behind {
    /// Judges for as long as the front is there.
    async fn probe(self: Arc<Self>) {
        let (every, within, failures) = PROBE;
        let url = format!("http://{}/readyz", self.addr);
        let client = reqwest::Client::builder().timeout(within).build().unwrap();
        let mut failed = 0;
        loop {
            tokio::time::sleep(every).await;
            let ready = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            failed = if ready { 0 } else { failed + 1 };
            let was = self.ready.load(Ordering::Relaxed);
            let now = (ready || (was && failed < failures)) && !self.leaving.load(Ordering::Relaxed);
            self.ready.store(now, Ordering::Relaxed);
        }
    }
}

impl Service {
    /// Every node that is ready, the one whose turn it is first.
    fn turns(&self, stream: bool) -> Vec<SocketAddr> {
        let turn = if stream { &self.next_stream } else { &self.next };
        let ready = |node: &&Arc<Behind>| node.ready.load(Ordering::Relaxed);
        let mut ready: Vec<SocketAddr> = self.nodes.iter().filter(ready).map(|node| node.addr).collect();
        let turn = turn.fetch_add(1, Ordering::Relaxed) % ready.len().max(1);
        ready.rotate_left(turn);
        ready
    }

    /// A connection to the first that can be reached: what was not sent yet may be sent to another.
    async fn reach(&self, stream: bool) -> Option<TcpStream> {
        for node in self.turns(stream) {
            if let Ok(far) = TcpStream::connect(node).await {
                return Some(far);
            }
        }
        None
    }
}

impl Services {
    async fn carry(&self, mut near: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if read.len() > HEAD || near.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let rule = self.rules.iter().find(|rule| rule.leads(path)).expect("a rule for every path");
        let service = &self.by_name[&rule.service];
        let is = |line: &str, name: &str| {
            line.split_once(':').is_some_and(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        let upgrades = head.lines().any(|line| is(line, "upgrade"));
        let Some(mut far) = service.reach(upgrades).await else { return near.write_all(NOBODY).await };
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        if upgrades {
            far.write_all(&read).await?;
        } else {
            // The next request of the same client may be for another node.
            let lines: Vec<&str> = head.lines().filter(|line| !is(line, "connection")).collect();
            far.write_all(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
            far.write_all(&read[end + 4..]).await?;
        }
        copy_bidirectional(&mut near, &mut far).await?;
        Ok(())
    }
}

/// One path of the Ingress.
struct Rule {
    path: String,
    exact: bool,
    service: String,
}

impl Rule {
    fn leads(&self, path: &str) -> bool {
        if self.exact { path == self.path } else { path.starts_with(&self.path) }
    }
}

/// The rules of the Ingress, exact ones first as Kubernetes has them.
fn ingress() -> Vec<Rule> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/base/ingress.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let after = |line: &str, key: &str| {
        let (_, rest) = line.split_once(key).unwrap();
        rest.trim().split([',', '}']).next().unwrap().to_owned()
    };
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines() {
        if line.trim().starts_with("- path: ") {
            rules.push(Rule { path: after(line, "- path:"), exact: false, service: String::new() });
        } else if line.trim().starts_with("pathType: ") {
            rules.last_mut().unwrap().exact = after(line, "pathType:") == "Exact";
        } else if line.trim().starts_with("backend: ") {
            rules.last_mut().unwrap().service = after(line, "service: {name:");
        }
    }
    assert!(
        rules.len() >= 2 && rules.iter().all(|rule| !rule.service.is_empty()),
        "the Ingress has another form"
    );
    rules.sort_by_key(|rule| (!rule.exact, std::cmp::Reverse(rule.path.len())));
    rules
}
