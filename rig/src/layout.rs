//! A whole deployment: a database, a Redis, roads to both, nodes with their roles, and what stands before them.

use crate::front::Front;
use crate::node::{Launch, Server, Site};
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::sos::Ways;
use cima::client::Api;
use std::net::SocketAddr;

/// The roles of five nodes and a sixth, so that each role which a raise needs is there twice.
pub const SIX: &[&str] = &["api", "api", "tracking", "tracking", "alerts", "push"];
/// The same with less to start.
pub const FOUR: &[&str] = &["api,alerts,push", "api,alerts,push", "tracking", "tracking"];
/// Two nodes that do everything.
pub const TWO: &[&str] = &["all", "all"];

/// A running deployment. Nodes that were killed are `None` until they are started again.
pub struct Deployment {
    /// What the nodes have in common.
    pub site: Site,
    /// The database's server.
    pub postgres: Postgres,
    /// The Redis.
    pub redis: Redis,
    /// Between the nodes and the database.
    pub database_road: Proxy,
    /// Between the nodes and Redis.
    pub redis_road: Proxy,
    /// What clients reach.
    pub front: Front,
    nodes: Vec<Option<Server>>,
    addresses: Vec<SocketAddr>,
    roles: Vec<String>,
    how: Launch,
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Deployment {
    /// A node for each of these lists of roles, started in this way, which reach what they share by roads that can be broken.
    pub async fn start(roles: &[&str], how: Launch) -> Self {
        Self::start_over(true, roles, how).await
    }

    /// The same without roads: nothing of the rig stands between the nodes and what they share, and takes its time.
    pub async fn start_direct(roles: &[&str], how: Launch) -> Self {
        Self::start_over(false, roles, how).await
    }

    async fn start_over(roads: bool, roles: &[&str], how: Launch) -> Self {
        let (postgres, redis) = (Postgres::start_lasting().await, Redis::start().await);
        let (database_road, redis_road) =
            (Proxy::to(&postgres.address()).await, Proxy::to(&redis.address()).await);
        let site = match roads {
            true => Site::new(
                database_road.instead_of(&postgres.url(), &postgres.address()),
                redis_road.instead_of(&redis.url(), &redis.address()),
            ),
            false => Site::new(postgres.url(), redis.url()),
        };
        let addresses: Vec<SocketAddr> = roles.iter().map(|_| free()).collect();
        let behind: Vec<_> = roles.iter().zip(&addresses).map(|(roles, at)| (services(roles), *at)).collect();
        let front = Front::start(&behind).await;
        let roles = roles.iter().map(|roles| (*roles).to_owned()).collect();
        let nodes = addresses.iter().map(|_| None).collect();
        let mut all =
            Self { site, postgres, redis, database_road, redis_road, front, nodes, addresses, roles, how };
        for n in 0..all.nodes.len() {
            all.launch(n);
        }
        all
    }

    /// Starts a node that is not there, at the address it had.
    pub fn launch(&mut self, n: usize) {
        let how = self.how.clone().role(&self.roles[n]).on(&self.addresses[n].to_string());
        self.nodes[n] = Some(self.site.launch(&format!("node{n}"), &how).serves());
    }

    /// A node that is there.
    pub fn node(&self, n: usize) -> &Server {
        self.nodes[n].as_ref().unwrap()
    }

    /// Every node that is there.
    pub fn nodes(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().flatten()
    }

    /// How many nodes there are to be.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Kills a node; the front finds out by itself.
    pub async fn kill(&mut self, n: usize) {
        if let Some(node) = self.nodes[n].take() {
            node.kill().await;
        }
    }

    /// Stops a node in order and starts it again, as a rolling update does: first nobody is led to it any more.
    pub async fn restart(&mut self, n: usize) {
        self.front.leaves(self.addresses[n], true);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        if let Some(node) = self.nodes[n].take() {
            node.stop().await;
        }
        self.launch(n);
        self.front.leaves(self.addresses[n], false);
    }

    /// The nodes with a role, past the front.
    pub fn with_role(&self, role: &str) -> Vec<Api> {
        let with = self.roles.iter().zip(&self.addresses).filter(|(roles, _)| is_of(roles, role));
        with.map(|(_, at)| Api::new(format!("http://{at}")).unwrap()).collect()
    }

    /// By way of the front.
    pub fn api(&self) -> Api {
        Api::new(format!("http://{}", self.front.addr)).unwrap()
    }

    /// Everybody by way of the front.
    pub fn ways(&self) -> Ways {
        Ways { phones: vec![self.api()], contacts: vec![self.api()], rest: self.api() }
    }

    /// Phones on the first node that streams and contacts on the last one, past the front.
    pub fn ways_apart(&self) -> Ways {
        let mut nodes = self.with_role("tracking");
        let (first, last) = (nodes.remove(0), nodes.pop());
        Ways { phones: vec![first.clone()], contacts: vec![last.unwrap_or(first)], rest: self.api() }
    }

    /// Lines that all nodes have logged so far.
    pub fn lines_logged(&self) -> usize {
        self.nodes().map(|node| node.logged().lines().count()).sum()
    }

    /// The sum of a metric over all nodes.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut all = 0.0;
        for node in self.nodes() {
            all += node.metric(name).await;
        }
        all
    }

    /// Stops every node in order.
    pub async fn stop(self) {
        futures_util::future::join_all(self.nodes.into_iter().flatten().map(Server::stop)).await;
    }
}

fn is_of(roles: &str, role: &str) -> bool {
    roles == "all" || roles.split(',').any(|one| one == role)
}

/// The services that lead to a node with these roles.
pub fn services(roles: &str) -> Vec<String> {
    let all = ["api", "tracking", "alerts", "push"];
    all.into_iter().filter(|role| is_of(roles, role)).map(|role| format!("cima-{role}")).collect()
}
