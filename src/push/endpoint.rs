//! Where a person is reached: a channel and what its provider needs to find one device.

use crate::clock::Timestamp;
use crate::id::{DeviceId, derived};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// After so long without being registered again, a token should be refreshed.
const STALE: Duration = Duration::from_secs(30 * 24 * 3600);
/// After so long it is believed to be dead; FCM forgets tokens by then.
pub(super) const EXPIRED: Duration = Duration::from_secs(270 * 24 * 3600);

/// A kind of provider.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple's push notification service.
    Apns,
    /// Web Push, to a browser or UnifiedPush.
    Webpush,
    /// A signed request to a server.
    Webhook,
    /// A mail.
    Email,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fcm, Self::Apns, Self::Webpush, Self::Webhook, Self::Email];

    /// The word it is stored, counted and written as.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Webpush => "webpush",
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }
    /// From [`Channel::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.word() == word)
    }
    /// Whether its endpoints are made by the platform, which may take them back: such a token grows old.
    pub const fn is_platforms(self) -> bool {
        matches!(self, Self::Fcm | Self::Apns | Self::Webpush)
    }
}

/// What a provider needs to reach one device. Whoever has it can send to the device, so it prints as its channel.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "lowercase")]
pub enum Target {
    /// An FCM registration token.
    Fcm {
        /// The token.
        token: String,
    },
    /// An APNs device token.
    Apns {
        /// The token.
        token: String,
    },
    /// A W3C PushSubscription.
    Webpush {
        /// Where the push service takes messages for it.
        endpoint: String,
        /// The browser's public key: base64url of an uncompressed point on P-256.
        p256dh: String,
        /// The browser's secret: base64url of 16 bytes.
        auth: String,
    },
    /// A server of the person's.
    Webhook {
        /// Where it takes requests.
        url: String,
        /// `whsec_` and base64: what requests are signed with.
        secret: String,
        /// The secret before it, while both are signed with.
        previous: Option<Previous>,
    },
    /// A mailbox.
    Email {
        /// Its address.
        address: String,
    },
}

/// A webhook's secret that was replaced.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    /// The secret.
    pub secret: String,
    /// Until when requests are signed with it too, milliseconds of Unix time.
    pub until_ms: i64,
}

impl Target {
    /// Its channel.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Fcm { .. } => Channel::Fcm,
            Self::Apns { .. } => Channel::Apns,
            Self::Webpush { .. } => Channel::Webpush,
            Self::Webhook { .. } => Channel::Webhook,
            Self::Email { .. } => Channel::Email,
        }
    }

    /// Whose limits its sends count against: the provider, or the server that the endpoint names.
    pub fn service(&self) -> String {
        match self {
            Self::Webpush { endpoint: url, .. } | Self::Webhook { url, .. } => {
                let url = reqwest::Url::parse(url).ok();
                url.map(|u| u.origin().ascii_serialization()).unwrap_or_default()
            }
            Self::Fcm { .. } | Self::Apns { .. } | Self::Email { .. } => self.channel().word().to_owned(),
        }
    }

    /// A hash of a token that a platform gave to one device: registered elsewhere, it has moved there.
    pub fn mark(&self) -> Option<Uuid> {
        let token = match self {
            Self::Fcm { token } | Self::Apns { token } => token,
            Self::Webpush { endpoint, .. } => endpoint,
            Self::Webhook { .. } | Self::Email { .. } => return None,
        };
        Some(derived("push token", &[self.channel().word().as_bytes(), token.as_bytes()]))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.channel().word())
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Previous(..)")
    }
}

/// A registered endpoint.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Endpoint {
    /// The device it was registered for.
    pub device: DeviceId,
    /// How to reach it.
    #[serde(flatten)]
    pub target: Target,
    /// When it was last registered.
    pub registered_at: Timestamp,
}

impl Endpoint {
    /// Whether the app should register it again: tokens grow old.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.target.channel().is_platforms() && now.since(self.registered_at) >= STALE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_prints_no_secret_and_names_its_service() {
        let hook = Target::Webhook {
            url: "https://hook.example:8443/a/secret/path?x=1".into(),
            secret: "whsec_c2VjcmV0".into(),
            previous: Some(Previous { secret: "whsec_b2xk".into(), until_ms: 1 }),
        };
        assert_eq!(format!("{hook:?}"), "Target(webhook)");
        assert_eq!(hook.service(), "https://hook.example:8443");
        assert_eq!(hook.mark(), None);
        let (fcm, apns) = (Target::Fcm { token: "t".into() }, Target::Apns { token: "t".into() });
        assert_eq!((fcm.service().as_str(), apns.service().as_str()), ("fcm", "apns"));
        assert_ne!(fcm.mark(), apns.mark());
    }

    #[test]
    fn a_token_grows_old_and_a_mailbox_does_not() {
        let day = Duration::from_secs(24 * 3600);
        let at = Timestamp::from_unix_ms(0);
        let endpoint = |target| Endpoint { device: DeviceId(Uuid::nil()), target, registered_at: at };
        let token = endpoint(Target::Fcm { token: "t".into() });
        assert!(!token.is_stale(at + day * 29) && token.is_stale(at + day * 30));
        assert!(!endpoint(Target::Email { address: "a@b".into() }).is_stale(at + day * 300));
    }
}
