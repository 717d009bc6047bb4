//! The bare sink: what a WebSocket server costs that reads the same fixes and acks them, and does nothing else.
//!
//! No token, no check, no disk, no people. Buffers, heap and socket options are those of cima.

use anyhow::Context;
use cima::geo::RawFix;
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A frame of fixes, into the very fields that cima reads.
#[derive(serde::Deserialize)]
struct Fixes {
    fixes: Vec<RawFix>,
}

/// Serves until it is killed.
pub(crate) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    println!("the sink listens on http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Most often the client has gone without a close.
            let _ = one(socket).await;
        });
    }
}

async fn one(socket: TcpStream) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let mut ws = accept_async_with_config(socket, Some(config)).await?;
    ws.send(Message::Text(r#"{"type":"welcome"}"#.into())).await?;
    while let Some(message) = ws.next().await {
        let Message::Text(text) = message? else { continue };
        let frame: Fixes = serde_json::from_str(&text)?;
        let seq = frame.fixes.iter().filter_map(|fix| fix.seq).max().context("a frame without fixes")?;
        ws.send(Message::Text(format!(r#"{{"type":"acked","seq":{seq}}}"#).into())).await?;
    }
    Ok(())
}
