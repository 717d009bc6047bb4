//! A node that is told to stop: its sockets leave one after the other, and what was acked is there.

use crate::harness::{TestNode, count};
use cima::client::{Heard, Socket, fix, fixes};
use cima::clock::Clock;
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How one socket ended.
struct Left {
    /// From the beginning of the stop to the close.
    after: Duration,
    told_s: Option<u64>,
    code: u16,
    acked: i64,
    in_emergency: bool,
}

/// Hears a socket to its end; a phone that streams goes on sending until it is closed.
async fn leave(
    mut socket: Socket,
    streams: bool,
    stopped: tokio::sync::watch::Receiver<Option<Instant>>,
) -> Left {
    let mut left = Left { after: Duration::ZERO, told_s: None, code: 0, acked: 0, in_emergency: false };
    let mut sent = 1;
    if streams {
        socket.send(&fixes(&[fix(sent, 48.2, 16.4, Clock::system().now())])).await.unwrap();
    }
    loop {
        match socket.hear().await {
            Heard::Frame(Value::Object(frame)) if frame["type"] == "drain" => {
                left.told_s = frame["after_s"].as_u64();
            }
            Heard::Frame(frame) if frame["type"] == "acked" => {
                left.acked = left.acked.max(frame["seq"].as_i64().unwrap());
                sent += 1;
                // An error is the close that is heard next.
                let _ = socket.send(&fixes(&[fix(sent, 48.2, 16.4, Clock::system().now())])).await;
            }
            Heard::Frame(_) => {}
            Heard::Closed(code) => {
                left.code = code;
                left.after = stopped.borrow().map_or(Duration::ZERO, |at| at.elapsed());
                return left;
            }
            Heard::Gone => return left,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_leave_one_after_the_other_and_emergencies_last() {
    const DRAIN: Duration = Duration::from_secs(5);
    let mut node = TestNode::start_with(Clock::system(), |c| c.drain_s = DRAIN.as_secs()).await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    ada.raise().await;
    let cy = node.person("Cy").await;
    let (stop, stopped) = tokio::sync::watch::channel(None);
    let mut sockets = JoinSet::new();
    for n in 0..count(2_000) {
        let (person, part) = match n {
            0 => (ada.clone(), true),
            1 => (bo.clone(), true),
            _ => (cy.clone(), false),
        };
        // Some phones stream, each on a device of its own.
        let streams = n % 20 == 2;
        let person = if streams { person.another_device("phone").await } else { person };
        let (socket, stopped) = (person.stream().await, stopped.clone());
        sockets.spawn(async move {
            let left = leave(socket, streams, stopped).await;
            (person, streams, Left { in_emergency: part, ..left })
        });
    }
    stop.send(Some(Instant::now())).unwrap();
    assert!(node.stop().await, "everything ended in time");
    let left: Vec<_> = sockets.join_all().await;

    let mut times: Vec<Duration> = left.iter().map(|(_, _, l)| l.after).collect();
    times.sort_unstable();
    println!(
        "closed after {:?} to {:?}, half by {:?}",
        times[0],
        times[times.len() - 1],
        times[times.len() / 2]
    );
    for (_, _, l) in &left {
        assert_eq!(l.code, 1012);
        let told = Duration::from_secs(l.told_s.expect("a drain frame came before the close"));
        assert!(told + Duration::from_secs(1) >= l.after, "told {told:?}, closed after {:?}", l.after);
    }
    // In no tenth of the window more than a third goes.
    let tenth = DRAIN / 10;
    for from in &times {
        let together = times.iter().filter(|t| *from <= **t && **t < *from + tenth).count();
        assert!(together <= times.len() / 3, "{together} closed within {tenth:?} of {from:?}");
    }
    let of =
        |in_emergency: bool| left.iter().filter(move |l| l.2.in_emergency == in_emergency).map(|l| l.2.after);
    let (others, part) = (of(false).max().unwrap(), of(true).min().unwrap());
    assert!(part + Duration::from_millis(500) >= others, "emergencies at {part:?}, others until {others:?}");

    // No acked fix is lost.
    node.start_again().await;
    for (person, _, l) in left.iter().filter(|l| l.1) {
        let mut again = person.on(&node).api.stream(&person.session.access).await.unwrap();
        let last = again.wait("welcome").await.unwrap()["last_seq"].as_i64().unwrap();
        assert!(l.acked > 0 && last >= l.acked, "acked {}, kept {last}", l.acked);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_its_close_holds_up_no_stop() {
    let mut node = TestNode::start_with(Clock::system(), |c| c.drain_s = 1).await;
    let silent = node.person("Ada").await.stream().await;
    assert!(node.stop().await, "everything ended in time");
    drop(silent);
}
