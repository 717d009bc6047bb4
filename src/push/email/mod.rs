//! Mail, for a contact without the app.

use super::{Notification, Provider, SendOutcome, Target, text};
use async_trait::async_trait;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::time::Duration;

/// For one answer of the mail server.
const ANSWER: Duration = Duration::from_secs(8);
/// Connections to the mail server.
const CONNECTIONS: u32 = 4;

/// What mail is sent with.
#[derive(Clone)]
pub struct EmailSettings {
    /// The mail server: `smtps://host`, `smtp://host?tls=required`, or `smtp://host` on a network that is trusted.
    pub url: String,
    /// Who signs in there, and with what.
    pub credentials: Option<(String, String)>,
    /// Whom mails are from.
    pub from: String,
}

/// A pool of connections to a mail server.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Email {
    /// From settings.
    ///
    /// # Errors
    /// When one cannot be used; no part of it is in the text.
    pub fn new(settings: &EmailSettings) -> Result<Self, &'static str> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.url);
        let mut builder = builder.map_err(|_| "the mail server is not an smtp: or smtps: URL")?;
        if let Some((user, password)) = &settings.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        let pool = PoolConfig::new().max_size(CONNECTIONS);
        let from = settings.from.parse().map_err(|_| "the sender is not a mailbox")?;
        Ok(Self { transport: builder.timeout(Some(ANSWER)).pool_config(pool).build(), from })
    }
}

#[async_trait]
impl Provider for Email {
    async fn send(&self, notification: &Notification, target: &Target) -> SendOutcome {
        let Target::Email { address } = target else {
            return SendOutcome::Rejected { fault: "wrong_channel" };
        };
        let Some(mail) = mail(notification, address, &self.from) else {
            return SendOutcome::Rejected { fault: "bad_address" };
        };
        match self.transport.send(mail).await {
            Ok(_) => SendOutcome::Accepted,
            Err(error) if error.is_permanent() => SendOutcome::Rejected { fault: "refused" },
            Err(error) if error.is_transient() => SendOutcome::retry("not_taken"),
            Err(error) if error.is_timeout() => SendOutcome::retry("timeout"),
            Err(_) => SendOutcome::retry("broken"),
        }
    }
}

/// The same message id for every try, so that a repeat is known.
fn mail(notification: &Notification, address: &str, from: &Mailbox) -> Option<Message> {
    let (title, body) = text::texts(notification.matter, &notification.locale);
    let to: Address = address.parse().ok()?;
    Message::builder()
        .message_id(Some(format!("<{}@{}>", notification.alert, from.email.domain())))
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(title)
        .header(ContentType::TEXT_PLAIN)
        .body(format!("{body}\n\n{}\n", notification.alert))
        .ok()
}

/// Whether a mail can be addressed to it.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}
