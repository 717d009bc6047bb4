//! Who a socket is: its token, the session behind it, and what ends them.

use crate::harness::{Person, TestNode, raw, send_acked};
use cima::bus::Event;
use cima::client::{Socket, fix, password};
use cima::clock::Clock;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// More than any listener's queue of hints holds.
const FLOOD: usize = 20_000;

/// The same person signed in once more on the same device: another session.
async fn another_session(node: &TestNode, ada: &Person) -> Person {
    let device = json!({"id": ada.session.device, "name": "phone", "platform": "other"});
    let given = json!({"handle": ada.handle, "password": password(&ada.handle), "device": device});
    let session = node.api.call("POST", "/v1/sessions", None, Some(&given)).await.unwrap().ok().unwrap();
    let text = |field: &str| session[field].as_str().unwrap().to_owned();
    let mut again = ada.clone();
    again.session.access = text("access_token");
    again.session.refresh = text("refresh_token");
    again
}

/// Gives a socket the token of another session; it has taken it when the fix that follows is acked.
async fn renew(socket: &mut Socket, to: &Person, seq: i64) {
    socket.send(&json!({"type": "token", "access_token": to.session.access})).await.unwrap();
    send_acked(socket, &[fix(seq, 48.2, 16.4, Clock::system().now())]).await;
}

async fn closed_within_a_second(socket: &mut Socket) -> u16 {
    timeout(Duration::from_secs(1), socket.wait_closed()).await.expect("closed within a second").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_session_before_leaves_a_socket_that_is_on_another() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let again = another_session(&node, &ada).await;
    let mut phone = ada.stream().await;
    renew(&mut phone, &again, 1).await;
    again.raise().await;
    phone.wait("emergency").await.unwrap();
    assert_eq!(ada.delete("/v1/sessions/current").await.status, 204);
    // Heard after the hint of that end: the socket then looks at its open emergencies again.
    node.node.as_ref().unwrap().services.bus.publish_here(Event::Resync);
    phone.wait("emergency").await.unwrap();
    send_acked(&mut phone, &[fix(2, 48.2, 16.4, node.now())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_session_a_socket_has_moved_to_closes_it_at_once() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let again = another_session(&node, &ada).await;
    let mut phone = ada.stream().await;
    renew(&mut phone, &again, 1).await;
    assert_eq!(again.delete("/v1/sessions/current").await.status, 204);
    assert_eq!(closed_within_a_second(&mut phone).await, 4401);
}

/// On one thread nothing runs between the end and the flood of hints that pushes its hint out of every queue.
#[tokio::test]
async fn a_socket_whose_session_ended_unheard_is_told_to_come_with_another_token() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let mut phone = ada.stream().await;
    let services = &node.node.as_ref().unwrap().services;
    let caller = services.identity.authenticate(&ada.session.access).unwrap();
    services.identity.sign_out(&caller).await.unwrap();
    (0..FLOOD).for_each(|_| services.bus.publish_here(Event::Rescheduled));
    assert_eq!(closed_within_a_second(&mut phone).await, 4401);
}

#[tokio::test]
async fn a_socket_whose_device_was_removed_unheard_is_told_so() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let stolen = ada.another_device("stolen").await;
    let mut thief = stolen.stream().await;
    let services = &node.node.as_ref().unwrap().services;
    let caller = services.identity.authenticate(&stolen.session.access).unwrap();
    services.identity.remove_device(caller.user, caller.device).await.unwrap();
    (0..FLOOD).for_each(|_| services.bus.publish_here(Event::Rescheduled));
    assert_eq!(closed_within_a_second(&mut thief).await, 4403);
}

async fn status_of_upgrade(node: &TestNode, authorization: &str, protocols: &str) -> u16 {
    use tokio_tungstenite::tungstenite::Error;
    let url = format!("{}/v1/stream", node.api.base().replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", authorization.parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    match Socket::open(request).await {
        Ok(mut socket) => {
            socket.wait("welcome").await.unwrap();
            101
        }
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::Http(answer)) => answer.status().as_u16(),
            _ => panic!("{error:#}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_transports_read_the_same_authorization() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let token = &ada.session.access;
    let given = [
        (format!("Bearer {token}"), true),
        (format!("bearer {token}"), true),
        (format!("BEARER {token}"), true),
        (format!("bEaReR   {token}"), true),
        (format!("Basic {token}"), false),
        (format!("Bearer{token}"), false),
        (format!("Bearer {token} {token}"), false),
        (format!("Bearer \"{token}\""), false),
        ("Bearer".to_owned(), false),
        (token.clone(), false),
    ];
    for (authorization, good) in given {
        let rest = raw(&node.api, "GET", "/v1/me", &[("authorization", &authorization)], "").await.status;
        let upgraded = status_of_upgrade(&node, &authorization, "cima.v1.json").await;
        let expected = if good { (200, 101) } else { (401, 401) };
        assert_eq!((rest, upgraded), expected, "{}", authorization.replace(token.as_str(), "<token>"));
    }
}

/// What a proxy in front adds for itself is no token, and hides none.
#[tokio::test(flavor = "multi_thread")]
async fn another_scheme_beside_a_token_in_the_subprotocols_is_no_token() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let offered = format!("cima.v1.json, bearer.{}", ada.session.access);
    assert_eq!(status_of_upgrade(&node, "Basic YTpi", &offered).await, 101);
}
