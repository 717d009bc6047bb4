//! The service: what a person registers, and what those who run it may replay.

use super::webhook::{fresh_secret, key};
use super::{Channel, Endpoint, Guard, Previous, Providers, PushError, PushStore, Target, email, webpush};
use crate::clock::{Clock, Timestamp};
use crate::id::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The longest token or URL; what platforms give is shorter.
const LONGEST: usize = 4_096;
/// How long a webhook's replaced secret signs too, so that a receiver can be changed in peace.
const ROTATION: Duration = Duration::from_secs(24 * 3600);

/// What reaches a device: the fields of its channel, and no other.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointIn {
    /// fcm, apns: the token.
    pub token: Option<String>,
    /// webpush: where the push service takes messages.
    pub endpoint: Option<String>,
    /// webpush: the browser's keys.
    pub keys: Option<SubscriptionKeys>,
    /// webpush: part of a PushSubscription; of no use to a server that is told when one has ended.
    #[serde(rename = "expirationTime")]
    pub expiration_time: Option<serde_json::Value>,
    /// webhook: where requests go.
    pub url: Option<String>,
    /// webhook: what they are signed with; made if it is not given.
    pub secret: Option<String>,
    /// email: the mailbox.
    pub address: Option<String>,
}

/// The keys of a W3C PushSubscription.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionKeys {
    /// The browser's public key: base64url of an uncompressed point on P-256.
    pub p256dh: String,
    /// The browser's secret: base64url of 16 bytes.
    pub auth: String,
}

/// An endpoint as its person sees it.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PushEndpoint)]
pub struct EndpointView {
    /// Its channel.
    pub channel: Channel,
    /// When it was last registered.
    pub registered_at: Timestamp,
    /// Register it again: tokens grow old.
    pub stale: bool,
    /// A webhook's URL without its path, or a mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// The service of push.
pub struct Push {
    store: Arc<dyn PushStore>,
    providers: Providers,
    guard: Guard,
    clock: Clock,
}

impl Push {
    /// Over a store.
    pub fn new(store: Arc<dyn PushStore>, providers: Providers, guard: Guard, clock: Clock) -> Self {
        Self { store, providers, guard, clock }
    }

    /// The channels that this server sends through, and the key that a browser subscribes with.
    pub fn offered(&self) -> (Vec<Channel>, Option<&str>) {
        (self.providers.channels(), self.providers.web_push_key())
    }

    /// Registers how a device is reached through a channel, in place of what was there. A webhook's secret, if one
    /// was made.
    ///
    /// # Errors
    /// `Invalid`; `NotFound` if the device is not the person's.
    pub async fn register(
        &self,
        user: UserId,
        device: DeviceId,
        channel: Channel,
        given: EndpointIn,
    ) -> Result<Option<String>, PushError> {
        let mut target = self.read(channel, given)?;
        let mut made = None;
        if let Target::Webhook { url, secret, previous } = &mut target {
            let before = self.before(user, device, url).await?;
            if secret.is_empty() {
                let fresh = match &before {
                    Some((known, _)) => known.clone(),
                    None => fresh_secret().ok_or(PushError::invalid("secret", "given"))?,
                };
                made = before.is_none().then(|| fresh.clone());
                *secret = fresh;
            }
            *previous = match before {
                Some((known, kept)) if known == *secret => kept,
                Some((known, _)) => {
                    let until_ms = (self.clock.now() + ROTATION).unix_ms();
                    Some(Previous { secret: known, until_ms })
                }
                None => None,
            };
        }
        if !self.store.register_endpoint(user, device, &target, self.clock.now()).await? {
            return Err(PushError::NotFound("endpoint"));
        }
        Ok(made)
    }

    /// The secrets of the same webhook before, if it was one.
    async fn before(
        &self,
        user: UserId,
        device: DeviceId,
        url: &str,
    ) -> Result<Option<(String, Option<Previous>)>, PushError> {
        let known = self.store.endpoints(user).await?.into_iter().find_map(|e| match e.target {
            Target::Webhook { url: known, secret, previous } if e.device == device && known == url => {
                Some((secret, previous))
            }
            _ => None,
        });
        Ok(known)
    }

    /// Forgets how a device is reached through a channel.
    ///
    /// # Errors
    /// `NotFound` if there is nothing to forget.
    pub async fn unregister(
        &self,
        user: UserId,
        device: DeviceId,
        channel: Channel,
    ) -> Result<(), PushError> {
        let removed = self.store.remove_endpoint(user, device, channel).await?;
        if removed { Ok(()) } else { Err(PushError::NotFound("endpoint")) }
    }

