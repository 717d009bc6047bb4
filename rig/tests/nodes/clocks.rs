//! Wall clocks that are wrong, or are set while nodes run: durations stay durations.

use cima::client::{Api, Session, Socket};
use cima_rig::node::{Launch, Server, Site};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const HOUR_S: i64 = 3_600;
/// What is waited for; longer than it takes to see that a clock was set.
const WAIT: Duration = Duration::from_secs(8);
/// None is late by more than this.
const LATE: Duration = Duration::from_secs(2);
/// What comes so long before its time has gone by a clock that was set.
const EARLY: Duration = Duration::from_secs(1);
/// What this machine may take longer, that has other things to do.
const SLACK: Duration = Duration::from_secs(3);

/// Ada and her contact Bo, who listens.
async fn pair(api: &Api, name: &str) -> (Session, Socket) {
    let bo = format!("bo_{name}");
    let ada = api.sign_up(&format!("ada_{name}"), "Ada").await.unwrap();
    let contact = api.sign_up(&bo, "Bo").await.unwrap();
    api.link(&ada, &contact, &bo, &["alerts", "emergency_location"]).await.unwrap();
    let mut socket = api.stream(&contact.access).await.unwrap();
    socket.wait("welcome").await.unwrap();
    (ada, socket)
}

fn is_sos(frame: &Value) -> bool {
    frame["type"] == "alert" && frame["kind"] == "emergency"
}

/// How long after `began` the contact is told; `None` if that is too late.
async fn told(socket: &mut Socket, began: Instant) -> Option<Duration> {
    let until = WAIT + LATE + SLACK;
    let told = timeout(until.saturating_sub(began.elapsed()), socket.wait_for("the SOS", is_sos)).await;
    told.is_ok_and(|told| told.is_ok()).then(|| began.elapsed())
}

/// A countdown and a check-in of that long; when each is told, with the node's clock set by `by_s` in between.
async fn with_the_clock_set(by_s: i64, without: &str) -> [Option<Duration>; 2] {
    let site = Site::embedded();
    let node = site.launch("node", &Launch::default().with_own_clock().without(without)).serves();
    let api = node.api();
    let ((ada, mut of_ada), (eve, mut of_eve)) =
        (pair(&api, "countdown").await, pair(&api, "check_in").await);
    let began = Instant::now();
    let raise = json!({"countdown_s": WAIT.as_secs()});
    assert_eq!(api.post("/v1/emergencies", &ada.access, raise).await.unwrap().status, 201);
    let check_in = json!({"due_in_s": WAIT.as_secs() - 2, "grace_s": 2});
    assert_eq!(api.post("/v1/check-ins", &eve.access, check_in).await.unwrap().status, 201);
    sleep(Duration::from_secs(1)).await;
    node.shift_clock(by_s);
    let both = tokio::join!(told(&mut of_ada, began), told(&mut of_eve, began));
    println!("set by {by_s} s without {without:?}: told after {both:?}");
    [both.0, both.1]
}

fn in_time(told: Option<Duration>) -> bool {
    told.is_some_and(|told| told >= WAIT - Duration::from_millis(50) && told <= WAIT + LATE + SLACK)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_raises_nothing_false() {
    assert!(with_the_clock_set(HOUR_S, "").await.into_iter().all(in_time));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_makes_nobody_wait() {
    assert!(with_the_clock_set(-HOUR_S, "").await.into_iter().all(in_time));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_stores_clock_both_go_wrong() {
    let (ahead, back) =
        tokio::join!(with_the_clock_set(HOUR_S, "store-clock"), with_the_clock_set(-HOUR_S, "store-clock"));
    assert!(ahead.into_iter().all(|told| told.is_some_and(|told| told < WAIT - EARLY)), "{ahead:?}");
    assert_eq!(back, [None, None]);
}

/// Whether a node whose clock is wrong from the start takes what another node gave, and raises nothing before its time.
async fn beside_a_right_one(by_s: i64, without: &str) -> (u16, Option<Duration>) {
    let site = Site::fresh().await;
    let right = site.launch("right", &Launch::default().role("api,tracking,push")).serves();
    let wrong = Launch::default().clock_off_by(by_s).without(without);
    let wrong: Server = site.launch("wrong", &wrong).serves();
    let (ada, mut contact) = pair(&right.api(), "beside").await;
    let began = Instant::now();
    let raise = json!({"countdown_s": WAIT.as_secs()});
    let raised = wrong.api().post("/v1/emergencies", &ada.access, raise.clone()).await.unwrap().status;
    if raised != 201 {
        right.api().post("/v1/emergencies", &ada.access, raise).await.unwrap().ok().unwrap();
    }
    let told = told(&mut contact, began).await;
    println!("a node off by {by_s} s without {without:?}: {raised}, told after {told:?}");
    if without.is_empty() {
        assert_eq!(reqwest::get(format!("{}/readyz", wrong.base)).await.unwrap().status(), 200);
        let off = wrong.metrics("cima_clock_offset_seconds").await;
        let of = |clock: &str| off.iter().find(|(labels, _)| labels.contains(clock)).unwrap().1;
        assert!((of("system") - by_s as f64).abs() < 2.0 && of("store").abs() < 1.0, "{off:?}");
    }
    (raised, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_goes_by_the_stores() {
    for by_s in [HOUR_S, -HOUR_S] {
        let (raised, told) = beside_a_right_one(by_s, "").await;
        assert!(raised == 201 && in_time(told), "{by_s}: {raised}, {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_stores_clock_it_refuses_tokens_and_raises_before_its_time() {
    let (raised, told) = beside_a_right_one(HOUR_S, "store-clock").await;
    assert_eq!(raised, 401);
    assert!(told.is_some_and(|told| told < WAIT - EARLY), "{told:?}");
}
