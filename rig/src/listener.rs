//! A contact who listens, and comes back to where they were.

use cima::client::{Api, Heard, Session};
use cima::clock::{Clock, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Until a node that does not answer is left.
const CONNECT: Duration = Duration::from_secs(5);

/// What a contact's app has.
#[derive(Default)]
pub struct Heards {
    /// Every alert once, by its id: its place in the inbox.
    pub alerts: BTreeMap<String, i64>,
    /// How long after their fix alerts came, since this was last taken.
    pub late: Vec<Duration>,
    /// Every alert frame, also repeated ones.
    pub told: Vec<Told>,
    /// How many positions came.
    pub positions: usize,
    /// When the last position came that an emergency showed, by the subject's id.
    pub shown: BTreeMap<String, Instant>,
    /// Whether it is connected.
    pub welcomed: bool,
    /// How often the connection ended.
    pub closes: usize,
}

/// An alert that a contact's app was given.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at: Instant,
    /// Its id.
    pub alert: String,
    /// What it tells of.
    pub kind: String,
    /// The emergency it belongs to; empty if to none.
    pub emergency: String,
}

/// A contact at one node, who watches somebody.
pub struct Listener {
    heard: Arc<Mutex<Heards>>,
    _task: JoinSet<()>,
}

impl Listener {
    /// Listens from now on, and watches this person.
    pub fn start(api: Api, session: Session, watches: Option<String>) -> Self {
        let heard = Arc::new(Mutex::new(Heards::default()));
        let mut task = JoinSet::new();
        task.spawn(listen(api, session, watches, Arc::clone(&heard)));
        Self { heard, _task: task }
    }

    /// The book that it writes into.
    pub fn book(&self) -> Arc<Mutex<Heards>> {
        Arc::clone(&self.heard)
    }

    /// Whether it is connected.
    pub fn is_there(&self) -> bool {
        self.heard().welcomed
    }

    /// What it has heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Heards> {
        self.heard.lock().unwrap()
    }

    /// How long after now the next position comes.
    pub async fn next_position(&self) -> Duration {
        let (start, before) = (Instant::now(), self.heard().positions);
        while self.heard().positions == before {
            assert!(start.elapsed() < Duration::from_secs(20), "positions do not resume");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

impl Heards {
    fn take(&mut self, frame: &Value) {
        self.welcomed |= frame["type"] == "welcome";
        if frame["type"] == "position" {
            self.positions += 1;
            if frame["basis"] == "emergency" {
                self.shown.insert(text(frame, "user"), Instant::now());
            }
        }
        if frame["type"] != "alert" {
            return;
        }
        self.told.push(Told {
            at: Instant::now(),
            alert: text(frame, "id"),
            kind: text(frame, "kind"),
            emergency: text(frame, "emergency"),
        });
        let (id, cursor) = (text(frame, "id"), frame["cursor"].as_i64().unwrap());
        let at = Timestamp::parse(frame["at"].as_str().unwrap()).unwrap();
        if self.alerts.insert(id, cursor).is_none() && frame["kind"] == "geofence" {
            self.late.push(Clock::system().now().since(at));
        }
    }
}

async fn listen(api: Api, session: Session, watches: Option<String>, heard: Arc<Mutex<Heards>>) {
    loop {
        let Ok(Ok(mut socket)) = timeout(CONNECT, api.stream(&session.access)).await else {
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
                    heard.lock().unwrap().take(&frame);
                    // A watch from before the emergency was refused, and is forgotten.
                    if frame["type"] == "alert" && frame["kind"] == "emergency" && watches.is_some() {
                        ok = socket.send(&json!({"type": "watch", "user": frame["subject"]})).await.is_ok();
                    }
                }
                Heard::Closed(_) | Heard::Gone => ok = false,
            }
        }
        let mut heard = heard.lock().unwrap();
        (heard.closes, heard.welcomed) = (heard.closes + 1, false);
    }
}

fn text(frame: &Value, field: &str) -> String {
    frame[field].as_str().unwrap_or_default().to_owned()
}
