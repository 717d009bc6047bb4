//! A push provider that does as it is told: people's webhooks lead to it.

use axum::http::StatusCode;
use axum::routing::post;
use cima::client::{Api, Session};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What a provider answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Script {
    /// This status, after so long.
    Answers(u16, Duration),
    /// Nothing, ever.
    Hangs,
}

/// A notification that a provider took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// When.
    pub at: Instant,
    /// What it said.
    pub said: Value,
}

/// A provider that listens.
pub struct Provider {
    /// Where people's webhooks lead.
    pub url: String,
    script: watch::Sender<Script>,
    taken: Arc<Mutex<Vec<Taken>>>,
    _task: JoinSet<()>,
}

impl Provider {
    /// One that takes everything at once.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let script = watch::channel(Script::Answers(204, Duration::ZERO)).0;
        let taken = Arc::<Mutex<Vec<Taken>>>::default();
        let (told, kept) = (script.subscribe(), Arc::clone(&taken));
        let take = move |axum::Json(said): axum::Json<Value>| {
            let (told, kept) = (told.clone(), Arc::clone(&kept));
            async move {
                let script = *told.borrow();
                let Script::Answers(status, after) = script else {
                    return std::future::pending().await;
                };
                sleep(after).await;
                if (200..300).contains(&status) {
                    kept.lock().unwrap().push(Taken { at: Instant::now(), said });
                }
                StatusCode::from_u16(status).unwrap()
            }
        };
        let router = axum::Router::new().route("/", post(take));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, taken, _task: task }
    }

    /// From the next notification on.
    pub fn set(&self, script: Script) {
        self.script.send_replace(script);
    }

    /// Reaches somebody on a device that has no socket.
    ///
    /// # Errors
    /// When the device or the webhook is refused.
    pub async fn reaches(&self, api: &Api, handle: &str) -> anyhow::Result<Session> {
        let asleep = api.sign_in(handle, "asleep").await?;
        let path = format!("/v1/devices/{}/push/webhook", asleep.device);
        api.call("PUT", &path, Some(&asleep.access), Some(&json!({"url": self.url}))).await?.ok()?;
        Ok(asleep)
    }

    /// What it took so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}
