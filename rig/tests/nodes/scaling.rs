//! Nodes come and go under streaming phones: nothing acked is lost or doubled, and what happened is what would have
//! happened on one node.

use crate::{count, proving};
use cima::client::{Api, Session};
use cima_rig::database;
use cima_rig::ledger::{self, Happened};
use cima_rig::node::Site;
use cima_rig::phone::{self, Phone, written};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sqlx::Connection;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// People who share a contact.
const CIRCLE: usize = 25;

pub(crate) async fn contact(api: &Api, n: usize) -> (Session, String) {
    let handle = format!("contact{n}");
    (api.sign_up(&handle, "Contact").await.unwrap(), handle)
}

async fn people(api: &Api, count: usize) -> Vec<Phone> {
    let contacts: Vec<_> = stream::iter(0..count.div_ceil(CIRCLE)).then(|n| contact(api, n)).collect().await;
    stream::iter(0..count).map(|n| phone::person(api, n, &contacts[n / CIRCLE])).buffered(8).collect().await
}

/// What one node that nobody disturbs makes of the same fixes.
async fn replayed(phones: &[Phone]) -> Vec<Vec<Happened>> {
    let site = Site::fresh().await;
    let node = site.node("alone");
    let api = node.api();
    let alone = people(&api, phones.len()).await;
    for (phone, there) in alone.iter().zip(phones) {
        let fixes: Vec<Value> = there.sent.iter().map(|(seq, at)| written(*seq, *at)).collect();
        let taken = api.post("/v1/locations", &phone.session.access, json!({"fixes": fixes})).await.unwrap();
        assert_eq!(taken.ok().unwrap()["accepted"], fixes.len());
    }
    let mut db = database::connect(site.database()).await;
    let mut happened = Vec::new();
    for (phone, there) in alone.iter().zip(phones) {
        let last = Some(phone::last_passage(there.last()));
        let evaluated = async || ledger::transitions(&mut db, phone).await.last().map(|(_, seq, _)| *seq);
        ledger::until(&last, evaluated).await;
        happened.push(ledger::transitions(&mut db, phone).await);
    }
    db.close().await.unwrap();
    node.stop().await;
    happened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaled_up_and_down_under_load_nothing_is_lost_or_doubled() {
    let people_n = count(500);
    let (seconds, pause) = if proving() { (60, 800) } else { (16, 300) };
    let site = Site::fresh().await;
    let first = site.node("first");
    let phones = people(&first.api(), people_n).await;

    let (nodes, _) = watch::channel(vec![first.base.clone()]);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut streams = JoinSet::new();
    for (n, mut phone) in phones.into_iter().enumerate() {
        let nodes = nodes.subscribe();
        streams.spawn(async move {
            let pause = Duration::from_millis(pause + 7 * (n as u64 % 50));
            phone.stream(nodes, n as u64 + 1, pause, || Instant::now() >= end).await;
            (n, phone)
        });
    }
    // One, three, one again: and the one is another than it was.
    let third = Duration::from_secs(seconds / 3);
    tokio::time::sleep(third).await;
    let (second, last) = (site.node("second"), site.node("last"));
    nodes.send_replace(vec![first.base.clone(), second.base.clone(), last.base.clone()]);
    tokio::time::sleep(third).await;
    nodes.send_replace(vec![last.base.clone()]);
    let ((), ()) = tokio::join!(first.stop(), second.stop());

    let mut phones: Vec<(usize, Phone)> = streams.join_all().await;
    phones.sort_by_key(|(n, _)| *n);
    let phones: Vec<Phone> = phones.into_iter().map(|(_, phone)| phone).collect();
    let sent: usize = phones.iter().map(|p| p.sent.len()).sum();
    let connections: usize = phones.iter().map(|p| p.connections).sum();
    let mut closes: BTreeMap<u16, usize> = BTreeMap::new();
    for (code, n) in phones.iter().flat_map(|p| &p.closes) {
        *closes.entry(*code).or_default() += n;
    }
    println!(
        "{people_n} phones, {sent} fixes acked over {connections} connections; closed by the server: {closes:?}"
    );
    assert!(closes.contains_key(&1012) && closes.contains_key(&4409), "moves were provoked: {closes:?}");

    let mut db = database::connect(site.database()).await;
    let expected = replayed(&phones).await;
    let (mut happened, mut told) = (0, 0);
    for (phone, expected) in phones.iter().zip(&expected) {
        let once: BTreeMap<i64, i64> = phone.sent.keys().map(|seq| (*seq, 1)).collect();
        assert_eq!(ledger::fixes(&mut db, phone).await, once);
        // What a node finds that lost the device, the other has found within seconds.
        ledger::until(expected, async || ledger::transitions(&mut db, phone).await).await;
        let news = expected.iter().filter(|(_, _, initial)| !initial).count() as i64;
        ledger::until(&news, async || ledger::told(&mut db, phone).await).await;
        (happened, told) = (happened + expected.len(), told + news);
    }
    println!("{happened} transitions as on one node, {told} alerts, each once");
    println!("refused for an old token by the last node: {}", last.metric("cima_folds_lost_total").await);
    db.close().await.unwrap();
    last.stop().await;
}
