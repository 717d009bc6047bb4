//! A geofence: a shape of a person's own, and what is told when they cross its edge.

use crate::clock::Timestamp;
use crate::geo::{RawShape, Shape};
use crate::id::{DeviceId, GeofenceId, TransitionId, UserId, derived};
use crate::typed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What a fence may be watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// From outside to inside.
    Enter,
    /// From inside to outside.
    Exit,
    /// Inside for `dwell_s`.
    Dwell,
    /// Passed through between two fixes outside.
    Cross,
}

impl Trigger {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enter => "enter",
            Self::Exit => "exit",
            Self::Dwell => "dwell",
            Self::Cross => "cross",
        }
    }
    /// From [`Trigger::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Enter, Self::Exit, Self::Dwell, Self::Cross].into_iter().find(|t| t.word() == word)
    }
}

/// How much an alert matters.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    #[default]
    Info,
    /// Look when you can.
    Warning,
    /// Look now.
    Critical,
}

impl Severity {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
    /// From [`Severity::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Info, Self::Warning, Self::Critical].into_iter().find(|s| s.word() == word)
    }
}

/// What a name of a fence or a zone may not be, if it is that.
pub fn fault_of_name(name: &str) -> Option<String> {
    typed::fault_of_name(name, 1, 64)
}

/// A fence as a client writes it.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceIn {
    /// A client-made id, so that a repeat is the same fence.
    pub id: Option<GeofenceId>,
    /// 1 to 64 characters.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub name: String,
    /// Circle, Polygon or MultiPolygon.
    pub shape: RawShape,
    /// What it is watched for; at least one.
    #[schema(min_items = 1)]
    pub triggers: Vec<Trigger>,
    /// How long inside makes a dwell, seconds.
    #[serde(default = "default_dwell_s")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub dwell_s: u32,
    /// After an alert, further ones of the same kind are history only for so long, seconds.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    pub cooldown_s: u32,
    /// How much its alerts matter.
    #[serde(default)]
    pub severity: Severity,
    /// Who is told; every contact with `alerts` if absent. Others are never told.
    pub notify: Option<Vec<UserId>>,
}

fn default_dwell_s() -> u32 {
    300
}

/// A fence that was checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Geofence {
    /// Its id.
    pub id: GeofenceId,
    /// Whose.
    pub owner: UserId,
    /// What its owner calls it.
    pub name: String,
    /// Where.
    pub shape: Arc<Shape>,
    /// What it is watched for.
    pub triggers: Vec<Trigger>,
    /// How long inside makes a dwell.
    pub dwell: Duration,
    /// After an alert, further ones of the same kind are history only for so long.
    pub cooldown: Duration,
    /// How much its alerts matter.
    pub severity: Severity,
    /// Who is told; every contact with `alerts` if `None`.
    pub notify: Option<Vec<UserId>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts changes of its shape: memberships of an older shape mean nothing.
    pub revision: i64,
}

/// A change of membership that was found at a fix.
#[derive(Clone, PartialEq, Debug)]
pub struct Transition {
    /// Derived from (device, fence, kind, seq, revision), so order and repetition change nothing.
    pub id: TransitionId,
    /// Whose.
    pub owner: UserId,
    /// The tracked device.
    pub device: DeviceId,
    /// Which fence.
    pub fence: GeofenceId,
    /// What happened.
    pub kind: Trigger,
    /// When, by the fix that shows it.
    pub at: Timestamp,
    /// That fix's number.
    pub seq: i64,
    /// The state in which the fence was first seen: history, never an alert.
    pub initial: bool,
    /// Found at a fix that came late.
    pub late: bool,
}

impl Transition {
    /// The id of a transition, from what it is.
    pub fn id_of(device: DeviceId, fence: &Geofence, kind: Trigger, seq: i64) -> TransitionId {
        TransitionId(derived(
            "transition",
            &[
                device.0.as_bytes(),
                fence.id.0.as_bytes(),
                kind.word().as_bytes(),
                &seq.to_be_bytes(),
                &fence.revision.to_be_bytes(),
            ],
        ))
    }
}
