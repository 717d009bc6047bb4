//! From settings to providers: a channel that is not configured has none.

use super::{
    Apns, ApnsSettings, Authorities, Channel, Dev, Email, EmailSettings, Fcm, FcmSettings, Guard, Provider,
    Urgency, WebPush, WebPushSettings, Webhook,
};
use crate::clock::Clock;
use std::collections::HashMap;
use std::sync::Arc;

/// What push is reached with.
#[derive(Clone, Default)]
pub struct PushSettings {
    /// Firebase Cloud Messaging.
    pub fcm: Option<FcmSettings>,
    /// Apple's push notification service.
    pub apns: Option<ApnsSettings>,
    /// Web Push.
    pub webpush: Option<WebPushSettings>,
    /// Webhooks are sent.
    pub webhooks: bool,
    /// Mail.
    pub email: Option<EmailSettings>,
    /// Channels without a provider print to the log.
    pub dev: bool,
    /// Certificate authorities besides the system's.
    pub authorities: Authorities,
    /// Where people's own URLs may lead.
    pub guard: Guard,
}

/// The providers of one node.
#[derive(Clone, Default)]
pub struct Providers {
    by_queue: HashMap<(Channel, Urgency), Arc<dyn Provider>>,
    web_push_key: Option<String>,
}

impl Providers {
    /// Each channel that is configured, with a client of its own for each urgency.
    ///
    /// # Errors
    /// The channel whose settings cannot be used, and why.
    pub fn new(settings: &PushSettings, clock: &Clock) -> Result<Self, (Channel, &'static str)> {
        let mut providers = Self::default();
        let authorities = &settings.authorities;
        for urgency in Urgency::ALL {
            let clock = || clock.clone();
            if let Some(fcm) = &settings.fcm {
                let made = Fcm::new(fcm, authorities, clock()).map_err(|why| (Channel::Fcm, why))?;
                providers.add(Channel::Fcm, urgency, Arc::new(made));
            }
            if let Some(apns) = &settings.apns {
                let made = Apns::new(apns, authorities, clock()).map_err(|why| (Channel::Apns, why))?;
                providers.add(Channel::Apns, urgency, Arc::new(made));
            }
            if let Some(webpush) = &settings.webpush {
                let made = WebPush::new(webpush, authorities, settings.guard.clone(), clock());
                let made = made.map_err(|why| (Channel::Webpush, why))?;
                providers.web_push_key = Some(made.public_key().to_owned());
                providers.add(Channel::Webpush, urgency, Arc::new(made));
            }
            if settings.webhooks {
                let made = Webhook::new(authorities, settings.guard.clone(), clock());
                providers.add(Channel::Webhook, urgency, Arc::new(made));
            }
            if let Some(email) = &settings.email {
                let made = Email::new(email).map_err(|why| (Channel::Email, why))?;
                providers.add(Channel::Email, urgency, Arc::new(made));
            }
            if settings.dev {
                for channel in Channel::ALL {
                    providers.by_queue.entry((channel, urgency)).or_insert_with(|| Arc::new(Dev));
                }
            }
        }
        Ok(providers)
    }

    fn add(&mut self, channel: Channel, urgency: Urgency, provider: Arc<dyn Provider>) {
        self.by_queue.insert((channel, urgency), provider);
    }

    /// The provider of a queue, if its channel is on.
    pub fn get(&self, channel: Channel, urgency: Urgency) -> Option<&Arc<dyn Provider>> {
        self.by_queue.get(&(channel, urgency))
    }

    /// The channels that are on.
    pub fn channels(&self) -> Vec<Channel> {
        let on = |channel: &Channel| self.by_queue.contains_key(&(*channel, Urgency::Emergency));
        Channel::ALL.into_iter().filter(on).collect()
    }

    /// The key that a browser subscribes with, if Web Push is on.
    pub fn web_push_key(&self) -> Option<&str> {
        self.web_push_key.as_deref()
    }
}
