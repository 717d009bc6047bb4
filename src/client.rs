//! A small client of the public contract: what the demo, the load generator and the tests speak to a server with.

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Waits no longer than this for an answer or a frame, unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The REST side of a server.
#[derive(Clone)]
pub struct Api {
    base: String,
    http: reqwest::Client,
}

/// An answer: its status and its JSON (null if it has none).
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// The body, if the status is one of success.
    ///
    /// # Errors
    /// Says what was answered instead.
    pub fn ok(self) -> anyhow::Result<Value> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            bail!("{}: {}", self.status, self.body)
        }
    }
    /// The `code` of a problem; empty if it is none.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A signed-in person on a device.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who.
    pub user: String,
    /// On what.
    pub device: String,
    /// For everything.
    pub access: String,
    /// For the next access token.
    pub refresh: String,
    /// For an SOS when all else fails.
    pub distress: String,
}

impl Session {
    fn read(body: &Value) -> anyhow::Result<Self> {
        let text =
            |field: &str| body[field].as_str().map(str::to_owned).with_context(|| format!("no {field}"));
        Ok(Self {
            user: text("user_id")?,
            device: text("device_id")?,
            access: text("access_token")?,
            refresh: text("refresh_token")?,
            distress: text("distress_token")?,
        })
    }
}

impl Api {
    /// The server at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self { base: base.into(), http: reqwest::Client::builder().timeout(DEADLINE).build()? })
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One request.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method.parse()?, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await?;
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    /// Reads.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn get(&self, path: &str, token: &str) -> anyhow::Result<Answer> {
        self.call("GET", path, Some(token), None).await
    }

    /// Creates or does.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn post(&self, path: &str, token: &str, body: Value) -> anyhow::Result<Answer> {
        self.call("POST", path, Some(token), Some(&body)).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn delete(&self, path: &str, token: &str) -> anyhow::Result<Answer> {
        self.call("DELETE", path, Some(token), None).await
    }

    /// Makes an account and signs in on a device of it.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn sign_up(&self, handle: &str, name: &str) -> anyhow::Result<Session> {
        let account = json!({"handle": handle, "password": password(handle), "display_name": name});
        self.call("POST", "/v1/accounts", None, Some(&account)).await?.ok().context("sign-up")?;
        self.sign_in(handle, "phone").await
    }

    /// Signs in on a new device.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn sign_in(&self, handle: &str, device: &str) -> anyhow::Result<Session> {
        let device = json!({"name": device, "platform": "other"});
        let given = json!({"handle": handle, "password": password(handle), "device": device});
        Session::read(&self.call("POST", "/v1/sessions", None, Some(&given)).await?.ok().context("sign-in")?)
    }

    /// The next tokens of a session.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn refresh(&self, session: &Session) -> anyhow::Result<Session> {
        let given = json!({"refresh_token": session.refresh});
        let answer = self.call("POST", "/v1/sessions/refresh", None, Some(&given)).await?;
        Session::read(&answer.ok().context("refresh")?)
    }

    /// Links a subject to a contact, asked and accepted; the link's id.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn link(
        &self,
        subject: &Session,
        contact: &Session,
        contact_handle: &str,
        scopes: &[&str],
    ) -> anyhow::Result<String> {
        let asked = json!({"contact": contact_handle, "scopes": scopes});
        let link = self.post("/v1/links", &subject.access, asked).await?.ok().context("link")?;
        let id = link["id"].as_str().context("a link without id")?.to_owned();
        self.post(&format!("/v1/links/{id}/accept"), &contact.access, json!({}))
            .await?
            .ok()
            .context("accept")?;
        Ok(id)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn stream(&self, token: &str) -> anyhow::Result<Socket> {
        let mut request =
            format!("{}/v1/stream", self.base.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        Socket::open(request).await
    }
}

/// The password that this client uses for a handle.
pub fn password(handle: &str) -> String {
    format!("the password of {handle}")
}

/// A stream, as a client sees it.
pub struct Socket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came from a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A frame.
    Frame(Value),
    /// The server closed, with this code.
    Closed(u16),
    /// The connection is gone.
    Gone,
}

impl Socket {
    /// Opens a stream by any upgrade request.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn open(
        request: tokio_tungstenite::tungstenite::handshake::client::Request,
    ) -> anyhow::Result<Self> {
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let (socket, _) = connect_async_with_config(request, Some(config), true).await?;
        Ok(Self { socket })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.send_text(frame.to_string()).await
    }

    /// Sends any text as a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::Text(text.into())).await?)
    }

    /// Sends bytes as a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::Binary(bytes.into())).await?)
    }

    /// What comes next, however long it takes.
    pub async fn hear(&mut self) -> Heard {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Frame(serde_json::from_str(&text).unwrap_or(Value::Null));
                }
                Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => return Heard::Closed(code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Gone,
            }
        }
    }

    /// The next frame for which `wanted` is true; others are dropped.
    ///
    /// # Errors
    /// When the stream ends before, or after [`DEADLINE`]; says what came instead.
    pub async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut seen = Vec::new();
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                match self.hear().await {
                    Heard::Frame(frame) if wanted(&frame) => return Ok(frame),
                    Heard::Frame(frame) => seen.push(frame.to_string()),
                    ended => bail!("waiting for {what}, the stream ended: {ended:?}"),
                }
            }
        })
        .await;
        match waited {
            Ok(result) => result,
            Err(_) => bail!("no {what} within {DEADLINE:?}; there came: {seen:?}"),
        }
    }

    /// The next frame of a type.
    ///
    /// # Errors
    /// As [`Socket::wait_for`].
    pub async fn wait(&mut self, kind: &str) -> anyhow::Result<Value> {
        self.wait_for(kind, |frame| frame["type"] == kind).await
    }

    /// The code with which the server closes; frames before it are dropped.
    ///
    /// # Errors
    /// When it does not close within [`DEADLINE`], or breaks off.
    pub async fn wait_closed(&mut self) -> anyhow::Result<u16> {
        let closed = async {
            loop {
                match self.hear().await {
                    Heard::Frame(_) => {}
                    Heard::Closed(code) => return Ok(code),
                    Heard::Gone => bail!("broken off without a close"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, closed).await.context("not closed in time")?
    }

    /// Closes from this side and waits for the answer.
    pub async fn close(mut self) {
        // The other side may be gone.
        let _ = self.socket.close(None).await;
        let _ = tokio::time::timeout(DEADLINE, async { while self.hear().await != Heard::Gone {} }).await;
    }
}

/// A fix as the contract writes it.
pub fn fix(seq: i64, lat: f64, lon: f64, fixed_at: crate::clock::Timestamp) -> Value {
    json!({"seq": seq, "lat": lat, "lon": lon, "fixed_at": fixed_at, "accuracy_m": 5.0})
}

/// A frame of fixes.
pub fn fixes(fixes: &[Value]) -> Value {
    json!({"type": "fixes", "fixes": fixes})
}
