//! A day of history in one answer: lines, CSV and GPX, simplified, from either end; and fixes that carry no number.

use crate::harness::{Person, Raw, TestNode, send_acked};
use cima::client::fix;
use cima::clock::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const FIXES: i64 = 2_500;

/// A walk with a stay in it, a fix each second, the last one now.
fn walk(now: Timestamp) -> Vec<Value> {
    let at = |n: i64| now - Duration::from_secs((FIXES - n).unsigned_abs());
    let metres = |n: i64| if n < 1_000 { n } else { (n - 500).max(1_000) };
    let noise = |n: i64| (n * 7 % 5 - 2) as f64 * 1e-6;
    (1..=FIXES).map(|n| fix(n, 48.2 + metres(n) as f64 * 1e-5 + noise(n), 16.37, at(n))).collect()
}

async fn track(person: &Person, of: &Person, query: &str) -> Raw {
    person.raw("GET", &format!("/v1/people/{}/track?{query}", of.id()), "").await
}

fn lines(answer: &Raw) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/geo+json"), "{answer:?}");
    answer.json()["features"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_comes_in_one_answer_and_simplified() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    let sent = walk(node.now());
    let taken = ada.post("/v1/locations", json!({"fixes": sent})).await.ok().unwrap();
    assert_eq!(taken["accepted"], FIXES);

    let whole = lines(&track(&ada, &ada, "format=lines").await);
    let places = whole[0]["geometry"]["coordinates"].as_array().unwrap();
    let times = whole[0]["properties"]["times"].as_array().unwrap();
    assert_eq!((whole.len(), places.len(), times.len()), (1, sent.len(), sent.len()));
    assert_eq!(whole[0]["properties"]["name"], "phone");
    for ((place, at), sent) in places.iter().zip(times).zip(&sent) {
        assert_eq!((&place[0], &place[1], at), (&sent["lon"], &sent["lat"], &sent["fixed_at"]));
    }

    let simple = lines(&track(&ada, &ada, "simplify_m=10").await);
    let kept = simple[0]["geometry"]["coordinates"].as_array().unwrap().len();
    assert_eq!(simple[0]["geometry"]["type"], "LineString");
    assert_eq!(simple[0]["properties"]["fixes"], FIXES);
    assert!((4..30).contains(&kept), "a walk, a stay and a walk are {kept} positions");
    let mut back = lines(&track(&ada, &ada, "format=lines&order=newest").await);
    let reversed = back[0]["geometry"]["coordinates"].as_array_mut().unwrap();
    reversed.reverse();
    assert_eq!(reversed, places);

    let csv = track(&ada, &ada, "format=csv&order=newest").await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{csv:?}");
    let rows: Vec<&str> = csv.text.split("\r\n").collect();
    assert!(rows[0].starts_with("device,seq,fixed_at,received_at,lat,lon,"));
    assert_eq!((rows.len(), rows[sent.len() + 1]), (sent.len() + 2, ""));
    assert!(rows[1].starts_with(&format!("{},{FIXES},", ada.session.device)), "{}", rows[1]);
    let gpx = track(&ada, &ada, "format=gpx&simplify_m=10").await;
    assert_eq!(
        (gpx.header("content-type"), gpx.text.matches("<trkpt").count()),
        ("application/gpx+xml", kept)
    );
    assert!(gpx.text.ends_with("</trkseg></trk></gpx>"));

    // A contact is shown what the grant covers, and that is written down; without one all is as if nothing were there.
    let hidden = track(&bo, &ada, "format=lines").await;
    assert_eq!((hidden.status, hidden.code().as_str()), (404, "not_available"));
    ada.raise().await;
    let shown = lines(&track(&bo, &ada, "format=lines").await);
    let count = shown[0]["properties"]["fixes"].as_u64().unwrap();
    assert!((590..=602).contains(&count), "ten minutes before it: {count}");
    let disclosed = ada.get("/v1/me/disclosures").await.body;
    assert_eq!(disclosed["items"][0]["fixes"], count, "{disclosed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_points_come_from_either_end() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let sent: Vec<Value> = walk(node.now()).split_off(2_250);
    ada.post("/v1/locations", json!({"fixes": sent})).await.ok().unwrap();
    for (order, mut wanted) in [("oldest", sent.clone()), ("newest", sent)] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = track(&ada, &ada, &format!("order={order}&limit=70{after}")).await.json();
            let features = page["features"].as_array().unwrap();
            seen.extend(features.iter().map(|f| f["properties"]["seq"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        if order == "newest" {
            wanted.reverse();
        }
        assert_eq!(seen, wanted.iter().map(|fix| fix["seq"].clone()).collect::<Vec<_>>(), "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_named() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    for (query, field) in [
        ("format=points&simplify_m=5", "simplify_m"),
        ("simplify_m=-1", "simplify_m"),
        ("simplify_m=NaN", "simplify_m"),
        ("format=csv&limit=5", "format"),
        ("format=kml", "format"),
        ("order=random", "order"),
    ] {
        let refused = track(&ada, &ada, query).await;
        assert_eq!(
            (refused.status, refused.json()["errors"][0]["field"].clone()),
            (400, json!(field)),
            "{query}"
        );
    }
    assert_eq!(lines(&track(&ada, &ada, "format=lines").await).len(), 0);
    let gpx = track(&ada, &ada, "format=gpx").await;
    assert!(gpx.status == 200 && !gpx.text.contains("<trk>") && gpx.text.ends_with("</gpx>"), "{gpx:?}");
    ada.post("/v1/locations", json!({"fixes": [fix(1, 1.0, 2.0, node.now())]})).await.ok().unwrap();
    let one = lines(&track(&ada, &ada, "format=lines").await);
    assert_eq!(one[0]["geometry"], json!({"type": "Point", "coordinates": [2.0, 1.0]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_fix_may_have_no_number() {
    let node = TestNode::start().await;
    let ada = node.person("Ada").await;
    let unnumbered = |second: u64, lat: f64| {
        let mut fix = fix(1, lat, 16.37, node.now() - Duration::from_secs(second));
        fix.as_object_mut().unwrap().remove("seq");
        fix
    };
    let backlog: Vec<Value> = (1..=20).map(|n| unnumbered(n, 48.0 + n as f64 * 1e-3)).collect();
    let first = ada.post("/v1/locations", json!({"fixes": backlog})).await.body;
    assert_eq!(
        (&first["accepted"], &first["duplicates"], &first["rejected"]),
        (&json!(20), &json!(0), &json!([]))
    );
    let again = ada.post("/v1/locations", json!({"fixes": backlog})).await.body;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(20)));

    // The stream counts on its own, and what it has sent comes again without its number.
    let mut socket = ada.stream().await;
    let numbered = fix(7, 48.5, 16.37, node.now());
    send_acked(&mut socket, std::slice::from_ref(&numbered)).await;
    let mut bare = numbered;
    bare.as_object_mut().unwrap().remove("seq");
    let again = ada.post("/v1/locations", json!({"fixes": [bare]})).await.body;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(1)));
    let mut next = ada.api.stream(&ada.session.access).await.unwrap();
    assert_eq!(next.wait("welcome").await.unwrap()["last_seq"], 7);

    let track = track(&ada, &ada, "limit=1000").await.json();
    let features = track["features"].as_array().unwrap();
    assert_eq!(features.len(), 21);
    assert!(features.iter().all(|f| f["properties"].get("seq").is_none() || f["properties"]["seq"] == 7));
    let seen = ada.get(&format!("/v1/people/{}/location", ada.id())).await.body;
    assert_eq!((&seen["fix"]["lat"], &seen["fix"]["seq"]), (&json!(48.5), &json!(7)));
    // What its uploader sends later is newer.
    ada.post("/v1/locations", json!({"fixes": [unnumbered(0, 48.6)]})).await.ok().unwrap();
    let seen = ada.get(&format!("/v1/people/{}/location", ada.id())).await.body;
    assert_eq!((&seen["fix"]["lat"], seen["fix"].get("seq")), (&json!(48.6), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_emergency_no_number_refuses_a_place() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts", "emergency_location"]).await;
    ada.raise().await;
    for (n, number) in
        [json!(0), json!(-4), json!("12"), json!(1_784_803_200_000_000_000_i64)].into_iter().enumerate()
    {
        // Each thing is named once on a socket.
        let mut socket = ada.stream().await;
        let mut odd = fix(1, 48.3 + n as f64 * 0.1, 16.5, node.now());
        odd["seq"] = number.clone();
        socket
            .send(&cima::client::fixes(&[
                odd.clone(),
                fix(n as i64 + 1, 48.0, 16.5, node.now() - Duration::from_secs(60)),
            ]))
            .await
            .unwrap();
        let noted = socket.wait("notes").await.unwrap();
        assert_eq!((&noted["seq"], &noted["notes"][0]["field"]), (&Value::Null, &json!("seq")), "{number}");
        let acked = socket.wait("acked").await.unwrap();
        assert_eq!((&acked["seq"], &acked["ranges"]), (&json!(n + 1), &json!([[n + 1, n + 1]])), "{number}");
        let trail = track(&bo, &ada, "").await.json();
        let shown = |f: &Value| f["geometry"]["coordinates"][1] == odd["lat"];
        assert!(trail["features"].as_array().unwrap().iter().any(shown), "{number}: {trail}");
    }
}
