//! What a node refuses: paths of other roles, and a part of the roles without what the parts share.

use crate::rig::{Cluster, NOWHERE, Shared};
use cima::app::Node;
use cima::clock::Clock;
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_another_role_is_misdirected_and_says_where_to() {
    let cluster = Cluster::start(&["api", "tracking", "alerts", "push"]).await;
    let ada = cluster.person("Ada").await;
    for (node, path, role) in [
        (0, "/v1/stream", "tracking"),
        (0, "/v1/locations", "tracking"),
        (1, "/v1/me", "api"),
        (1, "/v1/geofences", "api"),
        (2, "/v1/emergencies", "api"),
        (3, "/v1/stream", "tracking"),
    ] {
        let answer = cluster.node(node).get(path, &ada.session.access).await.unwrap();
        assert_eq!((answer.status, answer.code()), (421, "misdirected"), "{node} {path}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.ends_with(&format!("role {role}")), "{node} {path}: {detail}");
    }
    for node in 0..4 {
        for path in
            ["/livez", "/readyz", "/metrics", "/.well-known/jwks.json", "/openapi.json", "/asyncapi.json"]
        {
            assert_eq!(cluster.node(node).get(path, "").await.unwrap().status, 200, "{node} {path}");
        }
        let nowhere = cluster.node(node).get("/nowhere", "").await.unwrap();
        assert_eq!((nowhere.status, nowhere.code()), (404, "not_found"));
    }
    let nowhere = cluster.node(0).get("/v1/nowhere", "").await.unwrap();
    assert_eq!((nowhere.status, nowhere.code()), (404, "not_found"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_without_what_the_parts_share_does_not_start() {
    let shared = Shared::new().await;
    for (database, redis, key, sentence) in [
        (false, false, true, "the same --database-url and --redis-url"),
        (true, false, true, "the same --redis-url"),
        (false, true, true, "the same --database-url"),
        (true, true, false, "the same --signing-key-file"),
    ] {
        let mut config = shared.settings("refused", "api,push");
        config.database_url = config.database_url.filter(|_| database);
        config.redis_url = config.redis_url.filter(|_| redis);
        config.signing_key_file = config.signing_key_file.filter(|_| key);
        let Err(error) = Node::start(&config, Clock::system()).await else {
            panic!("it started: {sentence}")
        };
        assert!(error.to_string().contains(sentence), "{error:#}");
    }
}

/// The exit code and what was said of `cima` with these arguments.
fn cima(arguments: &[&str]) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_cima")).args(arguments).output().unwrap();
    let said = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_list_that_means_nothing_is_refused_by_name() {
    for (given, sentence) in
        [("api,pish", "`pish` is no role"), ("", "at least one of"), (",", "at least one of")]
    {
        let (ran, said) = cima(&["serve", &format!("--role={given}")]);
        assert!(!ran && said.contains(sentence), "{given}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_the_role_and_reaches_redis() {
    let shared = Shared::new().await;
    let folder = shared.folder.path().join("doctor");
    let key = shared.folder.path().join("key.pem");
    let (folder, key) = (folder.to_str().unwrap(), key.to_str().unwrap());
    let doctor = |more: &[&str]| {
        let usual = ["doctor", "--listen", "127.0.0.1:0", "--data-dir", folder, "--role", "push,tracking"];
        let more = [&usual, ["--signing-key-file", key].as_slice(), more].concat();
        cima(&more)
    };
    // The private server of the tests keeps nothing on disk, and is called bad for it.
    let (_, said) = doctor(&["--database-url", &shared.database, "--redis-url", &shared.redis]);
    assert!(said.contains("ok   role          tracking,push"), "{said}");
    assert!(said.contains("ok   redis         it answers"), "{said}");
    let (_, said) = doctor(&["--database-url", &shared.database, "--redis-url", NOWHERE]);
    assert!(said.contains("look redis         Redis does not answer"), "{said}");
    let (healthy, said) = doctor(&["--database-url", &shared.database]);
    assert!(!healthy && said.contains("BAD  role") && said.contains("--redis-url"), "{said}");
}
