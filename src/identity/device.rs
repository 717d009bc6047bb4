//! A device: a phone, tablet or browser of a person; one of them is tracked.

use crate::clock::Timestamp;
use crate::id::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// What runs on a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// An iPhone or iPad.
    Ios,
    /// An Android phone.
    Android,
    /// A browser.
    Web,
    /// Anything else.
    Other,
}

impl Platform {
    /// The word it is stored and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
            Self::Other => "other",
        }
    }
    /// From [`Platform::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Ios, Self::Android, Self::Web, Self::Other].into_iter().find(|p| p.word() == word)
    }
}

/// The device a person signs in on.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceIn {
    /// The id of an earlier sign-in on the same device, to go on as that one.
    pub id: Option<DeviceId>,
    /// 1 to 64 characters; what its owner calls it.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub name: String,
    /// What runs on it.
    pub platform: Platform,
    /// This is the person's phone now: it drives their fences from here on.
    pub is_my_phone: Option<bool>,
}

/// A device as its owner sees it.
#[derive(Clone, Serialize, utoipa::ToSchema)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whose it is.
    #[serde(skip)]
    pub user: UserId,
    /// What its owner calls it.
    pub name: String,
    /// What runs on it.
    pub platform: Platform,
    /// Whether this one drives the person's fences.
    pub tracked: bool,
    /// First sign-in.
    pub created_at: Timestamp,
}
