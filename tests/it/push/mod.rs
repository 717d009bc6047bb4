//! Push against fakes that are as strict as the providers: what is sent, what becomes of it, and what is never lost.

mod fake;
mod foreign;
mod golden;
mod killed;
mod lifecycle;
mod mailbox;
mod outcomes;
mod providers;
mod reach;
mod secrets;

use crate::harness::{Person, TestNode};
use cima::clock::Clock;
use cima::config::Config;
use mailbox::MailServer;
use providers::{Browser, FakeApns, FakeFcm};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What webhooks are signed with in tests.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One fake of each provider, and the files that settings name.
struct Providers {
    fcm: FakeFcm,
    apns: FakeApns,
    browser: Browser,
    hook: fake::Fake,
    mail: MailServer,
    vapid: String,
    files: TempDir,
}

impl Providers {
    async fn start(clock: &Clock) -> Self {
        let made = Self {
            fcm: providers::fcm(clock).await,
            apns: providers::apns(clock),
            browser: providers::browser(clock).await,
            hook: providers::webhook(clock, SECRET).await,
            mail: MailServer::start().await,
            vapid: providers::p256().0,
            files: TempDir::new().unwrap(),
        };
        let files = [
            ("fcm.json", &made.fcm.credentials),
            ("apns.p8", &made.apns.key),
            ("ca.pem", &made.apns.authority),
            ("vapid.pem", &made.vapid),
        ];
        for (name, text) in files {
            fs::write(made.file(name), text).unwrap();
        }
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn configure(&self, config: &mut Config) {
        let push = &mut config.push;
        push.push_ca_file = Some(self.file("ca.pem"));
        push.push_allow_hosts = vec!["127.0.0.1".into()];
        push.fcm_credentials_file = Some(self.file("fcm.json"));
        push.fcm_url = Some(self.fcm.fake.url());
        push.apns_key_file = Some(self.file("apns.p8"));
        push.apns_key_id = Some("KEY1234567".into());
        push.apns_team_id = Some("TEAM123456".into());
        push.apns_topic = Some("org.example.cima".into());
        push.apns_url = Some(self.apns.url());
        push.vapid_key_file = Some(self.file("vapid.pem"));
        push.vapid_subject = Some("mailto:ops@cima.example".into());
        push.webhooks = true;
        push.smtp_url = Some(format!("smtp://{}", self.mail.addr));
        push.smtp_from = Some("cima <push@cima.example>".into());
    }

    /// A node that sends to them.
    async fn node(&self, clock: Clock) -> TestNode {
        TestNode::start_with(clock, |config| self.configure(config)).await
    }

    /// The same settings as flags.
    fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).to_str().unwrap().to_owned();
        [
            ("--push-ca-file", file("ca.pem")),
            ("--push-allow-hosts", "127.0.0.1".into()),
            ("--fcm-credentials-file", file("fcm.json")),
            ("--fcm-url", self.fcm.fake.url()),
            ("--apns-key-file", file("apns.p8")),
            ("--apns-key-id", "KEY1234567".into()),
            ("--apns-team-id", "TEAM123456".into()),
            ("--apns-topic", "org.example.cima".into()),
            ("--apns-url", self.apns.url()),
            ("--vapid-key-file", file("vapid.pem")),
            ("--vapid-subject", "mailto:ops@cima.example".into()),
            ("--smtp-url", format!("smtp://{}", self.mail.addr)),
            ("--smtp-from", "cima <push@cima.example>".into()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .chain(["--webhooks".to_owned()])
        .collect()
    }

    /// What a device gives for each channel.
    fn endpoints(&self) -> [(&'static str, Value); 5] {
        [
            ("fcm", json!({"token": "fcm-registration-token-of-bo"})),
            ("apns", json!({"token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"})),
            ("webpush", self.browser.subscription()),
            ("webhook", json!({"url": format!("{}/hook/of-bo", self.hook.url()), "secret": SECRET})),
            ("email", json!({"address": "bo@mail.example"})),
        ]
    }
}

impl Person {
    /// Registers how this person's device is reached.
    async fn reached_by(&self, channel: &str, endpoint: Value) {
        let path = format!("/v1/devices/{}/push/{channel}", self.session.device);
        let answer = self.call("PUT", &path, endpoint).await;
        assert_eq!(answer.status, 204, "{channel}: {:?}", answer.body);
    }
}

/// Compares with a golden file; `CIMA_WRITE_GOLDEN=1` writes it.
fn golden(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/push/golden").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("CIMA_WRITE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name} has changed; if that is meant, run with CIMA_WRITE_GOLDEN=1");
}
