//! What a scenario is played on.

use super::{On, Scale};
use crate::background::{self, Background, Streamed};
use crate::layout::{Deployment, SIX};
use crate::node::{Launch, Server, Site};
use crate::sos::{Circle, Ways};
use crate::table::{Figure, Row};
use cima::client::Api;

/// Phones of the background.
const PHONES: usize = 50;

/// Nodes, and how they are reached.
pub enum Stage {
    /// Many, with a database and a Redis.
    Scaled(Box<Deployment>),
    /// One, on its own files.
    Embedded {
        /// Its files.
        site: Site,
        /// The node.
        node: Server,
    },
}

impl Stage {
    /// What is usual: passwords cost little.
    pub async fn set(on: On) -> Self {
        Self::set_with(on, Launch::default()).await
    }

    /// With other settings of each node.
    pub async fn set_with(on: On, how: Launch) -> Self {
        match on {
            On::Scaled => Self::Scaled(Box::new(Deployment::start_direct(SIX, how).await)),
            On::Embedded => {
                let site = Site::embedded();
                let node = site.launch("node", &how).serves();
                Self::Embedded { site, node }
            }
        }
    }

    /// Phones at one node and contacts at another, where there are two.
    pub fn ways(&self) -> Ways {
        match self {
            Self::Scaled(all) => all.ways_apart(),
            Self::Embedded { node, .. } => {
                Ways { phones: vec![node.api()], contacts: vec![node.api()], rest: node.api() }
            }
        }
    }

    /// Where phones of the background stream.
    pub fn streams(&self) -> Vec<Api> {
        match self {
            Self::Scaled(all) => all.with_role("tracking"),
            Self::Embedded { node, .. } => vec![node.api()],
        }
    }

    /// Where everybody speaks HTTP.
    pub fn api(&self) -> Api {
        self.ways().rest
    }

    /// The sum of a metric over all nodes.
    pub async fn metric(&self, name: &str) -> f64 {
        match self {
            Self::Scaled(all) => all.metric(name).await,
            Self::Embedded { node, .. } => node.metric(name).await,
        }
    }

    /// The usual stream of fixes.
    ///
    /// # Errors
    /// When a phone cannot be signed up.
    pub async fn background(&self, scale: &Scale) -> anyhow::Result<Background> {
        background(&self.api(), &self.streams(), scale).await
    }

    /// So many SOS can be told.
    ///
    /// # Errors
    /// When somebody cannot be signed up.
    pub async fn circle(&self, sos: usize) -> anyhow::Result<Circle> {
        Circle::gather(&self.ways(), sos).await
    }

    /// Stops every node in order.
    pub async fn stop(self) {
        match self {
            Self::Scaled(all) => all.stop().await,
            Self::Embedded { node, site } => {
                node.stop().await;
                drop(site);
            }
        }
    }
}

/// The usual stream of fixes, to these nodes.
pub(super) async fn background(rest: &Api, nodes: &[Api], scale: &Scale) -> anyhow::Result<Background> {
    let phones = background::phones(rest, scale.count(PHONES)).await?;
    let at = nodes.iter().map(|node| node.base().to_owned()).collect();
    Ok(Background::start(phones, at, scale.fixes_per_second(), 1, scale.seed))
}

/// Reads the books of the people and of the background.
pub(super) fn judge(row: &mut Row, circle: &Circle, streamed: &Streamed) {
    if streamed.unavailable > 0 {
        row.add(Figure::count("fixes to be sent again later", streamed.unavailable as f64));
    }
    row.verdict = circle.read(|books, heard| books.judge(heard)).and(streamed.fixes);
}
