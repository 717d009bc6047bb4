//! A database of its own for whoever asks, on the private server that `tests/backends.sh` started.

use cima::clock::Clock;
use cima::store::postgres;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, query, query_scalar};
use std::str::FromStr;

const TEMPLATE: &str = "cima_template";

/// The address of a new database that has the schema. It goes with its server.
pub async fn fresh() -> String {
    let mut admin = admin().await;
    query("SELECT pg_advisory_lock(7313)").execute(&mut admin).await.unwrap();
    let known = query_scalar::<_, bool>("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)");
    // Whoever comes first makes the template, under another name until it is whole.
    if !known.bind(TEMPLATE).fetch_one(&mut admin).await.unwrap() {
        let raw = format!("{TEMPLATE}_raw");
        for step in [format!("DROP DATABASE IF EXISTS {raw}"), format!("CREATE DATABASE {raw}")] {
            query(AssertSqlSafe(step)).execute(&mut admin).await.unwrap();
        }
        postgres::migrate(&address(&raw)).await.unwrap();
        let rename = format!("ALTER DATABASE {raw} RENAME TO {TEMPLATE}");
        query(AssertSqlSafe(rename)).execute(&mut admin).await.unwrap();
    }
    let name = format!("cima_{}", cima::id::fresh(&Clock::system()).simple());
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    query(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    address(&name)
}

/// A connection to a database beside cima's.
pub async fn connect(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url).unwrap().connect().await.unwrap()
}

/// A connection to the server, as its superuser.
pub async fn admin() -> PgConnection {
    connect(&server()).await
}

fn server() -> String {
    std::env::var("CIMA_TEST_DATABASE_URL")
        .expect("there is no PostgreSQL: run `tests/backends.sh cargo nextest run`")
}

/// Where a database of that server is.
pub fn address(database: &str) -> String {
    let server = server();
    let (server, _) = server.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{database}")
}
