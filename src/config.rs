//! The settings of a node. Each is a flag and an environment variable; a flag wins over the environment, that over
//! the default. With none set a node runs whole in one process on an embedded store.

use crate::role::Roles;
use crate::store::Backend;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The settings of `cima serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where to listen: address and port; port 0 takes a free one.
    #[arg(long, env = "CIMA_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where metrics and the details of readiness are served instead of on the public address.
    #[arg(long, env = "CIMA_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// What this node does, separated by commas: `api`, `tracking`, `alerts`, `push`, or `all` of it.
    #[arg(long, env = "CIMA_ROLE", default_value = "all")]
    pub role: Roles,
    /// The folder of the embedded store and the signing key; made if missing.
    #[arg(long, env = "CIMA_DATA_DIR", default_value = "./cima-data")]
    pub data_dir: PathBuf,
    /// An Ed25519 private key in PEM (PKCS #8) that signs tokens. Without it one is made and kept in the data folder.
    #[arg(long, env = "CIMA_SIGNING_KEY_FILE")]
    pub signing_key_file: Option<PathBuf>,
    /// The PostgreSQL (with PostGIS) that all nodes keep everything in: `postgres://user:password@host/name`. Without it
    /// this node keeps it in files in the data folder.
    #[arg(long, env = "CIMA_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The Redis through which nodes tell each other where to look: `redis://host:6379`, or `rediss://` for TLS. Without it
    /// this node is alone.
    #[arg(long, env = "CIMA_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// How long fixes are kept, in seconds, unless a person chose otherwise.
    #[arg(long, env = "CIMA_RETENTION_S", default_value_t = 259_200, value_parser = clap::value_parser!(u64).range(3_600..=31_536_000))]
    pub retention_s: u64,
    /// How long the trail, the message and the claims of an emergency are kept after its end, in seconds.
    #[arg(long, env = "CIMA_INCIDENT_RETENTION_S", default_value_t = 2_592_000, value_parser = clap::value_parser!(u64).range(3_600..=315_360_000))]
    pub incident_retention_s: u64,
    /// How long alerts and transitions are kept, in seconds. The place of an alert in an inbox stays.
    #[arg(long, env = "CIMA_ALERT_RETENTION_S", default_value_t = 2_592_000, value_parser = clap::value_parser!(u64).range(3_600..=315_360_000))]
    pub alert_retention_s: u64,
    /// How long it is kept who has seen a position, in seconds after they last did.
    #[arg(long, env = "CIMA_DISCLOSURE_RETENTION_S", default_value_t = 31_536_000, value_parser = clap::value_parser!(u64).range(3_600..=315_360_000))]
    pub disclosure_retention_s: u64,
    /// Unacked fixes that one socket may have in flight.
    #[arg(long, env = "CIMA_STREAM_WINDOW", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stream_window: u32,
    /// Seconds between pings on a socket.
    #[arg(long, env = "CIMA_HEARTBEAT_S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub heartbeat_s: u64,
    /// Seconds for one write to a client, before the socket is closed as a slow consumer.
    #[arg(long, env = "CIMA_WRITE_DEADLINE_S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub write_deadline_s: u64,
    /// Seconds for sockets to close and queues to empty at a stop; closes are spread over the first 80 % of it.
    #[arg(long, env = "CIMA_DRAIN_S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub drain_s: u64,
    /// Memory of one password hash in KiB (argon2id, two passes). Below 19456 is for tests only.
    #[arg(long, env = "CIMA_PASSWORD_MEMORY_KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(8..=4_194_304))]
    pub password_memory_kib: u32,
    /// How people are reached whose app is not there.
    #[command(flatten)]
    pub push: PushConfig,
}

