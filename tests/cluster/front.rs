//! What stands before the nodes: it routes by path as `k8s/base/ingress.yaml` says, so that both are tried.

use cima::runtime::detach;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The head of a request, at most.
const HEAD: usize = 64 * 1024;

/// The nodes of a service, in turns.
#[derive(Default)]
struct Service {
    nodes: Vec<SocketAddr>,
    next: AtomicUsize,
    /// Streams have turns of their own: the second one is on the second node, whatever else was asked meanwhile.
    next_stream: AtomicUsize,
}

/// A front that listens.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    services: Arc<Services>,
}

struct Services {
    rules: Vec<Rule>,
    by_name: BTreeMap<String, Service>,
}

impl Front {
    /// In front of these nodes, each with the names of the services that lead to it.
    pub(crate) async fn start(nodes: &[(Vec<String>, SocketAddr)]) -> Self {
        let mut by_name = BTreeMap::<String, Service>::new();
        for (names, node) in nodes {
            for name in names {
                by_name.entry(name.clone()).or_default().nodes.push(*node);
            }
        }
        let services = Arc::new(Services { rules: ingress(), by_name });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Self { addr: listener.local_addr().unwrap(), services: Arc::clone(&services) };
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

    /// How many streams were led to nodes of a service.
    pub(crate) fn streams(&self, service: &str) -> usize {
        self.services.by_name[service].next_stream.load(Ordering::Relaxed)
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
        let turn = if upgrades { &service.next_stream } else { &service.next };
        let node = service.nodes[turn.fetch_add(1, Ordering::Relaxed) % service.nodes.len()];
        let mut far = TcpStream::connect(node).await?;
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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/base/ingress.yaml");
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
