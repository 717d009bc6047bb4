//! The story of the demo and what has to be true at its end.

use super::board::Board;
use super::cast::Mover;
use super::contact::{Contact, OfOne};
use super::fences::{RADIUS_M, visits};
use super::phone::{self, Moved};
use super::sleeper::{Pushed, Sleeper};
use crate::client::{Api, Session};
use crate::clock::Clock;
use anyhow::Context;
use futures_util::future::try_join_all;
use serde_json::json;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// The contact: their handle and name.
const BO: (&str, &str) = ("bo.n", "Bo");

/// Plays it on the server at `base`; what did not happen as it must.
pub(super) async fn play(base: &str, clock: &Clock, cast: &[Mover]) -> anyhow::Result<Vec<String>> {
    let api = Api::new(base)?;
    let bo = api.sign_up(BO.0, BO.1).await?;
    let mut sessions = Vec::new();
    for mover in cast {
        sessions.push(prepare(&api, mover, &bo).await.with_context(|| mover.name)?);
    }
    let board = Board::new(clock);
    let sleeper =
        Sleeper::register(&api, BO, private(cast), clock, &board).await.context("a sleeping phone")?;
    let people = cast
        .iter()
        .zip(&sessions)
        .map(|(mover, session)| (session.user.clone(), OfOne { name: mover.name, ..OfOne::default() }));
    let mut contact =
        Contact { name: BO.1, api: api.clone(), session: bo, board: board.clone(), people: people.collect() };

    let over = CancellationToken::new();
    let listening = api.stream(&contact.session.access).await?;
    let mut phones = Vec::new();
    for (mover, session) in cast.iter().zip(&sessions) {
        let socket = api.stream(&session.access).await?;
        phones.push(phone::play(socket, clock.clone(), mover, board.clone()));
    }
    let moving = async {
        let moved = try_join_all(phones).await;
        over.cancel();
        moved
    };
    let (moved, listened, pushed) =
        tokio::join!(moving, contact.listen(listening, over.clone()), sleeper.listen(over.clone()));
    let moved = moved?;
    listened.context("Bo's phone")?;
    let pushed = pushed.context("Bo's sleeping phone")?;

    let mut faults: Vec<String> = pushed.faults.iter().map(|&fault| fault.into()).collect();
    for ((mover, session), moved) in cast.iter().zip(&sessions).zip(&moved) {
        faults.extend(check(mover, moved, &contact.people[&session.user], &pushed));
    }
    faults.extend(after_the_end(&mut contact, cast, &sessions).await?);
    let (fixes, alerts) =
        (moved.iter().map(|m| m.sent).sum::<i64>(), count(&contact.people, |one| one.crossings.len()));
    let positions = count(&contact.people, |one| one.positions);
    println!(
        "\n{fixes} fixes, every one acked; {alerts} alerts at fences; {positions} positions shown in emergencies."
    );
    Ok(faults)
}

fn count(people: &BTreeMap<String, OfOne>, of: impl Fn(&OfOne) -> usize) -> usize {
    people.values().map(of).sum()
}

/// What no push may say: who people are and what they call their places.
fn private(cast: &[Mover]) -> Vec<String> {
    let mut words = vec![BO.0.to_owned(), BO.1.to_owned()];
    for mover in cast {
        words.extend([mover.name.to_owned(), mover.handle()]);
        words.extend(mover.fences.iter().map(|fence| fence.name.to_owned()));
    }
    words
}

