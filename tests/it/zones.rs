//! Public zones end to end: the operator imports a file, and whoever is in a zone or enters one is told.

use crate::harness::{Person, TestNode, arguments, send_acked};
use cima::client::fix;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

const PARK: (f64, f64) = (48.2100, 16.3800);
/// 5.5 km north of the park.
const LAKE: (f64, f64) = (48.2600, 16.3800);
/// In neither.
const ROAD: (f64, f64) = (48.2300, 16.3800);

pub(crate) fn circle(id: &str, name: &str, (lat, lon): (f64, f64)) -> Value {
    let properties = json!({"name": name, "severity": "warning", "radius_m": 200});
    let geometry = json!({"type": "Point", "coordinates": [lon, lat]});
    json!({"type": "Feature", "id": id, "properties": properties, "geometry": geometry})
}

fn file(node: &TestNode, features: &[Value]) -> PathBuf {
    let path = node.folder.path().join("zones.geojson");
    let collection = json!({"type": "FeatureCollection", "features": features});
    std::fs::write(&path, collection.to_string()).unwrap();
    path
}

/// Runs `cima zones` beside the node.
async fn zones(node: &TestNode, arguments_: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cima"));
    command.arg("zones").args(arguments_).args(arguments(&node.folder).await);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) async fn import(node: &TestNode, features: &[Value]) {
    let file = file(node, features);
    let done = zones(node, &["import", file.to_str().unwrap()]).await;
    assert!(done.status.success(), "{done:?}");
}

fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).unwrap()
}