    /// How a device is reached.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn endpoints(&self, user: UserId, device: DeviceId) -> Result<Vec<EndpointView>, PushError> {
        let now = self.clock.now();
        let all = self.store.endpoints(user).await?;
        Ok(all.into_iter().filter(|e| e.device == device).map(|e| view(&e, now)).collect())
    }

    /// All that is kept of how a person is reached, secrets too: theirs to take away.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn kept(&self, user: UserId) -> Result<Vec<Endpoint>, PushError> {
        Ok(self.store.endpoints(user).await?)
    }

    fn read(&self, channel: Channel, given: EndpointIn) -> Result<Target, PushError> {
        let EndpointIn { token, endpoint, keys, expiration_time, url, secret, address } = given;
        // What belongs to another channel was meant for another channel.
        let strangers = [
            ("token", token.is_some(), matches!(channel, Channel::Fcm | Channel::Apns)),
            ("endpoint", endpoint.is_some(), channel == Channel::Webpush),
            ("keys", keys.is_some(), channel == Channel::Webpush),
            ("expirationTime", expiration_time.is_some(), channel == Channel::Webpush),
            ("url", url.is_some(), channel == Channel::Webhook),
            ("secret", secret.is_some(), channel == Channel::Webhook),
            ("address", address.is_some(), channel == Channel::Email),
        ];
        if let Some((field, ..)) = strangers.into_iter().find(|(_, there, own)| *there && !own) {
            return Err(PushError::invalid(field, "nothing: this channel has no such field"));
        }
        match channel {
            Channel::Fcm => Ok(Target::Fcm { token: self.token(token)? }),
            Channel::Apns => Ok(Target::Apns { token: self.token(token)? }),
            Channel::Webpush => self.subscription(endpoint, keys),
            Channel::Webhook => {
                let url = self.url("url", url)?;
                let secret = secret.unwrap_or_default();
                if !secret.is_empty() && key(&secret).is_none() {
                    let detail = "whsec_ and the base64 of 24 to 64 bytes";
                    return Err(PushError::invalid("secret", detail));
                }
                Ok(Target::Webhook { url, secret, previous: None })
            }
            Channel::Email => match address {
                Some(address) if address.len() <= 254 && email::is_address(&address) => {
                    Ok(Target::Email { address })
                }
                _ => Err(PushError::invalid("address", "the address of a mailbox")),
            },
        }
    }

    fn token(&self, token: Option<String>) -> Result<String, PushError> {
        let good = |t: &String| (1..=LONGEST).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
        let detail = "1 to 4,096 visible ASCII characters";
        token.filter(good).ok_or(PushError::invalid("token", detail))
    }

    fn url(&self, field: &'static str, given: Option<String>) -> Result<String, PushError> {
        let given = given.filter(|url| url.len() <= LONGEST);
        let given = given.ok_or(PushError::invalid(field, "a URL of at most 4,096 characters"))?;
        let url = self.guard.check(&given).map_err(|detail| PushError::invalid(field, detail))?;
        Ok(url.into())
    }

    fn subscription(
        &self,
        endpoint: Option<String>,
        keys: Option<SubscriptionKeys>,
    ) -> Result<Target, PushError> {
        let endpoint = self.url("endpoint", endpoint)?;
        let keys = keys.ok_or(PushError::invalid("keys", "the keys of a PushSubscription"))?;
        let point = webpush::decode(&keys.p256dh).is_some_and(|key| key.len() == 65 && key[0] == 4);
        if !point {
            let detail = "base64url of an uncompressed point on P-256";
            return Err(PushError::invalid("keys.p256dh", detail));
        }
        if webpush::decode(&keys.auth).is_none_or(|auth| auth.len() != 16) {
            return Err(PushError::invalid("keys.auth", "base64url of 16 bytes"));
        }
        Ok(Target::Webpush { endpoint, p256dh: keys.p256dh, auth: keys.auth })
    }
}

fn view(endpoint: &Endpoint, now: Timestamp) -> EndpointView {
    let address = match &endpoint.target {
        Target::Webhook { .. } => Some(endpoint.target.service()),
        Target::Email { address } => Some(address.clone()),
        Target::Fcm { .. } | Target::Apns { .. } | Target::Webpush { .. } => None,
    };
    EndpointView {
        channel: endpoint.target.channel(),
        registered_at: endpoint.registered_at,
        stale: endpoint.is_stale(now),
        address,
    }
}
