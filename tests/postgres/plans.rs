//! Every question about places is answered by its index, however many rows there are: with a plan made for its values
//! and with the one that is kept for all.

use crate::database;
use cima::store::postgres::ZONES_IN_BOX;
use sqlx::{AssertSqlSafe, PgConnection, query, query_scalar};
use std::fs;
use std::path::Path;

/// Rows, spread over the earth.
const ROWS: i32 = 20_000;

/// The plan of a statement whose values are these.
async fn plan(db: &mut PgConnection, mode: &str, sql: &str, values: &str) -> String {
    let types = "float8, float8, float8, float8";
    for step in [format!("SET plan_cache_mode = {mode}"), format!("PREPARE asked ({types}) AS {sql}")] {
        query(AssertSqlSafe(step)).execute(&mut *db).await.unwrap();
    }
    let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE asked ({values})"));
    let plan: Vec<String> = query_scalar(explain).fetch_all(&mut *db).await.unwrap();
    query("DEALLOCATE asked").execute(db).await.unwrap();
    plan.join("\n")
}

#[tokio::test]
async fn zones_are_found_by_their_index() {
    let fresh = database::fresh().await;
    let mut db = fresh.connect().await;
    query(
        "INSERT INTO zones (id, name, shape, area, severity, revision, updated_at)
         SELECT gen_random_uuid(), 'zone', '{}', ST_MakeEnvelope(x, y, x + 0.01, y + 0.01, 4326), 'info', 1, now()
         FROM (SELECT n * 7919 % 36000 / 100.0 - 180.0 AS x, n * 104729 % 17900 / 100.0 - 90.0 AS y
               FROM generate_series(1, $1) n) places",
    )
    .bind(ROWS)
    .execute(&mut db)
    .await
    .unwrap();
    query("ANALYZE zones").execute(&mut db).await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = plan(&mut db, mode, ZONES_IN_BOX, "16.3, 48.1, 16.4, 48.2").await;
        assert!(plan.contains("zones_area") && !plan.contains("Seq Scan"), "{mode}: {plan}");
    }
    // The same look finds no index where there is none.
    query("DROP INDEX zones_area").execute(&mut db).await.unwrap();
    let without = plan(&mut db, "force_custom_plan", ZONES_IN_BOX, "16.3, 48.1, 16.4, 48.2").await;
    assert!(without.contains("Seq Scan"), "{without}");
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// A new question about places does not come without its plan.
#[test]
fn no_other_question_is_about_places() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/postgres")];
    let asks = ["&&", "<->", "ST_DWithin", "ST_Covers", "ST_Intersects", "ST_Contains", "ST_Within"];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (inner, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
        folders.extend(inner);
        for line in files.iter().flat_map(|path| lines(path)) {
            let sql = line.contains("WHERE") || line.contains("JOIN") || line.contains("AND ");
            if sql && asks.iter().any(|ask| line.contains(ask)) {
                found.push(line.trim().to_owned());
            }
        }
    }
    assert_eq!(found.len(), 1, "one of them has no test of its plan: {found:#?}");
    assert!(ZONES_IN_BOX.contains(found[0].trim_end_matches([';', '"'])), "{found:?}");
}
