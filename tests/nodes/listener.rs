//! A contact who listens, and comes back to where they were.

use cima::client::{Api, Heard, Session};
use cima::clock::{Clock, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a contact's app has.
#[derive(Default)]
pub(crate) struct Heards {
    /// Every alert once, by its id: its place in the inbox.
    pub(crate) alerts: BTreeMap<String, i64>,
    /// How long after their fix alerts came, since this was last taken.
    pub(crate) late: Vec<Duration>,
    pub(crate) positions: usize,
    pub(crate) closes: usize,
}

/// A contact at one node, who watches somebody.
pub(crate) struct Listener {
    heard: Arc<Mutex<Heards>>,
    _task: JoinSet<()>,
}

impl Listener {
    pub(crate) fn start(api: Api, session: Session, watches: Option<String>) -> Self {
        let heard = Arc::new(Mutex::new(Heards::default()));
        let mut task = JoinSet::new();
        task.spawn(listen(api, session, watches, Arc::clone(&heard)));
        Self { heard, _task: task }
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heards> {
        self.heard.lock().unwrap()
    }

    /// How long after now the next position comes.
    pub(crate) async fn next_position(&self) -> Duration {
        let (start, before) = (Instant::now(), self.heard().positions);
        while self.heard().positions == before {
            assert!(start.elapsed() < Duration::from_secs(20), "positions do not resume");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

async fn listen(api: Api, session: Session, watches: Option<String>, heard: Arc<Mutex<Heards>>) {
    loop {
        let Ok(mut socket) = api.stream(&session.access).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let cursor = heard.lock().unwrap().alerts.values().max().copied().unwrap_or(0);
        let mut ok = socket.send(&json!({"type": "resume", "cursor": cursor})).await.is_ok();
        if let Some(user) = &watches {
            ok &= socket.send(&json!({"type": "watch", "user": user})).await.is_ok();
        }
        while ok {
            match socket.hear().await {
                Heard::Frame(frame) => {
                    let mut heard = heard.lock().unwrap();
                    if frame["type"] == "position" {
                        heard.positions += 1;
                    }
                    if frame["type"] == "alert" {
                        let (id, cursor) = (frame["id"].as_str().unwrap(), frame["cursor"].as_i64().unwrap());
                        let at = Timestamp::parse(frame["at"].as_str().unwrap()).unwrap();
                        if heard.alerts.insert(id.to_owned(), cursor).is_none() && frame["kind"] == "geofence"
                        {
                            heard.late.push(Clock::system().now().since(at));
                        }
                    }
                }
                Heard::Closed(_) | Heard::Gone => ok = false,
            }
        }
        heard.lock().unwrap().closes += 1;
    }
}
