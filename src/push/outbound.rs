//! The HTTP client of a provider, made when it is first needed, and what answers have in common.

use super::SendOutcome;
use crate::clock::{Clock, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use std::sync::OnceLock;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(4);
/// Between signs of life on a connection that waits for work.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How much of an answer is read; what providers say is shorter.
const ANSWER: usize = 8 * 1024;

/// Certificate authorities besides the system's, in PEM.
#[derive(Clone, Default)]
pub struct Authorities(Vec<Certificate>);

impl Authorities {
    /// From a bundle.
    ///
    /// # Errors
    /// When it is not PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, reqwest::Error> {
        Certificate::from_pem_bundle(pem).map(Self)
    }
}

/// A client that is made at its first use and kept. On a machine without certificate authorities it cannot be made:
/// that is a failed send, told and tried again, and no reason not to start.
pub struct Outbound {
    change: Box<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>,
    authorities: Authorities,
    made: OnceLock<Client>,
}

impl Outbound {
    /// A client with these authorities too, its settings changed by `change`.
    pub fn new(
        authorities: Authorities,
        change: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        Self { change: Box::new(change), authorities, made: OnceLock::new() }
    }

    /// The client.
    pub(super) fn client(&self) -> Result<&Client, SendOutcome> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .tls_certs_merge(self.authorities.0.iter().cloned());
        match (self.change)(builder).build() {
            // Of two that were made at once, one stays.
            Ok(client) => Ok(self.made.get_or_init(|| client)),
            Err(error) => {
                tracing::error!(%error, "no client for a push provider can be made; it is tried again");
                Err(SendOutcome::retry("no_client"))
            }
        }
    }
}

/// An answer, as much of it as anybody reads.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    /// Not now, for as long as the provider says.
    pub(super) fn retry(&self, clock: &Clock, fault: &'static str) -> SendOutcome {
        SendOutcome::Retry { after: retry_after(&self.headers, clock.now()), fault }
    }
}

/// Sends a request and reads the beginning of its answer.
pub(super) async fn exchange(request: RequestBuilder) -> Result<Answer, SendOutcome> {
    let mut response: Response = request.send().await.map_err(|error| failed(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        let rest = ANSWER.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
        if chunk.len() >= rest {
            break;
        }
    }
    Ok(Answer { status, headers, body })
}

/// The text of such an error has the URL in it, and with that a token: only its kind is told.
fn failed(error: &reqwest::Error) -> SendOutcome {
    SendOutcome::retry(if error.is_connect() {
        "connect"
    } else if error.is_timeout() {
        "timeout"
    } else {
        "broken"
    })
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let said = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(said, &Rfc2822).ok()?;
    Some(Timestamp::from_unix_ms(date.unix_timestamp().saturating_mul(1000)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("2015-10-21T07:27:30Z").unwrap();
        let read =
            |said: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, said.parse().unwrap())]), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
