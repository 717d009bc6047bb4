//! What the store refuses for good is set aside, and keeps nobody else waiting. An emergency is told all the same.

use crate::harness::{Person, TestNode, raw, send_acked, settings};
use cima::client::{DEADLINE, fix};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, query, query_scalar};
use std::time::Duration;

const HOME: (f64, f64) = (48.2, 16.4);
const AWAY: (f64, f64) = (48.3, 16.4);

/// The node's store, seen from beside it.
enum Beside {
    Files(SqliteConnection),
    Database(PgConnection),
}

impl Beside {
    /// `file` is the one of the embedded store that has the tables in question.
    async fn of(node: &TestNode, file: &str) -> Self {
        let config = settings(&node.folder).await;
        match config.database_url {
            Some(url) => Self::Database(PgConnection::connect(&url).await.unwrap()),
            None => {
                let options = SqliteConnectOptions::new().filename(config.data_dir.join(file));
                let options = options.busy_timeout(Duration::from_secs(10));
                Self::Files(options.connect().await.unwrap())
            }
        }
    }

    /// An id as this store's SQL writes it.
    fn id(&self, id: &str) -> String {
        match self {
            Self::Files(_) => format!("x'{}'", id.replace('-', "")),
            Self::Database(_) => format!("'{id}'::uuid"),
        }
    }

    /// From now on every row for which the condition holds is refused, as a constraint would.
    async fn refuse(&mut self, event: &str, table: &str, condition: &str) {
        match self {
            Self::Files(files) => {
                let trigger = format!(
                    "CREATE TRIGGER refuse BEFORE {event} ON {table} WHEN {condition}
                     BEGIN SELECT RAISE(ABORT, 'refused'); END"
                );
                query(AssertSqlSafe(trigger)).execute(files).await.unwrap();
            }
            Self::Database(database) => {
                let function = format!(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN IF {condition} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$"
                );
                let trigger = format!(
                    "CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
                );
                for step in [function, trigger] {
                    query(AssertSqlSafe(step)).execute(&mut *database).await.unwrap();
                }
            }
        }
    }

