//! A million zones, and people who move among them: how long the query for the zones around somebody takes.

use crate::{count, database, seed};
use cima::geo::Point;
use cima::store::postgres::ZONES_IN_BOX;
use cima::tracking::ZoneStore;
use cima_rig::dice::Dice;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, PgConnection, query, query_scalar};
use std::time::Duration;
use tokio::time::Instant;

/// The radius and the limit of a person's window.
const WINDOW: (f64, u32) = (2_000.0, 256);
/// Steps of each person, of a kilometre: half way out of a window.
const STEPS: usize = 10;

/// Half of the zones lie anywhere between 0 and 20 degrees east and 40 and 60 north, half within some 20 km of the middles
/// of a hundred towns there: circles of 50 to 500 m, and squares.
async fn generate(db: &mut PgConnection, zones: usize) {
    let sql = "INSERT INTO zones (id, name, shape, area, severity, revision, updated_at)
        SELECT gen_random_uuid(), 'zone ' || n,
            CASE WHEN n % 2 = 0
                THEN jsonb_build_object('type', 'Circle', 'center', jsonb_build_array(x, y), 'radius_m', r)
                ELSE ST_AsGeoJSON(square)::jsonb END,
            square, 'info', 1, now()
        FROM (SELECT n, x, y, r,
                  ST_MakeEnvelope(x - r / 60000, y - r / 110000, x + r / 60000, y + r / 110000, 4326) AS square
              FROM (SELECT n, 50 + 450 * random() AS r,
                        CASE WHEN n % 4 < 2 THEN 20 * random() ELSE town % 10 * 2 + 1 + (random() - 0.5) * 0.5 END AS x,
                        CASE WHEN n % 4 < 2 THEN 40 + 20 * random() ELSE 41 + town / 10 * 2 + (random() - 0.5) * 0.36 END AS y
                    FROM (SELECT n, n / 4 % 100 AS town FROM generate_series(1, $1) n) numbered) placed) drawn";
    query(sql).bind(i32::try_from(zones).unwrap()).execute(&mut *db).await.unwrap();
    query("ANALYZE zones").execute(db).await.unwrap();
}

/// A straight walk from a town or from anywhere.
fn walk(random: &mut Dice) -> Vec<Point> {
    let town = |of: usize| 1.0 + 2.0 * of as f64;
    let (lon, lat) = if random.below(2) == 0 {
        (town(random.below(10)), 40.0 + town(random.below(10)))
    } else {
        (random.between(1.0, 19.0), random.between(41.0, 59.0))
    };
    let (sin, cos) = random.between(0.0, std::f64::consts::TAU).sin_cos();
    let step = |n: usize| {
        let km = n as f64;
        Point::new(lat + km * cos / 111.0, lon + km * sin / 65.0).unwrap()
    };
    (0..STEPS).map(step).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_among_a_million_zones() {
    let (zones, people) = (count(1_000_000), count(1_000));
    let fresh = database::fresh().await;
    let mut db = fresh.connect().await;
    generate(&mut db, zones).await;
    let store = fresh.open().await.main;
    let mut random = Dice::new(seed());
    let walks: Vec<Vec<Point>> = (0..people).map(|_| walk(&mut random)).collect();

    // As many at a time as a node loads.
    let look = |walks: Vec<Vec<Point>>| {
        let store = &store;
        async move {
            let mut took: Vec<(Duration, usize)> = Vec::new();
            for point in walks.into_iter().flatten() {
                let start = Instant::now();
                let found = store.zones_near(point, WINDOW.0, WINDOW.1).await.unwrap();
                took.push((start.elapsed(), found.len()));
            }
            took
        }
    };
    let parts = walks.chunks(people.div_ceil(4)).map(<[_]>::to_vec);
    let mut took: Vec<(Duration, usize)> = join_all(parts.map(look)).await.concat();
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].0;
    let found: usize = took.iter().map(|(_, found)| found).sum();
    println!(
        "{zones} zones, {} looks, {:.1} zones each, {} at most: p50 {:?}, p99 {:?}, longest {:?}",
        took.len(),
        found as f64 / took.len() as f64,
        took.iter().map(|(_, found)| found).max().unwrap(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(found > took.len(), "people meet zones");

    for step in [
        "SET plan_cache_mode = force_generic_plan".to_owned(),
        format!("PREPARE asked (float8, float8, float8, float8) AS {ZONES_IN_BOX}"),
    ] {
        query(AssertSqlSafe(step)).execute(&mut db).await.unwrap();
    }
    let explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) EXECUTE asked (10.97, 50.98, 11.03, 51.02)";
    let plan: Vec<String> = query_scalar(explain).fetch_all(&mut db).await.unwrap();
    println!("{}", plan.join("\n"));
    assert!(plan.join("\n").contains("zones_area"), "{plan:?}");
}
