//! The two phones of the demo: one that moves, one that listens.

use crate::client::{Heard, Socket, fix};
use crate::clock::Clock;
use crate::demo::Recorded;
use anyhow::Context;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Fixes of one frame: what a phone gathers while it sleeps for a moment.
const GATHERED: usize = 10;

/// When, on the track, the SOS is raised and ended.
pub(super) struct Sos {
    pub(super) id: String,
    pub(super) raise_at: usize,
    pub(super) end_at: usize,
}

/// What the moving phone saw.
#[derive(Default, Debug)]
pub(super) struct Ridden {
    pub(super) sent: i64,
    pub(super) acked: i64,
    pub(super) accepted: bool,
    pub(super) ended: bool,
    /// Fixes sent while the SOS was active.
    pub(super) during_sos: usize,
}

/// Plays the track on a phone, with an SOS on the way.
pub(super) async fn ride(
    mut phone: Socket,
    clock: Clock,
    track: Vec<Recorded>,
    sos: Sos,
    say: impl Fn(&str),
    progress: Arc<AtomicUsize>,
) -> anyhow::Result<Ridden> {
    phone.wait("welcome").await?;
    let start = clock.now();
    let mut ridden = Ridden::default();
    let mut gathered: Vec<Value> = Vec::new();
    for (n, recorded) in track.iter().enumerate() {
        let fixed_at = start + recorded.after;
        clock.sleep(fixed_at.since(clock.now())).await;
        ridden.sent = i64::try_from(n).unwrap_or(i64::MAX - 1) + 1;
        gathered.push(fix(ridden.sent, recorded.point.lat(), recorded.point.lon(), fixed_at));
        let active = ridden.accepted && !ridden.ended;
        ridden.during_sos += usize::from(active);
        let marks = n == sos.raise_at || n == sos.end_at || n + 1 == track.len();
        if gathered.len() < GATHERED && !active && !marks {
            continue;
        }
        phone.send(&crate::client::fixes(&std::mem::take(&mut gathered))).await?;
        if n == sos.raise_at {
            say("presses SOS");
            phone.send(&json!({"type": "emergency", "id": sos.id, "kind": "sos"})).await?;
            let accepted =
                phone.wait_for("accepted", |f| f["type"] == "accepted" && f["id"] == *sos.id).await?;
            say(&format!(
                "SOS accepted, {} of {} copies on disk",
                accepted["copies"], accepted["copies_max"]
            ));
            ridden.accepted = true;
        }
        if n == sos.end_at {
            phone.send(&json!({"type": "resolve", "emergency": sos.id})).await?;
            phone.wait_for("the end", |f| f["type"] == "accepted" && f["state"] == "resolved").await?;
            say("is safe and ends the SOS");
            ridden.ended = true;
        }
        progress.store(n + 1, Ordering::Relaxed);
    }
    let sent = ridden.sent;
    let last =
        phone.wait_for("the last ack", |f| f["type"] == "acked" && f["seq"].as_i64() >= Some(sent)).await?;
    ridden.acked = last["seq"].as_i64().context("an ack without a number")?;
    phone.close().await;
    Ok(ridden)
}

/// What the listening phone saw.
#[derive(Default, Debug)]
pub(super) struct Listened {
    /// (transition, fence) of each alert.
    pub(super) crossings: Vec<(String, String)>,
    pub(super) raised: usize,
    pub(super) ended: usize,
    pub(super) positions: usize,
    pub(super) refused_before: bool,
    pub(super) unavailable_after: bool,
    pub(super) positions_after: usize,
}

/// Listens until `over` and a quiet moment; watches the other when an emergency is told.
pub(super) async fn listen(
    mut phone: Socket,
    fresh_token: impl AsyncFn() -> anyhow::Result<String>,
    subject: String,
    over: tokio_util::sync::CancellationToken,
    say: impl Fn(&str),
) -> anyhow::Result<Listened> {
    const QUIET: Duration = Duration::from_millis(700);
    let mut listened = Listened::default();
    phone.wait("welcome").await?;
    phone.send(&json!({"type": "watch", "user": subject})).await?;
    phone.wait("unavailable").await?;
    listened.refused_before = true;
    say("asks where Ada is: not available, there is no emergency");
    loop {
        let frame = tokio::select! {
            heard = phone.hear() => match heard {
                Heard::Frame(frame) => frame,
                ended => anyhow::bail!("the contact's stream ended: {ended:?}"),
            },
            () = async { over.cancelled().await; tokio::time::sleep(QUIET).await } => break,
        };
        match frame["type"].as_str().unwrap_or_default() {
            "alert" => {
                say(&format!("is told: {}", frame["title"].as_str().unwrap_or_default()));
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                match frame["kind"].as_str().unwrap_or_default() {
                    "geofence" => {
                        listened
                            .crossings
                            .push((text(&frame["transition"]), text(&frame["params"]["geofence"])));
                    }
                    "emergency" => {
                        listened.raised += 1;
                        phone.send(&json!({"type": "ack", "alert": frame["id"], "state": "seen"})).await?;
                        phone.send(&json!({"type": "token", "access_token": fresh_token().await?})).await?;
                        phone.send(&json!({"type": "watch", "user": subject})).await?;
                    }
                    "emergency_update" => listened.ended += 1,
                    _ => {}
                }
            }
            "position" => {
                if listened.positions == 0 {
                    let (lat, lon) = (&frame["fix"]["lat"], &frame["fix"]["lon"]);
                    say(&format!("sees where Ada is, because of the emergency: {lat}, {lon}"));
                }
                listened.positions += 1;
                listened.positions_after += usize::from(listened.unavailable_after);
            }
            "unavailable" => {
                listened.unavailable_after = true;
                say(&format!("sees nothing any more; there were {} positions", listened.positions));
            }
            "error" => say(&format!("hears an error: {frame}")),
            _ => {}
        }
    }
    phone.close().await;
    Ok(listened)
}
