//! What the transports call: the services of the domains, made once by `app`.

use crate::alerts::Alerts;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::push::Push;
use crate::tracking::Tracking;
use crate::trust::Trust;
use std::sync::Arc;

/// The services of one node.
#[derive(Clone)]
pub struct Services {
    /// Accounts, devices, sessions, tokens.
    pub identity: Arc<Identity>,
    /// Links and disclosures.
    pub trust: Arc<Trust>,
    /// Fixes and fences.
    pub tracking: Arc<Tracking>,
    /// Emergencies and inboxes.
    pub alerts: Arc<Alerts>,
    /// Where people are reached.
    pub push: Arc<Push>,
    /// Publish and subscribe.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Whether this node can take an SOS now.
    pub readiness: Arc<dyn Readiness>,
}

/// One thing that must work for a node to be ready.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether an SOS needs it; what it does not need is only shown.
    pub judged: bool,
    /// `None` if it works, or why it does not.
    pub fault: Option<String>,
}

impl Check {
    /// Whether a node that found this can take an SOS now.
    pub fn all_hold(checks: &[Self]) -> bool {
        checks.iter().all(|check| !check.judged || check.fault.is_none())
    }
}

/// Answers whether a node can take an SOS now.
pub trait Readiness: Send + Sync {
    /// What was found when it was last looked, not long ago.
    fn checks(&self) -> Vec<Check>;
    /// The node was told to stop: it takes nobody new.
    fn is_draining(&self) -> bool;
    /// The metrics of this process in Prometheus' text format.
    fn metrics(&self) -> String;
}
