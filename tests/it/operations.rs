//! What those who run it see: health, metrics, documents, stops and starts, the command line.

use crate::harness::{TestNode, frames_until, next_frame, raw, refused_upgrade, send_acked};
use cima::client::{Api, Heard, Socket, fix};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

async fn get(node: &TestNode, path: &str) -> crate::harness::Raw {
    raw(&node.api, "GET", path, &[], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_lives_and_can_take_an_sos() {
    let node = TestNode::start().await;
    let live = get(&node, "/livez").await;
    assert_eq!((live.status, live.text.as_str()), (200, "ok"));
    let ready = get(&node, "/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true})));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_counted_is_there_at_zero_from_the_start() {
    let node = TestNode::start().await;
    let metrics = get(&node, "/metrics").await.text;
    for line in [
        "cima_shed_total{what=\"fix\"}",
        "cima_shed_total{what=\"frame\"}",
        "cima_slow_consumers_total",
        "cima_log_lines_left_out_total",
        "cima_ready",
    ] {
        assert!(
            metrics.lines().any(|l| l.strip_prefix(line).is_some_and(|rest| rest.starts_with(' '))),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_without_a_coordinate_a_handle_or_an_id() {
    let node = TestNode::start().await;
    let ada = node.person("Metrica").await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.208_174_39, 16.373_819_27, node.now())]).await;
    phone.send_text("nonsense".into()).await.unwrap();
    phone.wait("error").await.unwrap();
    ada.fence(48.208_174_39, 16.373_819_27, 100.0, &["enter"]).await;
    let id = ada.raise().await;
    assert_eq!(ada.get(&format!("/v1/emergencies/{id}")).await.status, 200);
    assert_eq!(ada.get(&format!("/v1/people/{}/location", ada.id())).await.status, 200);
    let refused = json!({"fixes": [fix(2, 91.0, 16.0, node.now())]});
    ada.post("/v1/locations", refused).await.ok().unwrap();

    let metrics = get(&node, "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain"), "{:?}", metrics.headers);
    for name in [
        "cima_open_sockets",
        "cima_http_request_seconds",
        "cima_emergencies_opened_total",
        "cima_malformed_frames_total",
        "cima_fixes_rejected_total",
    ] {
        assert!(metrics.text.contains(&format!("\n{name}")), "{name}: {}", metrics.text);
    }
    for secret in ["48.2", "16.37", "metrica", "Metrica", ada.id(), &ada.session.device, &id, "eyJ"] {
        assert!(!metrics.text.contains(secret), "{secret} is in the metrics");
    }
}

/// The REST paths of the contract, each with its methods.
const PATHS: &[(&str, &[&str])] = &[
    ("/v1/accounts", &["post"]),
    ("/v1/sessions", &["post"]),
    ("/v1/sessions/refresh", &["post"]),
    ("/v1/sessions/step-up", &["post"]),
    ("/v1/sessions/current", &["delete"]),
    ("/v1/me", &["get", "patch", "delete"]),
    ("/v1/me/pin", &["delete"]),
    ("/v1/me/duress-pin", &["delete"]),
    ("/v1/me/disclosures", &["get"]),
    ("/v1/me/export", &["get"]),
    ("/v1/devices", &["get"]),
    ("/v1/devices/{id}", &["patch", "delete"]),
    ("/v1/devices/{id}/push", &["get"]),
    ("/v1/devices/{id}/push/{channel}", &["put", "delete"]),
    ("/v1/push", &["get"]),
    ("/.well-known/jwks.json", &["get"]),
    ("/v1/links", &["post", "get"]),
    ("/v1/links/{id}/accept", &["post"]),
    ("/v1/links/{id}", &["patch", "delete"]),
    ("/v1/geofences", &["post", "get"]),
    ("/v1/geofences/{id}", &["get", "put", "delete"]),
    ("/v1/locations", &["post"]),
    ("/v1/people/{user_id}/location", &["get"]),
    ("/v1/people/{user_id}/track", &["get"]),
    ("/v1/people/{user_id}/zones", &["get"]),
    ("/v1/emergencies", &["post", "get"]),
    ("/v1/emergencies/{id}", &["get"]),
    ("/v1/emergencies/{id}/claim", &["post"]),
    ("/v1/emergencies/{id}/unclaim", &["post"]),
    ("/v1/emergencies/{id}/resolve", &["post"]),
    ("/v1/emergencies/{id}/cancel", &["post"]),
    ("/v1/check-ins", &["post", "get"]),
    ("/v1/check-ins/{id}/complete", &["post"]),
    ("/v1/check-ins/{id}", &["delete"]),
    ("/v1/alerts", &["get"]),
    ("/v1/alerts/{id}/ack", &["post"]),
    ("/asyncapi.json", &["get"]),
    ("/livez", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_every_path_of_the_contract_and_no_other() {
    let node = TestNode::start().await;
    let answer = get(&node, "/openapi.json").await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut named = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        named.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let wanted: BTreeSet<String> =
        PATHS.iter().flat_map(|(path, methods)| methods.iter().map(move |m| format!("{m} {path}"))).collect();
    assert_eq!(named, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_documents_works_offline() {
    let node = TestNode::start().await;
    let page = get(&node, "/docs/").await;
    assert_eq!(page.status, 200);
    assert_eq!(get(&node, "/docs").await.status, 200, "with and without the slash");
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text.contains("//"), "an address of somewhere else: {}", page.text);
    let links: Vec<&str> =
        page.text.split(['"', '\'']).filter(|t| t.ends_with(".js") || t.ends_with(".css")).collect();
    assert!(!links.is_empty(), "{}", page.text);
    for link in links {
        let file = get(&node, &format!("/docs/{}", link.trim_start_matches("./"))).await;
        assert_eq!(file.status, 200, "{link}");
    }
    let starts = get(&node, "/docs/swagger-initializer.js").await;
    assert!(starts.text.contains("/openapi.json") && !starts.text.contains("https://"), "{}", starts.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_a_problem_and_no_answer_is_stored() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    for path in ["/", "/v1", "/v1/nothing", "/v2/me", "/v1/me/", "/v1/emergencies/x/dance"] {
        let answer = ada.raw("GET", path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    for (method, path) in [
        ("POST", "/v1/me"),
        ("GET", "/v1/accounts"),
        ("DELETE", "/v1/alerts"),
        ("PUT", "/livez"),
        ("POST", "/v1/stream"),
    ] {
        let answer = ada.raw(method, path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"), "{method} {path}");
        assert!(
            !answer.header("allow").is_empty(),
            "{method} {path} says what it takes: {:?}",
            answer.headers
        );
    }
    let plain = ada.raw("GET", "/v1/stream", "").await;
    assert!((400..500).contains(&plain.status), "{plain:?}");
    plain.code();
    let (refused, answered) = (get(&node, "/v1/me").await, ada.raw("GET", "/v1/me", "").await);
    assert_eq!((refused.status, answered.status), (401, 200));
    for answer in [refused, answered, get(&node, "/readyz").await] {
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let keys = get(&node, "/.well-known/jwks.json").await;
    assert!(keys.header("cache-control").starts_with("public"), "who checks tokens may keep the keys");
}

/// Reads to the end of a stream: the frames, and the code it was closed with.
async fn to_the_end(socket: &mut Socket) -> (Vec<Value>, u16) {
    let (mut frames, mut code) = (Vec::new(), 0);
    loop {
        match tokio::time::timeout(cima::client::DEADLINE, socket.hear()).await.expect("an end in time") {
            Heard::Frame(frame) => frames.push(frame),
            Heard::Closed(closed) => code = closed,
            Heard::Gone => return (frames, code),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_every_socket_and_everything_goes_on_after_it() {
    let mut node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let (mut phone, mut contact) = (ada.stream().await, bo.stream().await);
    let sent: Vec<Value> = (1..=120).map(|n| fix(n, 48.2, 16.0 + n as f64 / 1000.0, node.now())).collect();
    send_acked(&mut phone, &sent).await;
    let id = ada.raise().await;
    let alert = |f: &Value| f["type"] == "alert" && f["kind"] == "emergency" && f["cursor"].is_i64();
    let head = contact.wait_for("the alert", alert).await.unwrap()["cursor"].clone();
    let reads = [
        (&ada, format!("/v1/people/{}/track?limit=1000", ada.id())),
        (&bo, format!("/v1/people/{}/location", ada.id())),
        (&bo, format!("/v1/emergencies/{id}")),
        (&bo, "/v1/alerts".to_owned()),
        (&ada, "/v1/links?role=subject".to_owned()),
        (&ada, "/v1/me".to_owned()),
    ];
    let mut before = Vec::new();
    for (who, path) in &reads {
        before.push(who.get(path).await.ok().unwrap());
    }

    let api = node.api.clone();
    let stopping = async {
        let frames = frames_until(&mut phone, |f| f["type"] == "drain").await;
        // The contact has not answered its close yet: the node is there, and takes nobody new.
        let ready = raw(&api, "GET", "/readyz", &[], "").await;
        assert_eq!((ready.status, ready.json()), (503, json!({"ready": false})));
        assert_eq!(refused_upgrade(&api, &ada.session.access).await, 503);
        (frames.last().cloned(), to_the_end(&mut phone).await.1, to_the_end(&mut contact).await)
    };
    let (clean, (drain, code, (frames, other))) = tokio::join!(node.stop(), stopping);
    assert!(clean, "everything ended in time");
    assert!(drain.is_some_and(|d| d["after_s"].is_u64()));
    assert_eq!((code, other), (1012, 1012));
    assert_eq!(frames.last().map(|f| &f["type"]), Some(&json!("drain")));

    node.start_again().await;
    let (ada, bo) = (ada.on(&node), bo.on(&node));
    for ((who, path), before) in reads.iter().zip(before) {
        assert_eq!(who.on(&node).get(path).await.ok().unwrap(), before, "{path}");
    }
    let mut phone = ada.api.stream(&ada.session.access).await.unwrap();
    assert_eq!(next_frame(&mut phone).await["last_seq"], 120);
    assert_eq!(next_frame(&mut phone).await["emergency"]["id"], json!(id), "the open one");
    let mut contact = bo.api.stream(&bo.session.access).await.unwrap();
    assert_eq!(next_frame(&mut contact).await["cursor"], head);
    send_acked(&mut phone, &[fix(121, 48.2, 16.4, node.now())]).await;
    phone.send(&json!({"type": "resolve", "emergency": id})).await.unwrap();
    let ended = contact.wait_for("the end", |f| f["type"] == "alert" && f["cursor"].is_i64()).await.unwrap();
    assert_eq!(ended["cursor"].as_i64(), head.as_i64().map(|n| n + 1), "no gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_a_moment_ago_holds_no_stop_up() {
    let mut node = TestNode::start().await;
    let ada = node.person("Ada").await;
    ada.fence(48.2, 16.4, 100.0, &["enter"]).await;
    let backfill = json!({"fixes": [fix(1, 48.2, 16.4, node.now())]});
    assert_eq!(ada.post("/v1/locations", backfill).await.body["accepted"], 1);
    assert!(node.stop().await, "everything ended in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_is_synced_in_files() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let mut phone = ada.stream().await;
    send_acked(&mut phone, &[fix(1, 48.2, 16.4, node.now())]).await;
    let stores = node.node.as_ref().unwrap().stores();
    let durability = stores.durability().await.unwrap();
    assert!(durability.on_disk && durability.settings.contains("synchronous=2"), "{durability:?}");
    assert!(durability.settings.contains("journal_mode=wal"), "{durability:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_on_the_machine_can_read_what_is_in_files() {
    use std::os::unix::fs::PermissionsExt;
    let node = TestNode::start().await;
    node.person("Ada").await;
    for entry in std::fs::read_dir(node.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        let empty = entry.metadata().unwrap().len() == 0;
        assert!(mode == 0 || empty, "{:?} is open to others: {mode:o}", entry.file_name());
    }
}

fn cima(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cima"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in settings_of_the_source() {
        command.env_remove(format!("CIMA_{}", name.to_uppercase()));
    }
    command
}

/// The settings, by the names of their fields, and whether each is a switch without a value.
fn settings_of_the_source() -> Vec<(&'static str, bool)> {
    let source = include_str!("../../src/config.rs");
    let fields = source.lines().filter(|l| l.ends_with(','));
    let fields = fields.filter_map(|l| l.strip_prefix("    pub ")?.split_once(": "));
    // One that is flattened is no setting itself.
    let settings = fields.filter(|(_, kind)| !kind.ends_with("Config,"));
    let names: Vec<_> = settings.map(|(name, kind)| (name, kind == "bool,")).collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_help_shows_every_setting_with_its_variable() {
    let output = cima(&["serve", "--help"]).output().unwrap();
    let help = shown(&output);
    assert!(output.status.success(), "{help}");
    for (name, switch) in settings_of_the_source() {
        let (flag, variable) =
            (format!("--{}", name.replace('_', "-")), format!("CIMA_{}", name.to_uppercase()));
        let end = if switch { "\n" } else { " <" };
        assert!(help.contains(&format!("{flag}{end}")), "{flag}: {help}");
        // A value that may hold a password is not shown.
        let shown = [format!("[env: {variable}="), format!("[env: {variable}]")];
        assert!(shown.iter().any(|line| help.contains(line)), "{variable}: {help}");
    }
    let output = cima(&["--help"]).output().unwrap();
    let help = shown(&output);
    for command in ["serve", "doctor", "demo", "replay", "healthcheck"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    let wrong = cima(&["serve", "--no-such-flag"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", shown(&wrong));
}

#[test]
fn a_flag_wins_over_the_environment() {
    let (by_flag, by_env) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut doctor = cima(&["doctor", "--listen", "127.0.0.1:0"]);
    doctor.env("CIMA_DATA_DIR", by_env.path());
    let output = doctor.output().unwrap();
    assert!(shown(&output).contains(by_env.path().to_str().unwrap()), "{}", shown(&output));
    let output = doctor.arg("--data-dir").arg(by_flag.path()).output().unwrap();
    let said = shown(&output);
    assert!(
        said.contains(by_flag.path().to_str().unwrap()) && !said.contains(by_env.path().to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn the_doctor_is_content_with_an_empty_folder_and_says_what_is_wrong_elsewhere() {
    let folder = TempDir::new().unwrap();
    let healthy = folder.path().join("new");
    let doctor = |dir: &std::path::Path, listen: &str| {
        cima(&["doctor", "--listen", listen, "--data-dir"]).arg(dir).output().unwrap()
    };
    let output = doctor(&healthy, "127.0.0.1:0");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert!(shown(&output).contains("cima can run here."), "{}", shown(&output));
    assert!(shown(&output).contains("synchronous=2"), "{}", shown(&output));

    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let output = doctor(&file, "127.0.0.1:0");
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = doctor(&healthy, &busy.local_addr().unwrap().to_string());
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains("BAD  address"), "{}", shown(&output));
}

/// A server in a process of its own, which does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, which is what the test wants.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_terminate_says_goodbye_and_exits_with_0() {
    let folder = TempDir::new().unwrap();
    let mut command = cima(&["serve", "--listen", "127.0.0.1:0", "--drain-s", "5"]);
    command.args(["--password-memory-kib", "64", "--data-dir"]).arg(folder.path());
    let mut server = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    // Ends with the process if it never says it.
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("cima listens on http://").unwrap_or_else(|| panic!("{line}"));
    let ready = cima(&["healthcheck", "--listen", addr]).output().unwrap();
    assert_eq!(ready.status.code(), Some(0), "{}", shown(&ready));

    let api = Api::new(format!("http://{addr}")).unwrap();
    let ada = api.sign_up("ada", "Ada").await.unwrap();
    let mut socket = api.stream(&ada.access).await.unwrap();
    assert_eq!(next_frame(&mut socket).await["last_seq"], 0);
    send_acked(&mut socket, &[fix(1, 48.2, 16.4, cima::clock::Clock::system().now())]).await;
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let (frames, code) = to_the_end(&mut socket).await;
    assert_eq!((frames.last().map(|f| f["type"].clone()), code), (Some(json!("drain")), 1012));
    // The socket is closed; what is left of the stop has a deadline of the server's own.
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let gone = cima(&["healthcheck", "--listen", addr]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1), "{}", shown(&gone));
}
