//! From the settings of push to what `push` needs; secrets are read from their files here.

use crate::clock::Clock;
use crate::config::PushConfig;
use crate::push::{
    ApnsSettings, Authorities, EmailSettings, FcmSettings, Guard, Providers, PushSettings, WebPushSettings,
};
use anyhow::{Context, anyhow};
use std::fs;
use std::path::Path;

const FCM: &str = "https://fcm.googleapis.com";
const APNS: &str = "https://api.push.apple.com";

/// One provider for all of TLS; the first to call it in a process decides.
pub(super) fn install_crypto() {
    // An error means that a node was started in this process before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn secret(file: &Path, what: &str) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{what} {}", file.display()))
}

/// # Errors
/// When a file cannot be read.
pub(super) fn settings(config: &PushConfig) -> anyhow::Result<PushSettings> {
    let c = config.clone();
    let url = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.to_owned());
    let fcm = match &c.fcm_credentials_file {
        Some(file) => {
            Some(FcmSettings { credentials: secret(file, "the FCM credentials")?, url: url(c.fcm_url, FCM) })
        }
        None => None,
    };
    let apns = match &c.apns_key_file {
        Some(file) => Some(ApnsSettings {
            key: secret(file, "the APNs key")?,
            key_id: c.apns_key_id.context("--apns-key-id is missing")?,
            team_id: c.apns_team_id.context("--apns-team-id is missing")?,
            topic: c.apns_topic.context("--apns-topic is missing")?,
            url: url(c.apns_url, APNS),
            critical: c.apns_critical,
        }),
        None => None,
    };
    let webpush = match &c.vapid_key_file {
        Some(file) => Some(WebPushSettings {
            key: secret(file, "the VAPID key")?,
            subject: c.vapid_subject.context("--vapid-subject is missing")?,
        }),
        None => None,
    };
    let credentials = match (c.smtp_user, &c.smtp_password_file) {
        (Some(user), Some(file)) => Some((user, secret(file, "the mail password")?.trim_end().to_owned())),
        _ => None,
    };
    let email = match c.smtp_url {
        Some(url) => {
            Some(EmailSettings { url, credentials, from: c.smtp_from.context("--smtp-from is missing")? })
        }
        None => None,
    };
    let authorities = match &c.push_ca_file {
        Some(file) => {
            let pem = secret(file, "the certificate authorities")?;
            Authorities::from_pem(pem.as_bytes()).with_context(|| format!("{}", file.display()))?
        }
        None => Authorities::default(),
    };
    Ok(PushSettings {
        fcm,
        apns,
        webpush,
        webhooks: c.webhooks,
        email,
        dev: c.push_dev,
        authorities,
        guard: Guard::allowing(c.push_allow_hosts),
    })
}

/// # Errors
/// When a provider's settings cannot be used.
pub(super) fn providers(settings: &PushSettings, clock: &Clock) -> anyhow::Result<Providers> {
    let providers = Providers::new(settings, clock)
        .map_err(|(channel, why)| anyhow!("the settings of {} cannot be used: {why}", channel.word()))?;
    tracing::info!(channels = words(&providers), "push");
    Ok(providers)
}

fn words(providers: &Providers) -> String {
    let on: Vec<&str> = providers.channels().into_iter().map(|c| c.word()).collect();
    on.join(" ")
}

/// The channels that these settings turn on, once every file was read and every key was understood.
///
/// # Errors
/// As a start would fail.
pub(crate) fn channels(config: &PushConfig, clock: &Clock) -> anyhow::Result<String> {
    Ok(words(&providers(&settings(config)?, clock)?))
}
