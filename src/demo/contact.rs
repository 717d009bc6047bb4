//! The phone of the contact: hears alerts, watches who is in an emergency, and keeps count.

use super::board::Board;
use crate::client::{Api, Heard, Session, Socket};
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After the last phone has stopped, what is on its way gets so long.
pub(super) const QUIET: Duration = Duration::from_millis(1_500);

/// What was heard of one person.
#[derive(Default, Debug)]
pub(super) struct OfOne {
    pub(super) name: &'static str,
    /// (transition, fence) of each alert.
    pub(super) crossings: Vec<(String, String)>,
    /// The alerts of its emergencies.
    pub(super) raised: Vec<String>,
    pub(super) ended: usize,
    pub(super) positions: usize,
    /// Positions that came while none was allowed.
    pub(super) forbidden: usize,
    pub(super) visible: bool,
    pub(super) refused_first: bool,
    pub(super) unavailable: usize,
}

/// The contact.
pub(super) struct Contact {
    pub(super) name: &'static str,
    pub(super) api: Api,
    pub(super) session: Session,
    pub(super) board: Board,
    /// By user id.
    pub(super) people: BTreeMap<String, OfOne>,
}

impl Contact {
    /// Listens until `over` and a quiet moment.
    pub(super) async fn listen(&mut self, mut phone: Socket, over: CancellationToken) -> anyhow::Result<()> {
        phone.wait("welcome").await?;
        self.try_early(&mut phone).await?;
        loop {
            let frame = tokio::select! {
                heard = phone.hear() => match heard {
                    Heard::Frame(frame) => frame,
                    ended => bail!("the contact's stream ended: {ended:?}"),
                },
                () = async { over.cancelled().await; tokio::time::sleep(QUIET).await } => break,
            };
            match frame["type"].as_str().unwrap_or_default() {
                "alert" => self.alert(&frame, &mut phone).await?,
                "position" => self.position(&frame),
                "unavailable" => self.unavailable(&frame),
                "error" => self.board.say(self.name, &format!("hears an error: {frame}")),
                _ => {}
            }
        }
        phone.close().await;
        Ok(())
    }

    /// Asks for everybody before there is any emergency: nobody is shown.
    async fn try_early(&mut self, phone: &mut Socket) -> anyhow::Result<()> {
        for user in self.people.keys() {
            phone.send(&json!({"type": "watch", "user": user})).await?;
        }
        for _ in 0..self.people.len() {
            let refused = phone.wait("unavailable").await?;
            if let Some(one) = self.people.get_mut(text(&refused["user"])) {
                one.refused_first = true;
            }
        }
        self.board.say(self.name, "asks where everybody is: not available, there is no emergency");
        self.show();
        Ok(())
    }

    async fn alert(&mut self, frame: &Value, phone: &mut Socket) -> anyhow::Result<()> {
        let user = text(&frame["subject"]).to_owned();
        let Some(one) = self.people.get_mut(&user) else { return Ok(()) };
        self.board.say(self.name, &format!("is told: {}", text(&frame["title"])));
        phone.send(&ack(&frame["id"], "received")).await?;
        match text(&frame["kind"]) {
            "geofence" => {
                let fence = text(&frame["params"]["geofence"]).to_owned();
                one.crossings.push((text(&frame["transition"]).to_owned(), fence));
            }
            "emergency" => {
                one.raised.push(text(&frame["id"]).to_owned());
                self.session = self.api.refresh(&self.session).await?;
                phone.send(&json!({"type": "token", "access_token": self.session.access})).await?;
                phone.send(&json!({"type": "watch", "user": user})).await?;
            }
            "emergency_update" => {
                one.ended += 1;
                // Who has seen an emergency is not pushed any more: said at its end, or the sleeping phone would have
                // to be quicker than this one.
                for alert in &one.raised {
                    phone.send(&ack(&json!(alert), "seen")).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn position(&mut self, frame: &Value) {
        let Some(one) = self.people.get_mut(text(&frame["user"])) else { return };
        one.positions += 1;
        one.forbidden += usize::from(one.ended >= one.raised.len());
        if !one.visible {
            one.visible = true;
            let what = format!("sees {} at {}, {}", one.name, frame["fix"]["lat"], frame["fix"]["lon"]);
            self.board.say(self.name, &what);
            self.show();
        }
    }

    fn unavailable(&mut self, frame: &Value) {
        let Some(one) = self.people.get_mut(text(&frame["user"])) else { return };
        one.unavailable += 1;
        one.visible = false;
        let what = format!("sees {} no more, after {} positions", one.name, one.positions);
        self.board.say(self.name, &what);
        self.show();
    }

    fn show(&self) {
        let people: Vec<(&str, bool)> = self.people.values().map(|one| (one.name, one.visible)).collect();
        self.board.may_see(self.name, &people);
    }
}

fn ack(alert: &Value, state: &str) -> Value {
    json!({"type": "ack", "alert": alert, "state": state})
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
