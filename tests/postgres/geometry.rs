//! What the tracker finds in memory is what PostGIS finds.
//!
//! Polygons are `geometry` in lon/lat, because the edges of GeoJSON (RFC 7946) are straight there and those of
//! `geography` are great circles: `ST_Covers`. Circles are geodesic: `ST_DWithin` on `geography`. The two may differ
//! only within [`TOLERANCE_M`] of an edge. A micrometre: a degree near 180 has steps of 3 nm in a double, the products of
//! either point-in-polygon rule round at a few of them, and both geodesics are good to 15 nm (Karney 2013) of which
//! PostGIS rounds away ten; what is left is for radii of a thousand kilometres. No receiver knows where it is to a metre.

use crate::shapes::{around, near_edge, shape};
use crate::{count, database, seed};
use cima::geo::{Point, RawShape, Shape};
use cima_rig::dice::Dice;
use sqlx::{PgConnection, query_scalar};

/// Nearer to an edge than this, the two may see it differently.
const TOLERANCE_M: f64 = 1e-6;
const PAIRS: usize = 100_000;
/// Pairs asked in one statement, and points tried on each shape.
const BATCH: usize = 2_000;
const POINTS: usize = 20;

async fn in_postgis(db: &mut PgConnection, shapes: &[Shape], pairs: &[(usize, Point)]) -> Vec<bool> {
    let texts: Vec<String> = shapes.iter().map(|s| serde_json::to_string(s.raw()).unwrap()).collect();
    let number: Vec<i32> = pairs.iter().map(|(shape, _)| *shape as i32 + 1).collect();
    let lon: Vec<f64> = pairs.iter().map(|(_, point)| point.lon()).collect();
    let lat: Vec<f64> = pairs.iter().map(|(_, point)| point.lat()).collect();
    query_scalar(
        "WITH shapes AS MATERIALIZED (
             SELECT n, shape, CASE WHEN shape ->> 'type' <> 'Circle'
                 THEN ST_SetSRID(ST_GeomFromGeoJSON(shape::text), 4326) END AS area
             FROM unnest($1::jsonb[]) WITH ORDINALITY AS s (shape, n))
         SELECT CASE WHEN s.area IS NULL
             THEN ST_DWithin(
                 ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326)::geography,
                 ST_SetSRID(ST_MakePoint((shape #>> '{center,0}')::float8, (shape #>> '{center,1}')::float8), 4326)::geography,
                 (shape ->> 'radius_m')::float8)
             ELSE ST_Covers(s.area, ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326)) END
         FROM unnest($2::int[], $3::float8[], $4::float8[]) WITH ORDINALITY AS p (shape_n, lon, lat, n)
         JOIN shapes s ON s.n = p.shape_n ORDER BY p.n",
    )
    .bind(texts)
    .bind(number)
    .bind(lon)
    .bind(lat)
    .fetch_all(db)
    .await
    .unwrap()
}

/// How often something was seen, so that a generator that misses its point is seen too.
#[derive(Default, Debug)]
struct Seen {
    pairs: usize,
    inside: usize,
    near: usize,
    circles: usize,
    differ: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_postgis_agree() {
    let pairs = count(PAIRS);
    let mut r = Dice::new(seed());
    let fresh = database::fresh().await;
    let mut db = fresh.connect().await;
    let mut seen = Seen::default();
    while seen.pairs < pairs {
        let shapes: Vec<Shape> = (0..BATCH / POINTS).map(|_| shape(&mut r)).collect();
        let point = |r: &mut Dice, n: usize| match n % 2 {
            0 => near_edge(r, &shapes[n / POINTS], 10.0 * TOLERANCE_M),
            _ => around(r, &shapes[n / POINTS]),
        };
        let asked: Vec<(usize, Point)> = (0..BATCH).map(|n| (n / POINTS, point(&mut r, n))).collect();
        let answers = in_postgis(&mut db, &shapes, &asked).await;
        assert_eq!(answers.len(), asked.len());
        for ((n, point), answer) in asked.iter().zip(answers) {
            let shape = &shapes[*n];
            let placed = shape.place(*point, 1.0);
            seen.pairs += 1;
            seen.inside += usize::from(placed.inside);
            seen.near += usize::from(placed.edge_m <= 10.1 * TOLERANCE_M);
            seen.circles += usize::from(matches!(shape.raw(), RawShape::Circle { .. }));
            if placed.inside != answer {
                seen.differ += 1;
                let (lat, lon) = (point.lat(), point.lon());
                assert!(
                    placed.edge_m <= TOLERANCE_M,
                    "PostGIS says {answer} at {lat} {lon}, {} m from the edge of {}",
                    placed.edge_m,
                    serde_json::to_string(shape.raw()).unwrap()
                );
            }
        }
    }
    eprintln!("{seen:?}");
    assert!(seen.near > seen.pairs * 4 / 10, "half of the points are at an edge: {seen:?}");
    assert!(seen.inside > seen.pairs / 5 && seen.inside < seen.pairs * 4 / 5, "{seen:?}");
    assert!(seen.circles > seen.pairs / 10, "{seen:?}");
}

/// A difference beyond the tolerance is found: great circles are not the edges of GeoJSON.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_would_be_seen() {
    let fresh = database::fresh().await;
    let mut db = fresh.connect().await;
    let ring = [[0.0, 50.0], [20.0, 50.0], [20.0, 60.0], [0.0, 60.0], [0.0, 50.0]];
    let raw = RawShape::Polygon { coordinates: vec![ring.iter().map(|v| v.to_vec()).collect()] };
    let shape = Shape::try_from(raw).unwrap();
    let point = Point::new(50.1, 10.0).unwrap();
    let on_great_circles: bool = query_scalar(
        "SELECT ST_Covers(ST_SetSRID(ST_GeomFromGeoJSON($1), 4326)::geography, ST_MakePoint($2, $3)::geography)",
    )
    .bind(serde_json::to_string(shape.raw()).unwrap())
    .bind(point.lon())
    .bind(point.lat())
    .fetch_one(&mut db)
    .await
    .unwrap();
    let placed = shape.place(point, f64::INFINITY);
    assert!(placed.inside && placed.edge_m > 10_000.0 && !on_great_circles);
    assert_eq!(in_postgis(&mut db, &[shape], &[(0, point)]).await, vec![true]);
}
