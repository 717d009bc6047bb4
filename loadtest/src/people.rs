//! The people of a run: signed up on a server, and their sockets.

use anyhow::{Context, bail};
use cima::client::{Api, Session};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Sign-ups, links and upgrades under way at once.
pub(crate) const AT_ONCE: usize = 32;
/// Until a new socket must have been welcomed.
const WELCOME: Duration = Duration::from_secs(20);

/// A phone's end of a stream.
pub(crate) type Ws = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Signs so many people up, each on one device.
pub(crate) async fn sign_up(api: &Api, kind: &str, count: usize) -> anyhow::Result<Vec<Session>> {
    eprintln!("signing {count} people up ({kind})");
    let each = stream::iter(0..count).map(|n| async move {
        let handle = handle(kind, n);
        api.sign_up(&handle, &handle).await.with_context(|| format!("signing {handle} up"))
    });
    each.buffered(AT_ONCE).try_collect().await
}

/// The handle of the n-th person of a kind.
pub(crate) fn handle(kind: &str, n: usize) -> String {
    format!("{kind}.{n}")
}

/// Opens one socket for each token (or none) and waits for its welcome.
pub(crate) async fn connect_all<'t>(
    base: &str,
    tokens: impl IntoIterator<Item = Option<&'t str>>,
) -> anyhow::Result<Vec<Ws>> {
    stream::iter(tokens).map(|token| connect(base, token)).buffered(AT_ONCE).try_collect().await
}

/// The tokens of people.
pub(crate) fn tokens(people: &[Session]) -> impl Iterator<Item = Option<&str>> {
    people.iter().map(|p| Some(p.access.as_str()))
}

async fn connect(base: &str, token: Option<&str>) -> anyhow::Result<Ws> {
    let mut request = format!("{}/v1/stream", base.replacen("http", "ws", 1)).into_client_request()?;
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    // What is sent in one go is written in one go: the generator must not be what is measured.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(8192);
    let open = async {
        let (mut ws, _) = connect_async_with_config(request, Some(config), true).await?;
        match ws.next().await {
            Some(Ok(Message::Text(text))) if text.contains(r#""welcome""#) => Ok(ws),
            other => bail!("no welcome but {other:?}"),
        }
    };
    timeout(WELCOME, open).await.context("no welcome in time")?
}
