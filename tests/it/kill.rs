//! SIGKILL in the middle of work: what was acked is there, once; what was open is open.

use crate::harness::{Dice, arguments, count, seed};
use cima::client::{Api, Heard, Session, fix, fixes};
use cima::clock::{Clock, Timestamp};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// For a server to listen.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A server in a process of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) api: Api,
}

impl Server {
    pub(crate) async fn start(folder: &TempDir) -> Self {
        Self::start_with(folder, &[], Stdio::inherit()).await
    }
    /// With more flags, its log going there.
    pub(crate) async fn start_with(folder: &TempDir, flags: &[String], log: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cima"))
            .arg("serve")
            .args(arguments(folder).await)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (said, first_line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody listens any more if it took too long.
            let _ = said.send(lines.read_line(&mut line).map(|_| line));
        });
        let Ok(line) = first_line.recv_timeout(STARTED_WITHIN) else {
            child.kill().unwrap();
            panic!("the server did not start within {STARTED_WITHIN:?}");
        };
        let line = line.unwrap();
        let base = line.trim().split_once("http://").map(|(_, addr)| format!("http://{addr}")).unwrap();
        Self { child, api: Api::new(base).unwrap() }
    }
    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test will notice.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Streams at full speed until the socket breaks; the newest acked number and the newest sent.
async fn stream_until_killed(
    server: Server,
    session: &Session,
    kill_after: usize,
    sent: &mut Vec<(i64, Timestamp)>,
) -> i64 {
    let mut socket = server.api.stream(&session.access).await.unwrap();
    let welcome = socket.wait("welcome").await.unwrap();
    let resume_from = welcome["last_seq"].as_i64().unwrap();
    let window = welcome["window"].as_i64().unwrap();
    // The phone goes on from what the server has; what it sent beyond was not acked and is sent again.
    let clock = Clock::system();
    let mut acked = resume_from;
    let mut next = resume_from + 1;
    let mut acks = 0;
    let mut server = Some(server);
    loop {
        while server.is_some() && next - acked + 10 <= window {
            let batch: Vec<Value> = (next..next + 10)
                .map(|seq| {
                    let known = sent.iter().rev().find(|(s, _)| *s == seq).map(|(_, at)| *at);
                    let at = known.unwrap_or_else(|| clock.now());
                    if known.is_none() {
                        sent.push((seq, at));
                    }
                    fix(seq, 48.0 + seq as f64 * 1e-6, 16.0, at)
                })
                .collect();
            if socket.send(&fixes(&batch)).await.is_err() {
                break;
            }
            next += 10;
        }
        match socket.hear().await {
            Heard::Frame(frame) if frame["type"] == "acked" => {
                acked = acked.max(frame["seq"].as_i64().unwrap());
                acks += 1;
                if acks >= kill_after
                    && let Some(server) = server.take()
                {
                    // Acks that are on their way are read on: they were promises.
                    server.kill();
                }
            }
            Heard::Frame(_) => {}
            Heard::Closed(_) | Heard::Gone => return acked,
        }
    }
}

async fn whole_track(api: &Api, session: &Session) -> HashMap<i64, usize> {
    let mut seen: HashMap<i64, usize> = HashMap::new();
    let mut path = format!("/v1/people/{}/track?limit=1000", session.user);
    loop {
        let page = api.get(&path, &session.access).await.unwrap().ok().unwrap();
        for feature in page["features"].as_array().unwrap() {
            *seen.entry(feature["properties"]["seq"].as_i64().unwrap()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/people/{}/track?limit=1000&after={next}", session.user),
            None => return seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acked_fix_is_lost_or_doubled_by_sigkill() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder).await;
    let session = server.api.sign_up("ada", "Ada").await.unwrap();
    server.kill();
    let mut dice = Dice(seed());
    let (mut sent, mut acked) = (Vec::new(), 0);
    let rounds = count(20).max(5);
    for round in 0..rounds {
        let server = Server::start(&folder).await;
        let seen = whole_track(&server.api, &session).await;
        let missing: Vec<i64> = (1..=acked).filter(|seq| !seen.contains_key(seq)).collect();
        assert!(missing.is_empty(), "round {round}: acked and lost: {missing:?}");
        assert!(seen.values().all(|n| *n == 1), "round {round}: a fix is there twice");
        let kill_after = 5 + usize::try_from(dice.roll(40)).unwrap();
        let now_acked = stream_until_killed(server, &session, kill_after, &mut sent).await;
        assert!(now_acked > acked, "round {round}: nothing new was acked");
        acked = now_acked;
    }
    let server = Server::start(&folder).await;
    let seen = whole_track(&server.api, &session).await;
    assert!((1..=acked).all(|seq| seen.get(&seq) == Some(&1)));
    println!("{rounds} kills, {acked} fixes acked, 0 lost, 0 doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_links_and_open_emergencies_outlive_sigkill() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder).await;
    let api = &server.api;
    let (ada, bo) = (api.sign_up("ada", "Ada").await.unwrap(), api.sign_up("bo_n", "Bo").await.unwrap());
    api.link(&ada, &bo, "bo_n", &["alerts", "emergency_location"]).await.unwrap();
    let raised = json!({"kind": "sos", "fix": {"lat": 48.2, "lon": 16.4}, "message": "help"});
    let raised = api.post("/v1/emergencies", &ada.access, raised).await.unwrap().ok().unwrap();
    let id = raised["emergency"]["id"].as_str().unwrap().to_owned();
    let before = [
        api.get("/v1/links?role=subject", &ada.access).await.unwrap(),
        api.get(&format!("/v1/emergencies/{id}"), &bo.access).await.unwrap(),
        api.get(&format!("/v1/people/{}/location", ada.user), &bo.access).await.unwrap(),
        api.get("/v1/alerts", &bo.access).await.unwrap(),
    ];
    server.kill();

    let server = Server::start(&folder).await;
    let api = &server.api;
    let after = [
        api.get("/v1/links?role=subject", &ada.access).await.unwrap(),
        api.get(&format!("/v1/emergencies/{id}"), &bo.access).await.unwrap(),
        api.get(&format!("/v1/people/{}/location", ada.user), &bo.access).await.unwrap(),
        api.get("/v1/alerts", &bo.access).await.unwrap(),
    ];
    assert_eq!(before, after);
    assert_eq!(after[1].body["state"], "active");
    assert_eq!(after[2].body["fix"]["lat"], 48.2);
    api.sign_in("ada", "another phone").await.unwrap();
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_with_a_sentence() {
    let folder = TempDir::new().unwrap();
    let start = |listen: &str| -> Child {
        Command::new(env!("CARGO_BIN_EXE_cima"))
            .args(["serve", "--listen", listen, "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut first = start("127.0.0.1:0");
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let second = start("127.0.0.1:0").wait_with_output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another cima is running"), "{said}");
}