    async fn count(&mut self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Files(files) => query_scalar(sql).fetch_one(files).await.unwrap(),
            Self::Database(database) => query_scalar(sql).fetch_one(database).await.unwrap(),
        }
    }

    async fn until(&mut self, sql: &str, count: i64) {
        let end = tokio::time::Instant::now() + DEADLINE;
        while self.count(sql).await != count {
            assert!(tokio::time::Instant::now() < end, "{sql}: {} and not {count}", self.count(sql).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a metric of this process stands at; tests that run beside this one count in it too.
async fn metric(node: &TestNode, series: &str) -> Option<f64> {
    let metrics = raw(&node.api, "GET", "/metrics", &[], "").await.text;
    let line = metrics.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn set_aside(what: &str) -> String {
    format!("cima_set_aside_total{{what=\"{what}\"}}")
}

async fn items(person: &Person, path: &str) -> Vec<Value> {
    person.get(path).await.ok().unwrap()["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_set_aside_is_counted_from_the_start() {
    let node = TestNode::start().await;
    for what in ["delivery", "fix", "transitions", "zones", "emergency", "check_in", "retention"] {
        assert!(metric(&node, &set_aside(what)).await.is_some(), "{what}");
    }
    assert!(metric(&node, "cima_task_deaths_total{task=\"recorder\"}").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_that_is_refused_keeps_nobody_elses_from_the_store() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut beside = Beside::of(&node, "fixes.db").await;
    beside.refuse("INSERT", "fixes", "NEW.seq = 13").await;
    let (mut one, mut other) = (ada.stream().await, bo.stream().await);
    let at = |seq: i64| fix(seq, HOME.0, HOME.1, node.now());
    send_acked(&mut one, &[at(12), at(13), at(14)]).await;
    send_acked(&mut other, &[at(1), at(2), at(3)]).await;
    let of = |person: &Person, beside: &Beside| {
        format!("SELECT count(*) FROM fixes WHERE device_id = {}", beside.id(&person.session.device))
    };
    let (adas, bos) = (of(&ada, &beside), of(&bo, &beside));
    beside.until(&bos, 3).await;
    beside.until(&adas, 2).await;
    assert!(metric(&node, &set_aside("fix")).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transition_that_is_refused_keeps_no_alert_waiting() {
    let node = TestNode::start().await;
    let ((ada, _, _), (cy, dan, _)) = (node.pair(&["alerts"]).await, node.pair(&["alerts"]).await);
    let poisoned = ada.fence(HOME.0, HOME.1, 100.0, &["enter"]).await;
    cy.fence(HOME.0, HOME.1, 100.0, &["enter"]).await;
    let mut beside = Beside::of(&node, "cima.db").await;
    let condition = format!("NEW.geofence_id = {}", beside.id(&poisoned));
    beside.refuse("INSERT", "transitions", &condition).await;
    let mut contact = dan.stream().await;
    for person in [&ada, &cy] {
        let mut phone = person.stream().await;
        let (start, now) = (node.now() - Duration::from_secs(20), node.now());
        send_acked(&mut phone, &[fix(1, AWAY.0, AWAY.1, start), fix(2, HOME.0, HOME.1, now)]).await;
    }
    let heard = |f: &Value| f["type"] == "alert" && f["kind"] == "geofence";
    let alert = contact.wait_for("the other's alert", heard).await.unwrap();
    assert_eq!(alert["subject"], cy.id());
    assert!(metric(&node, &set_aside("transitions")).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_is_refused_keeps_no_other_waiting() {
    let node = TestNode::start().await;
    let (ada, cy) = (node.person("Ada").await, node.person("Cy").await);
    let mut beside = Beside::of(&node, "cima.db").await;
    let condition = format!("NEW.user_id = {}", beside.id(ada.id()));
    beside.refuse("INSERT", "zone_visits", &condition).await;
    crate::zones::import(&node, &[crate::zones::circle("home", "the home", HOME)]).await;
    for person in [&ada, &cy] {
        let mut phone = person.stream().await;
        send_acked(&mut phone, &[fix(1, HOME.0, HOME.1, node.now())]).await;
    }
    crate::zones::until_told(&cy, &["the home"]).await;
    crate::zones::until_told(&ada, &[]).await;
    assert!(metric(&node, &set_aside("zones")).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_whose_words_are_refused_is_told_without_them() {
    let node = TestNode::start_manual().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let mut beside = Beside::of(&node, "cima.db").await;
    let condition = match beside {
        Beside::Files(_) => "NEW.params LIKE '%unspeakable%'",
        Beside::Database(_) => "NEW.params::text LIKE '%unspeakable%'",
    };
    beside.refuse("INSERT", "alerts", condition).await;
    let mut contact = bo.stream().await;
    let raise = json!({"kind": "sos", "message": "unspeakable", "countdown_s": 10});
    let answer = ada.post("/v1/emergencies", raise).await;
    assert_eq!(answer.body["emergency"]["state"], "countdown", "{answer:?}");
    node.clock.advance(Duration::from_secs(10));
    let heard = |f: &Value| f["template"] == "emergency.raised";
    let alert = contact.wait_for("the end of the countdown", heard).await.unwrap();
    assert_eq!(
        (&alert["emergency"], &alert["params"]["message"]),
        (&answer.body["emergency"]["id"], &Value::Null)
    );

    // And one that is raised at once.
    let (cy, dan, _) = node.pair(&["alerts"]).await;
    let mut contact = dan.stream().await;
    let answer = cy.post("/v1/emergencies", json!({"kind": "sos", "message": "unspeakable"})).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    contact.wait_for("the emergency", heard).await.unwrap();
    assert!(metric(&node, &set_aside("emergency")).await >= Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_that_is_refused_is_told_once_all_the_same() {
    let node = TestNode::start_manual().await;
    let ((ada, bo, _), (cy, dan, _)) = (node.pair(&["alerts"]).await, node.pair(&["alerts"]).await);
    let mut due = Vec::new();
    for person in [&ada, &cy] {
        due.push(person.post("/v1/check-ins", json!({"due_in_s": 10, "grace_s": 0})).await.ok().unwrap());
    }
    let mut beside = Beside::of(&node, "cima.db").await;
    let condition =
        format!("NEW.state = 'missed' AND NEW.id = {}", beside.id(due[0]["id"].as_str().unwrap()));
    beside.refuse("UPDATE", "check_ins", &condition).await;
    let (mut bos, mut dans) = (bo.stream().await, dan.stream().await);
    node.clock.advance(Duration::from_secs(10));
    let heard = |f: &Value| f["template"] == "emergency.check_in_missed";
    dans.wait_for("the other miss", heard).await.unwrap();
    bos.wait_for("the miss", heard).await.unwrap();
    // It is looked at again and again, and raises nothing more.
    for _ in 0..10 {
        node.clock.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let raised = items(&bo, "/v1/alerts?limit=1000").await;
    assert_eq!(raised.iter().filter(|a| a["kind"] == "emergency").count(), 1, "{raised:?}");
    assert!(metric(&node, &set_aside("check_in")).await >= Some(1.0));
}
