//! Postgres: each test has a database of its own on the private server of the test run.

use crate::{Backend, Stores, World};
use async_trait::async_trait;
use cima::clock::Clock;
use cima::store::postgres;
use cima_rig::database;
use sqlx::{Connection, PgConnection, query_scalar};
use std::sync::Mutex;
use std::time::Duration;

/// A database of its own.
#[derive(Default)]
pub(crate) struct Postgres {
    url: tokio::sync::OnceCell<String>,
    last: Mutex<Option<postgres::Stores>>,
}

/// Connections of a database that are doing something.
async fn busy(admin: &mut PgConnection, database: &str) -> i64 {
    let busy = query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = $1 AND backend_type = 'client backend' AND state <> 'idle'",
    );
    busy.bind(database).fetch_one(admin).await.unwrap()
}

#[async_trait]
impl Backend for Postgres {
    async fn open(&self, clock: Clock) -> Stores {
        let url = self.url.get_or_init(database::fresh).await;
        let opened = postgres::open(url, clock).await.unwrap();
        let stores = Stores {
            identity: opened.main.clone(),
            trust: opened.main.clone(),
            tracking: opened.main.clone(),
            alerts: opened.main.clone(),
            push: opened.main.clone(),
            zones: opened.main.clone(),
            time: opened.main.clone(),
            fixes: opened.fixes.clone(),
        };
        *self.last.lock().unwrap() = Some(opened);
        stores
    }

    async fn close(&self) {
        let last = self.last.lock().unwrap().take();
        last.unwrap().main.close().await;
    }

    async fn settle(&self) {
        let name = self.url.get().and_then(|url| url.rsplit('/').next()).unwrap();
        let mut admin = database::admin().await;
        let settled = async { while busy(&mut admin, name).await > 0 {} };
        tokio::time::timeout(Duration::from_secs(10), settled).await.expect("calls that do not end");
        admin.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_leaves_that_is_gone_is_found() {
    crate::ownership::what_a_node_leaves_that_is_gone_is_found(&World::over(Postgres::default()).await).await;
}
