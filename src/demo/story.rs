//! The story of the demo and what has to be true at its end.

use super::Recorded;
use super::fences::{RADIUS_M, place, visits};
use super::people::{Listened, Ridden, Sos, listen, ride};
use crate::app::Node;
use crate::client::{Api, Session};
use crate::clock::Clock;
use anyhow::Context;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Plays it; what did not happen as it must.
pub(super) async fn play(
    node: &Node,
    clock: &Clock,
    track: &[Recorded],
    speed: f64,
) -> anyhow::Result<Vec<String>> {
    let base = format!("http://{}", node.addr);
    let api = Api::new(&base)?;
    let length = track.last().map(|r| r.after).unwrap_or_default();
    println!("cima serves on {base}, its clock runs {speed} times as fast.");
    println!(
        "A real track of {} fixes and {} min is played by Ada's phone; Bo listens.",
        track.len(),
        length.as_secs() / 60
    );
    println!("Connect a client of your own: ws://{}/v1/stream, the contract is at {base}/docs\n", node.addr);

    let ada = api.sign_up("ada.k", "Ada").await?;
    let bo = api.sign_up("bo.n", "Bo").await?;
    api.link(&ada, &bo, "bo.n", &["alerts", "emergency_location"]).await?;
    let fences = [place(track, "the school", 0.2), place(track, "the station", 0.65)];
    let fences: Vec<_> = fences.into_iter().flatten().collect();
    for fence in &fences {
        let shape = json!({"type": "Circle", "center": [fence.center.lon(), fence.center.lat()], "radius_m": RADIUS_M});
        let made = json!({"name": fence.name, "shape": shape, "triggers": ["enter", "exit"]});
        api.post("/v1/geofences", &ada.access, made).await?.ok().context("fence")?;
    }

    let sos = Sos {
        id: crate::id::fresh(clock).to_string(),
        raise_at: track.len() * 45 / 100,
        end_at: track.len() * 55 / 100,
    };
    let start = clock.now();
    let say = |who: &'static str| {
        let clock = clock.clone();
        move |what: &str| {
            let s = clock.now().since(start).as_secs();
            println!("{:02}:{:02}  {who:<4} {what}", s / 60, s % 60);
        }
    };
    let over = CancellationToken::new();
    let tokens = Mutex::new(bo.clone());
    let (phone, contact) = (api.stream(&ada.access).await?, api.stream(&bo.access).await?);
    let riding = async {
        let ridden =
            ride(phone, clock.clone(), track.to_vec(), sos, say("Ada"), Arc::new(AtomicUsize::new(0))).await;
        over.cancel();
        ridden
    };
    let fresh_token = || fresh(&api, &tokens);
    let listening = listen(contact, fresh_token, ada.user.clone(), over.clone(), say("Bo"));
    let (ridden, listened) = tokio::join!(riding, listening);
    let (ridden, listened) = (ridden.context("Ada's phone")?, listened.context("Bo's phone")?);

    let mut faults = check(&ridden, &listened);
    for fence in &fences {
        let (entered, left) = visits(track, fence.center);
        for (kind, wanted) in [("enter", entered), ("exit", left)] {
            let told = listened.crossings.iter().filter(|(k, name)| k == kind && name == fence.name).count();
            if told != wanted {
                faults.push(format!("{kind} of {}: told {told} times, the track has {wanted}", fence.name));
            }
        }
    }
    if fences.len() != 2 {
        faults.push("two places that the track passes once".into());
    }
    faults.extend(after_the_end(&api, &ada, &tokens).await?);
    println!(
        "\n{} fixes sent, the last of them acked as on disk; {} alerts at fences, {} positions in the emergency.",
        ridden.sent,
        listened.crossings.len(),
        listened.positions
    );
    Ok(faults)
}

/// A token that is good on the server's fast clock.
async fn fresh(api: &Api, tokens: &Mutex<Session>) -> anyhow::Result<String> {
    let mut session = tokens.lock().await;
    *session = api.refresh(&session).await?;
    Ok(session.access.clone())
}

fn check(ridden: &Ridden, listened: &Listened) -> Vec<String> {
    let must = [
        (ridden.acked == ridden.sent, format!("every fix acked ({} of {})", ridden.acked, ridden.sent)),
        (listened.refused_before, "no position before the emergency".into()),
        (listened.raised == 1, format!("one alert of the SOS ({})", listened.raised)),
        (listened.ended == 1, format!("one alert of its end ({})", listened.ended)),
        (listened.unavailable_after, "an end of the positions with the emergency".into()),
        (listened.positions_after == 0, format!("no position after it ({})", listened.positions_after)),
        // A reader that is slower than the phone gets the newest, not all: most of them all the same.
        (
            listened.positions * 10 >= ridden.during_sos * 8,
            format!("the positions of the emergency ({} of {})", listened.positions, ridden.during_sos),
        ),
    ];
    must.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

/// What REST says after the end.
async fn after_the_end(api: &Api, ada: &Session, tokens: &Mutex<Session>) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let bo = fresh(api, tokens).await?;
    let location = api.get(&format!("/v1/people/{}/location", ada.user), &bo).await?;
    if location.code() != "not_available" {
        faults.push(format!("no position after the end over REST ({})", location.status));
    }
    let ada = api.refresh(ada).await?;
    let disclosures = api.get("/v1/me/disclosures", &ada.access).await?.ok()?;
    let seen = disclosures["items"].as_array().map_or(0, Vec::len);
    println!(
        "after  Ada  reads who saw her: {} for {} fixes",
        disclosures["items"][0]["viewer_name"], disclosures["items"][0]["fixes"]
    );
    if seen != 1 {
        faults.push(format!("one line in who saw Ada ({seen})"));
    }
    Ok(faults)
}
