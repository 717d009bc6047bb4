//! What the store refuses for good is set aside, and keeps nobody else waiting. An emergency is told all the same.

use crate::harness::{Person, TestNode, raw, send_acked, settings};
use cima::client::{DEADLINE, fix};
use cima::clock::Clock;
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

    /// Runs the one that this store understands.
    async fn run(&mut self, files_sql: &str, database_sql: &[&str]) {
        match self {
            Self::Files(files) => {
                query(AssertSqlSafe(files_sql.to_owned())).execute(files).await.unwrap();
            }
            Self::Database(database) => {
                for step in database_sql {
                    query(AssertSqlSafe((*step).to_owned())).execute(&mut *database).await.unwrap();
                }
            }
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

/// Moves the clock of the node on and on, a step at a time, until what is waited for has come.
async fn time_passes(node: &TestNode, step: Duration) {
    loop {
        node.clock.advance(step);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    let mut phones = Vec::new();
    for person in [&ada, &cy] {
        let mut phone = person.stream().await;
        send_acked(&mut phone, &[fix(1, HOME.0, HOME.1, node.now())]).await;
        phones.push(phone);
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
    // It is tried again and again, raises nothing more, and is missed when that can be written.
    assert!(metric(&node, &set_aside("check_in")).await >= Some(1.0));
    for _ in 0..10 {
        node.clock.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    beside.run("DROP TRIGGER refuse", &["DROP TRIGGER refuse ON check_ins"]).await;
    let missed = format!(
        "SELECT count(*) FROM check_ins WHERE state = 'missed' AND id = {}",
        beside.id(due[0]["id"].as_str().unwrap())
    );
    tokio::select! {
        () = time_passes(&node, Duration::from_secs(30)) => {}
        () = beside.until(&missed, 1) => {}
    }
    let raised = items(&bo, "/v1/alerts?limit=1000").await;
    assert_eq!(raised.iter().filter(|a| a["kind"] == "emergency").count(), 1, "{raised:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_deleted_ends_its_emergency_though_that_changes_meanwhile() {
    let node = TestNode::start().await;
    let (ada, bo, _) = node.pair(&["alerts"]).await;
    let id = ada.raise().await;
    // Contacts are told first; the emergency changes between that and its end.
    let change = "UPDATE emergencies SET version = version + 1 WHERE id = NEW.emergency_id;";
    let mut beside = Beside::of(&node, "cima.db").await;
    let trigger = format!(
        "CREATE TRIGGER change AFTER INSERT ON alerts WHEN NEW.template = 'emergency.account_deleted'
         BEGIN {change} END"
    );
    let function = format!(
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.template = 'emergency.account_deleted' THEN {change} END IF; RETURN NEW; END $$"
    );
    let call = "CREATE TRIGGER change AFTER INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION change()";
    beside.run(&trigger, &[&function, call]).await;
    let subject = cima::id::UserId(ada.id().parse().unwrap());
    node.node.as_ref().unwrap().services.alerts.forget(subject).await.unwrap();
    let seen = bo.get(&format!("/v1/emergencies/{id}")).await.ok().unwrap();
    assert_eq!(seen["state"], "cancelled");
    let told = items(&bo, "/v1/alerts?limit=1000").await;
    let farewells = told.iter().filter(|a| a["template"] == "emergency.account_deleted").count();
    assert_eq!(farewells, 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_cannot_be_read_keeps_no_other_waiting_and_fires_when_it_can() {
    let node = TestNode::start_manual().await;
    let ((ada, bo, _), (cy, dan, _)) = (node.pair(&["alerts"]).await, node.pair(&["alerts"]).await);
    let mut ids = Vec::new();
    for person in [&ada, &cy] {
        let raised = person.post("/v1/emergencies", json!({"kind": "sos", "countdown_s": 10})).await;
        ids.push(raised.body["emergency"]["id"].as_str().unwrap().to_owned());
        let set = person.post("/v1/check-ins", json!({"due_in_s": 3600})).await;
        assert_eq!(set.status, 201, "{set:?}");
    }
    let mut beside = Beside::of(&node, "cima.db").await;
    let id = beside.id(&ids[0]);
    let broken = format!("UPDATE emergencies SET opening_fix = '\"nowhere\"' WHERE id = {id}");
    beside.run(&broken, &[&broken]).await;
    let (mut bos, mut dans) = (bo.stream().await, dan.stream().await);
    node.clock.advance(Duration::from_secs(10));
    let heard = |f: &Value| f["template"] == "emergency.raised";
    dans.wait_for("the other countdown", heard).await.unwrap();
    assert!(metric(&node, &set_aside("emergency")).await >= Some(1.0));
    let mended = format!("UPDATE emergencies SET opening_fix = NULL WHERE id = {id}");
    beside.run(&mended, &[&mended]).await;
    tokio::select! {
        () = time_passes(&node, Duration::from_secs(1)) => {}
        alert = bos.wait_for("the countdown", heard) => assert_eq!(alert.unwrap()["emergency"], json!(ids[0])),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_read_is_given_up_and_keeps_no_other_waiting() {
    let node = TestNode::start_with(Clock::system(), |config| {
        config.push.webhooks = true;
        config.push.push_allow_hosts = vec!["192.0.2.1".to_owned()];
    })
    .await;
    let ((ada, bo, _), (cy, dan, _)) = (node.pair(&["alerts"]).await, node.pair(&["alerts"]).await);
    for contact in [&bo, &dan] {
        let path = format!("/v1/devices/{}/push/webhook", contact.session.device);
        let endpoint = json!({"url": "https://192.0.2.1/hook"});
        let put = contact.call("PUT", &path, endpoint).await;
        assert!(put.status < 300, "{put:?}");
    }
    let mut beside = Beside::of(&node, "cima.db").await;
    let bos =
        format!("UPDATE push_endpoints SET target = '\"nowhere\"' WHERE user_id = {}", beside.id(bo.id()));
    beside.run(&bos, &[&bos]).await;
    ada.raise().await;
    cy.raise().await;
    beside
        .until("SELECT count(*) FROM push_deliveries WHERE state = 'dead' AND reason = 'unreadable'", 1)
        .await;
    let dans = "SELECT count(*) FROM push_deliveries WHERE state = 'waiting' AND claims > 0";
    beside.until(dans, 1).await;
}