/// The providers of push. A channel is off unless its settings are there; secrets are read from files.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Push")]
pub struct PushConfig {
    /// Channels without a provider print to the log instead; for development.
    #[arg(long, env = "CIMA_PUSH_DEV")]
    pub push_dev: bool,
    /// Certificate authorities besides the system's for push providers, PEM.
    #[arg(long, env = "CIMA_PUSH_CA_FILE")]
    pub push_ca_file: Option<PathBuf>,
    /// Hosts, separated by commas, that people's webhooks and Web Push endpoints may name though they are private or
    /// without TLS.
    #[arg(long, env = "CIMA_PUSH_ALLOW_HOSTS", value_delimiter = ',')]
    pub push_allow_hosts: Vec<String>,
    /// The key file of a Google service account; turns FCM on.
    #[arg(long, env = "CIMA_FCM_CREDENTIALS_FILE")]
    pub fcm_credentials_file: Option<PathBuf>,
    /// Where FCM is, if not at Google.
    #[arg(long, env = "CIMA_FCM_URL")]
    pub fcm_url: Option<String>,
    /// Apple's key file (.p8); turns APNs on.
    #[arg(long, env = "CIMA_APNS_KEY_FILE", requires_all = ["apns_key_id", "apns_team_id", "apns_topic"])]
    pub apns_key_file: Option<PathBuf>,
    /// The id of that key.
    #[arg(long, env = "CIMA_APNS_KEY_ID")]
    pub apns_key_id: Option<String>,
    /// The developer team of that key.
    #[arg(long, env = "CIMA_APNS_TEAM_ID")]
    pub apns_team_id: Option<String>,
    /// The app's bundle id.
    #[arg(long, env = "CIMA_APNS_TOPIC")]
    pub apns_topic: Option<String>,
    /// Where APNs is, if not at its production address.
    #[arg(long, env = "CIMA_APNS_URL")]
    pub apns_url: Option<String>,
    /// The app has Apple's entitlement for critical alerts: emergencies sound on muted phones.
    #[arg(long, env = "CIMA_APNS_CRITICAL")]
    pub apns_critical: bool,
    /// A P-256 private key in PEM (PKCS #8) that signs Web Push (VAPID); turns it on.
    #[arg(long, env = "CIMA_VAPID_KEY_FILE", requires = "vapid_subject")]
    pub vapid_key_file: Option<PathBuf>,
    /// Whom a push service may ask: mailto: or https:.
    #[arg(long, env = "CIMA_VAPID_SUBJECT")]
    pub vapid_subject: Option<String>,
    /// Webhooks are sent.
    #[arg(long, env = "CIMA_WEBHOOKS")]
    pub webhooks: bool,
    /// The mail server, such as smtps://mail.example or smtp://mail.example?tls=required; turns mail on.
    #[arg(long, env = "CIMA_SMTP_URL", requires = "smtp_from")]
    pub smtp_url: Option<String>,
    /// Whom mails are from.
    #[arg(long, env = "CIMA_SMTP_FROM")]
    pub smtp_from: Option<String>,
    /// Who signs in at the mail server.
    #[arg(long, env = "CIMA_SMTP_USER", requires = "smtp_password_file")]
    pub smtp_user: Option<String>,
    /// The file with that password.
    #[arg(long, env = "CIMA_SMTP_PASSWORD_FILE")]
    pub smtp_password_file: Option<PathBuf>,
}

impl Config {
    /// Where everything is kept.
    pub fn backend(&self) -> Backend {
        match &self.database_url {
            Some(url) => Backend::Database(url.clone()),
            None => Backend::Folder(self.data_dir.clone()),
        }
    }

    /// The settings that nothing was set for; what a test changes starts here.
    pub fn with_defaults(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_listen: None,
            role: Roles::ALL,
            data_dir,
            signing_key_file: None,
            database_url: None,
            redis_url: None,
            retention_s: 259_200,
            incident_retention_s: 2_592_000,
            alert_retention_s: 2_592_000,
            disclosure_retention_s: 31_536_000,
            stream_window: 512,
            heartbeat_s: 20,
            write_deadline_s: 5,
            drain_s: 10,
            password_memory_kib: 19_456,
            push: PushConfig::default(),
        }
    }
}

/// The settings as the table in README.md: made from their definitions, so that it says what they do.
pub fn table() -> String {
    let command = <Config as clap::Args>::augment_args(clap::Command::new("serve"));
    let mut table = "| environment | flag | default | what |\n|---|---|---|---|\n".to_owned();
    for setting in command.get_arguments() {
        let (Some(environment), Some(flag)) = (setting.get_env(), setting.get_long()) else { continue };
        let defaults: Vec<_> = setting.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        let default =
            if defaults.is_empty() { "none".to_owned() } else { format!("`{}`", defaults.join(",")) };
        let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{}` | `--{flag}` | {default} | {help} |", environment.to_string_lossy());
    }
    table
}