/// The names of the zones that somebody was told of, in the order of the inbox.
async fn told(person: &Person) -> Vec<String> {
    let alerts = person.get("/v1/alerts?limit=1000").await.ok().unwrap()["items"].clone();
    let alerts = alerts.as_array().unwrap().iter().filter(|alert| alert["kind"] == "zone");
    alerts.map(|alert| alert["params"]["zone"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn until_told(person: &Person, names: &[&str]) {
    let waiting = async {
        while told(person).await != names {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(cima::client::DEADLINE, waiting).await.is_err() {
        assert_eq!(told(person).await, names);
    }
}

/// Streams one fix of now at a place.
struct Phone<'n> {
    node: &'n TestNode,
    socket: cima::client::Socket,
    seq: i64,
}

impl<'n> Phone<'n> {
    async fn of(node: &'n TestNode, person: &Person, seq: i64) -> Self {
        Self { node, socket: person.stream().await, seq }
    }
    async fn is_at(&mut self, (lat, lon): (f64, f64)) {
        self.seq += 1;
        send_acked(&mut self.socket, &[fix(self.seq, lat, lon, self.node.now())]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enters_a_zone_is_told_and_nobody_else() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "zones", "live_location"]).await;
    let mut phone = Phone::of(&node, &ada, 0).await;
    phone.is_at(PARK).await;
    import(&node, &[circle("park", "the park", PARK), circle("lake", "the lake", LAKE)]).await;
    until_told(&ada, &["the park"]).await;

    // On a socket of its own: on that of the fixes the alert may come before their ack.
    let mut screen = ada.stream().await;
    phone.is_at(ROAD).await;
    phone.is_at(LAKE).await;
    let alert = screen.wait_for("the lake", |frame| frame["params"]["zone"] == "the lake").await.unwrap();
    assert_eq!((&alert["kind"], &alert["template"]), (&json!("zone"), &json!("zone.enter")));
    assert_eq!((&alert["severity"], &alert["title"]), (&json!("warning"), &json!("You are in the lake")));
    assert_eq!((&alert["subject"], alert.get("geofence")), (&json!(ada.id()), None));
    // Back at once is the same visit; what follows shows that nothing of it is on its way.
    phone.is_at(PARK).await;
    let works = circle("works", "the works", PARK);
    import(&node, &[circle("park", "the park", PARK), works]).await;
    until_told(&ada, &["the park", "the lake", "the works"]).await;
    assert_eq!(told(&bo).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_nobody_again_and_a_change_does() {
    let mut node = TestNode::start().await;
    import(&node, &[circle("park", "the park", PARK)]).await;
    let ada = node.person("Ada").await;
    let mut phone = Phone::of(&node, &ada, 0).await;
    phone.is_at(PARK).await;
    until_told(&ada, &["the park"]).await;
    drop(phone);
    assert!(node.stop().await);

    node.start_again().await;
    let ada = ada.on(&node);
    let mut phone = Phone::of(&node, &ada, 1).await;
    phone.is_at(PARK).await;
    import(&node, &[circle("park", "the closed park", PARK)]).await;
    until_told(&ada, &["the park", "the closed park"]).await;
    phone.is_at(ROAD).await;
    phone.is_at(PARK).await;
    assert!(zones(&node, &["remove", "--all"]).await.status.success());
    import(&node, &[circle("fair", "the fair", PARK)]).await;
    until_told(&ada, &["the park", "the closed park", "the fair"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fix_tells_nobody_that_they_are_in_a_zone() {
    let node = TestNode::start().await;
    import(&node, &[circle("park", "the park", PARK), circle("lake", "the lake", LAKE)]).await;
    let ada = node.person("Ada").await;
    let mut phone = Phone::of(&node, &ada, 2).await;
    let before = |s| node.now() - Duration::from_secs(s);
    let late = [fix(1, PARK.0, PARK.1, before(400)), fix(2, ROAD.0, ROAD.1, before(200))];
    send_acked(&mut phone.socket, &late).await;
    phone.is_at(LAKE).await;
    until_told(&ada, &["the lake"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_stores_what_is_a_zone_and_reports_the_rest() {
    let node = TestNode::start().await;
    let line = json!({"type": "LineString", "coordinates": [[16, 48], [17, 48]]});
    let bad = json!({"type": "Feature", "id": "wall", "properties": {"name": "wall"}, "geometry": line});
    let all = [
        circle("park", "the park", PARK),
        bad,
        circle("lake", "the lake", LAKE),
        circle("park", "again", PARK),
    ];
    let path = file(&node, &all);
    let path = path.to_str().unwrap();
    let listed = |flags: &'static [&'static str]| {
        let node = &node;
        async move {
            let done = zones(node, &[&["list"], flags].concat()).await;
            assert!(done.status.success(), "{done:?}");
            text(&done.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
        }
    };

    let dry = zones(&node, &["import", path, "--dry-run"]).await;
    assert_eq!(dry.status.code(), Some(1));
    assert!(text(&dry.stdout).contains("2 zones could be stored, 2 features are refused"), "{dry:?}");
    assert_eq!(listed(&[]).await, Vec::<String>::new());

    let done = zones(&node, &["import", path]).await;
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text(&done.stdout).contains("2 zones are new or changed, 0 were there already, 2 features"),
        "{done:?}"
    );
    let told = text(&done.stderr);
    assert!(told.contains("feature 1 (id wall) is refused: a LineString has no inside"), "{told}");
    assert!(told.contains("feature 3 (id park) is refused: an earlier feature is the same zone"), "{told}");
    let again = zones(&node, &["import", path]).await;
    assert!(text(&again.stdout).contains("0 zones are new or changed, 2 were there already"), "{again:?}");

    assert_eq!(listed(&[]).await.len(), 2);
    let near = listed(&["--near", "48.2601,16.38"]).await;
    assert!(near.len() == 1 && near[0].ends_with("\twarning\t1\tcircle of 200 m\tthe lake"), "{near:?}");
    let lake = near[0].split('\t').next().unwrap();
    assert!(zones(&node, &["remove", lake]).await.status.success());
    let gone = zones(&node, &["remove", lake]).await;
    assert!(!gone.status.success() && text(&gone.stderr).contains("1 of them were not there"), "{gone:?}");

    std::fs::write(path, r#"{"type": "FeatureCollection", "features": [{"type""#).unwrap();
    let cut = zones(&node, &["import", path]).await;
    assert!(!cut.status.success() && text(&cut.stderr).contains("could not be read to its end"), "{cut:?}");
    let none = zones(&node, &["import", "nowhere.geojson"]).await;
    assert!(!none.status.success() && text(&none.stderr).contains("cannot be opened"), "{none:?}");
}
