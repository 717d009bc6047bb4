//! The phone of somebody who moves: streams the track and does what the script says.

use super::board::Board;
use super::cast::{Act, Mover};
use crate::client::{Socket, fix, fixes};
use crate::clock::Clock;
use anyhow::Context;
use serde_json::{Value, json};

/// Fixes of one frame: what a phone gathers while it sleeps for a moment.
const GATHERED: usize = 10;

/// What the phone saw.
#[derive(Default, Debug)]
pub(super) struct Moved {
    pub(super) sent: i64,
    pub(super) acked: i64,
    /// Emergencies that it ended.
    pub(super) ended: usize,
    /// Fixes sent while its own SOS was active.
    pub(super) during_sos: usize,
}

/// Plays the track on a phone.
pub(super) async fn play(
    mut phone: Socket,
    clock: Clock,
    mover: &Mover,
    board: Board,
) -> anyhow::Result<Moved> {
    phone.wait("welcome").await?;
    let start = clock.now();
    let mut moved = Moved::default();
    let mut gathered: Vec<Value> = Vec::new();
    let mut in_sos = false;
    for (n, recorded) in mover.track.iter().enumerate() {
        let fixed_at = start + recorded.after;
        clock.sleep(fixed_at.since(clock.now())).await;
        moved.sent += 1;
        gathered.push(fix(moved.sent, recorded.point.lat(), recorded.point.lon(), fixed_at));
        moved.during_sos += usize::from(in_sos);
        let act = mover.script.iter().find(|(at, _)| *at == n).map(|(_, act)| *act);
        if gathered.len() < GATHERED && !in_sos && act.is_none() && n + 1 < mover.track.len() {
            continue;
        }
        phone.send(&fixes(&std::mem::take(&mut gathered))).await?;
        match act {
            Some(Act::Sos) => {
                raise(&mut phone, &clock, mover.name, &board).await?;
                in_sos = true;
            }
            Some(Act::Safe) => {
                end(&mut phone, mover.name, &board).await?;
                moved.ended += 1;
                in_sos = false;
            }
            None => {}
        }
    }
    let sent = moved.sent;
    let last =
        phone.wait_for("the last ack", |f| f["type"] == "acked" && f["seq"].as_i64() >= Some(sent)).await?;
    moved.acked = last["seq"].as_i64().context("an ack without a number")?;
    board.say(mover.name, &format!("arrives; {sent} fixes sent, all acked as on disk"));
    phone.close().await;
    Ok(moved)
}

async fn raise(phone: &mut Socket, clock: &Clock, name: &str, board: &Board) -> anyhow::Result<()> {
    let id = crate::id::fresh(clock).to_string();
    board.say(name, "presses SOS");
    phone.send(&json!({"type": "emergency", "id": id, "kind": "sos"})).await?;
    let accepted = phone.wait_for("accepted", |f| f["type"] == "accepted" && f["id"] == *id).await?;
    board.say(
        name,
        &format!("SOS accepted, {} of {} copies on disk", accepted["copies"], accepted["copies_max"]),
    );
    Ok(())
}

/// Ends the open emergency, whoever raised it: the phone has heard of it in a frame.
async fn end(phone: &mut Socket, name: &str, board: &Board) -> anyhow::Result<()> {
    let open = |f: &Value| f["type"] == "emergency" && f["emergency"]["state"] == "active";
    let id = phone.wait_for("the open emergency", open).await?["emergency"]["id"].clone();
    phone.send(&json!({"type": "resolve", "emergency": id})).await?;
    phone.wait_for("the end", |f| f["type"] == "accepted" && f["state"] == "resolved").await?;
    board.say(name, "is safe and ends the emergency");
    Ok(())
}
