//! Pings, dead peers and drains.

use super::node::{BO, fixes};
use super::rig::{FIRST, HEARTBEAT, Rig};
use crate::identity::Revoked;
use crate::stream::session::{Input, Peers, Session};
use crate::tracking::Recorded;
use serde_json::json;
use std::time::Duration;

const RESTART: &str = "close 1012: restart";

#[test]
fn a_heartbeat_pings_and_looks_at_the_inbox() {
    let mut rig = Rig::welcomed();
    assert_eq!(rig.wakes_in(), HEARTBEAT);
    assert_eq!(rig.tick(Peers::None), ["ping", "ask inbox 0"]);
    assert_eq!(rig.wakes_in(), HEARTBEAT);
    // A tick for another reason is no heartbeat.
    assert!(rig.give(Input::Tick(Peers::None)).is_empty());
    // Beside other nodes the node looks, for all sockets at once.
    rig.give(Input::Beat);
    assert_eq!(rig.tick(Peers::Heard), ["ping"]);
}

#[test]
fn a_peer_that_says_nothing_for_two_heartbeats_and_a_half_is_gone() {
    let mut rig = Rig::welcomed();
    assert_eq!(rig.tick(Peers::None)[0], "ping");
    rig.give(Input::Beat);
    assert_eq!(rig.tick(Peers::None)[0], "ping");
    assert_eq!(rig.tick(Peers::None)[0], "ping");
    assert_eq!(rig.tick(Peers::None), ["gone"]);
}

#[test]
fn a_peer_whose_fixes_are_not_on_disk_yet_is_not_given_up() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.frame(fixes(&[1, 2, 3, 4, 5], now));
    for _ in 0..10 {
        assert_eq!(rig.tick(Peers::None)[0], "ping");
    }
    rig.mail(|m| m.written(1, 5, Recorded::default()));
    assert_eq!(rig.tick(Peers::None), ["gone"]);
}

#[test]
fn a_step_that_took_long_lets_no_peer_die_unheard() {
    let mut rig = Rig::welcomed();
    assert_eq!(rig.tick(Peers::None)[0], "ping");
    rig.pass(HEARTBEAT * 4);
    assert_eq!(rig.give(Input::Tick(Peers::None))[0], "ping", "its pong waits in the socket's buffer");
    rig.give(Input::Beat);
    assert_eq!(rig.tick(Peers::None)[0], "ping");
}

#[test]
fn what_cannot_be_read_is_looked_at_ever_more_rarely_until_it_is_answered() {
    let mut rig = Rig::welcomed();
    rig.node.fails = true;
    rig.mail(|m| m.inbox());
    let pauses: Vec<f64> = (0..8)
        .map(|_| {
            let pause = rig.wakes_in().as_secs_f64();
            rig.give(Input::Beat);
            rig.tick(Peers::None);
            pause
        })
        .collect();
    let halves = [0.5, 1.0, 2.0, 4.0, 8.0];
    assert!(pauses.iter().zip(halves).all(|(pause, half)| (half..=half * 2.0).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 20.0), "no longer than a heartbeat: {pauses:?}");
    rig.node.fails = false;
    rig.give(Input::Beat);
    while !rig.tick(Peers::None).contains(&"ask inbox 0".to_owned()) {}
    rig.node.fails = true;
    rig.mail(|m| m.inbox());
    assert!(rig.wakes_in() <= Duration::from_secs(1), "it begins anew");
}

#[test]
fn after_lost_hints_a_revoked_caller_reads_nothing() {
    let mut rig = Rig::welcomed();
    rig.node.fails = true;
    rig.mail(|m| m.inbox());
    (rig.node.fails, rig.revoked) = (false, Some(Revoked::Session(FIRST)));
    assert_eq!(rig.tick(Peers::None), ["close 4401: the session ended"]);
}

#[test]
fn a_page_that_two_reasons_ask_for_is_sent_once() {
    let mut rig = Rig::welcomed();
    rig.node.fails = true;
    rig.pass(HEARTBEAT - Duration::from_secs(1));
    rig.mail(|m| m.inbox());
    rig.node.fails = false;
    rig.node.inbox.push(false);
    rig.pass(Duration::from_secs(1));
    let said = rig.give(Input::Tick(Peers::None));
    assert_eq!(said.iter().filter(|s| s.starts_with("alert")).count(), 1, "{said:?}");
}

#[test]
fn a_drain_says_when_and_closes_then() {
    let mut rig = Rig::welcomed();
    assert_eq!(rig.mail(|m| m.drain(Duration::from_millis(2_500))), ["drain 3"]);
    assert_eq!(rig.wakes_in(), Duration::from_millis(2_500));
    assert_eq!(rig.tick(Peers::None), [RESTART]);
}

#[test]
fn a_drain_waits_for_the_last_acks_and_takes_no_more_fixes() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.mail(|m| m.drain(Duration::from_secs(2)));
    rig.frame(fixes(&[1], now));
    assert!(rig.tick(Peers::None).is_empty());
    assert!(rig.frame(fixes(&[2], now)).is_empty(), "the phone sends it again, to another node");
    assert_eq!(
        rig.frame(json!({"type": "emergency"}))[..2],
        ["raise", "accepted"],
        "an SOS is taken to the end"
    );
    assert_eq!(rig.wakes_in(), Duration::from_millis(20), "it looks soon again");
    assert!(rig.tick(Peers::None).is_empty());
    assert_eq!(rig.mail(|m| m.written(1, 1, Recorded::default())), ["acked 1"]);
    assert_eq!(rig.tick(Peers::None), [RESTART]);
}

#[test]
fn a_drain_does_not_wait_for_a_disk_that_does_not_answer() {
    let mut rig = Rig::welcomed();
    let now = rig.now();
    rig.frame(fixes(&[1], now));
    rig.mail(|m| m.drain(Duration::ZERO));
    let mut waited = Duration::ZERO;
    loop {
        waited += rig.wakes_in();
        if rig.tick(Peers::None) == [RESTART] {
            break;
        }
    }
    assert_eq!(waited, Duration::from_secs(1));
}

#[test]
fn who_watches_wakes_each_second() {
    let mut rig = Rig::welcomed();
    rig.node.trust_live(BO);
    rig.frame(json!({"type": "watch", "user": BO}));
    assert_eq!(rig.wakes_in(), Duration::from_secs(1));
    assert!(rig.tick(Peers::None).is_empty());
    assert_eq!(rig.wakes_in(), Duration::from_secs(1));
}

/// A hundred thousand of them wait at a time.
#[test]
fn an_idle_session_is_small_and_keeps_no_queue() {
    let mut rig = Rig::welcomed();
    rig.node.inbox = vec![false; 50];
    rig.mail(|m| m.inbox());
    assert_eq!(rig.session.queue.capacity(), 0);
    let size = size_of::<Session>();
    println!("a session has {size} bytes");
    assert!(size <= 408, "{size} bytes");
}