/// Signs a person up with their link to the contact, their fences and their check-in.
async fn prepare(api: &Api, mover: &Mover, contact: &Session) -> anyhow::Result<Session> {
    let session = api.sign_up(&mover.handle(), mover.name).await?;
    api.link(&session, contact, BO.0, &["alerts", "emergency_location"]).await?;
    for fence in &mover.fences {
        let center = [fence.center.lon(), fence.center.lat()];
        let shape = json!({"type": "Circle", "center": center, "radius_m": RADIUS_M});
        let made = json!({"name": fence.name, "shape": shape, "triggers": ["enter", "exit"]});
        api.post("/v1/geofences", &session.access, made).await?.ok().context("a fence")?;
    }
    if let Some(check_in) = mover.check_in {
        let (due_in_s, grace_s) = (check_in.due.as_secs(), check_in.grace.as_secs());
        let set = json!({"due_in_s": due_in_s, "grace_s": grace_s, "note": "driving home"});
        api.post("/v1/check-ins", &session.access, set).await?.ok().context("a check-in")?;
    }
    Ok(session)
}

fn check(mover: &Mover, moved: &Moved, heard: &OfOne, pushed: &Pushed) -> Vec<String> {
    let name = mover.name;
    let emergencies = mover.emergencies();
    let mut must = vec![
        (moved.acked == moved.sent, format!("every fix of {name} acked ({} of {})", moved.acked, moved.sent)),
        (heard.refused_first, format!("no position of {name} before an emergency")),
        (
            heard.raised.len() == emergencies,
            format!("{emergencies} alerts that {name} needs help ({})", heard.raised.len()),
        ),
        (
            heard.raised.iter().all(|alert| pushed.emergencies.contains(alert)),
            format!("a push that {name} needs help, signed"),
        ),
        (moved.ended == emergencies, format!("{emergencies} ends by {name} ({})", moved.ended)),
        (heard.ended == emergencies, format!("{emergencies} alerts that {name} is safe ({})", heard.ended)),
        (heard.unavailable == emergencies, format!("an end of {name}'s positions with each emergency")),
        (heard.forbidden == 0, format!("no position of {name} outside an emergency ({})", heard.forbidden)),
        (emergencies == 0 || heard.positions > 0, format!("positions of {name} in the emergency")),
        // A reader that is slower than the phone gets the newest, not all: most of them all the same.
        (
            heard.positions * 10 >= moved.during_sos * 8,
            format!("the positions of {name}'s SOS ({} of {})", heard.positions, moved.during_sos),
        ),
    ];
    for fence in &mover.fences {
        let (entered, left) = visits(&mover.track, fence.center);
        for (kind, wanted) in [("enter", entered), ("exit", left)] {
            let told = heard
                .crossings
                .iter()
                .filter(|(k, fence_name)| k == kind && fence_name == fence.name)
                .count();
            let what =
                format!("{kind} of {} by {name}: told {told} times, the track has {wanted}", fence.name);
            must.push((told == wanted, what));
        }
    }
    must.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

/// What REST says after the end: nobody is visible, and everybody reads who saw them.
async fn after_the_end(
    contact: &mut Contact,
    cast: &[Mover],
    sessions: &[Session],
) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let api = contact.api.clone();
    contact.session = api.refresh(&contact.session).await?;
    for (mover, session) in cast.iter().zip(sessions) {
        let path = format!("/v1/people/{}/location", session.user);
        let location = api.get(&path, &contact.session.access).await?;
        if location.code() != "not_available" {
            faults
                .push(format!("no position of {} after the end over REST ({})", mover.name, location.status));
        }
        let session = api.refresh(session).await?;
        let disclosures = api.get("/v1/me/disclosures", &session.access).await?.ok()?;
        let rows = disclosures["items"].as_array().cloned().unwrap_or_default();
        let seen: Vec<String> =
            rows.iter().map(|r| format!("{} saw {} fixes", r["viewer_name"], r["fixes"])).collect();
        let told = if seen.is_empty() { "nobody".to_owned() } else { seen.join(", ").replace('"', "") };
        println!("after  {:<5} reads who saw them: {told}", mover.name);
        if rows.len() != mover.emergencies() {
            faults.push(format!("{} rows in who saw {} ({})", mover.emergencies(), mover.name, rows.len()));
        }
    }
    Ok(faults)
}
