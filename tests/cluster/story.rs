//! A whole story over nodes of which none could play it alone.

use crate::rig::{Cluster, Hook, is_sos, is_transition, north, send_acked};
use cima::clock::Clock;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_roles_on_five_nodes_play_a_whole_story() {
    let cluster = Cluster::start(&["api", "tracking", "tracking", "alerts", "push"]).await;
    let (ada, bo) = cluster.pair().await;
    let mut hook = Hook::start().await;
    hook.reaches(&bo).await;
    let fence = ada.fence().await;
    // The front leads the first to one node and the second to the other.
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    assert_eq!(cluster.front.streams("cima-tracking"), 2);

    send_acked(&mut phone, &[north(1, 400.0), north(2, 300.0)]).await;
    send_acked(&mut phone, &[north(3, 10.0)]).await;
    let entered = contact.wait_for("the alert", is_transition("enter")).await.unwrap();
    assert_eq!(entered["geofence"], fence.as_str());

    let clock = Clock::system();
    let id = cima::id::fresh(&clock).to_string();
    let countdown = Duration::from_secs(2);
    let raised_at = clock.monotonic();
    let raise = json!({"type": "emergency", "id": id, "kind": "sos", "countdown_s": countdown.as_secs()});
    phone.send(&raise).await.unwrap();
    let accepted = phone.wait("accepted").await.unwrap();
    assert_eq!(accepted["state"], "countdown");
    contact.wait_for("the SOS", is_sos).await.unwrap();
    let waited = clock.monotonic().since(raised_at);
    assert!(waited >= countdown && waited < countdown + Duration::from_secs(3), "{waited:?}");
    hook.emergencies().await;

    contact.send(&json!({"type": "watch", "user": ada.session.user})).await.unwrap();
    let newest = contact.wait("position").await.unwrap();
    assert_eq!((&newest["basis"], &newest["fix"]["seq"]), (&json!("emergency"), &json!(3)));
    send_acked(&mut phone, &[north(4, 12.0)]).await;
    contact.wait_for("a live one", |f| f["type"] == "position" && f["fix"]["seq"] == 4).await.unwrap();
    // Reads of what tracking nodes stored are api's.
    let zones = bo.call("GET", &format!("/v1/people/{}/location", ada.session.user), json!({})).await;
    assert_eq!((zones.status, &zones.body["fix"]["seq"]), (200, &json!(4)));

    ada.post(&format!("/v1/emergencies/{id}/resolve"), json!({})).await;
    // In either order: each has an event of its own.
    let (mut told, mut shown) = (false, true);
    while !told || shown {
        let next = contact.wait_for("the end", |f| f["type"] == "emergency" || f["type"] == "unavailable");
        let frame = next.await.unwrap();
        told |= frame["emergency"]["state"] == "resolved";
        shown &= frame["type"] != "unavailable";
    }
    drop((phone, contact));
    cluster.stop().await;
}
