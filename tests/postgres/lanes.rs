//! An emergency waits for nothing that is routine.

use crate::cursors::{circle, draft};
use crate::database::{self, T0, id};
use cima::alerts::{AlertsStore, Emergency, EmergencyKind, Opening, Recipients};
use cima::id::{EmergencyId, UserId};
use sqlx::{Connection, PgConnection, query, query_scalar};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// More than a node has connections for what is routine.
const WRITERS: usize = 100;
const DEADLINE: Duration = Duration::from_secs(10);

fn raised(subject: UserId) -> Emergency {
    let opening = Opening {
        id: EmergencyId(id()),
        subject,
        device: None,
        kind: EmergencyKind::Sos,
        message: None,
        fix: None,
        countdown: Duration::ZERO,
    };
    Emergency::open(opening, T0).emergency
}

async fn waiting_for_a_lock(db: &mut PgConnection) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    query_scalar(waiting).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_goes_past_routine_writers_that_are_stuck() {
    let fresh = database::fresh().await;
    let (mut db, mut stranger) = (fresh.connect().await, fresh.connect().await);
    let people = circle(&mut db, 2).await;
    let (anna, bob) = (people[0], people[1]);
    let stores = fresh.open().await;

    // Nobody can be told anything that is for Bob, until this ends.
    let mut lock = stranger.begin().await.unwrap();
    query("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE").bind(bob.0).execute(&mut *lock).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = stores.main.clone();
        writers.spawn(async move { store.tell(&[draft(bob, Recipients::Person(bob))]).await });
    }
    let stuck = async { while waiting_for_a_lock(&mut db).await < 8 {} };
    timeout(DEADLINE, stuck).await.expect("every routine connection is stuck");

    stores.main.healthy().await.unwrap();
    let emergency = raised(anna);
    stores.main.raise(&emergency, emergency.id, &[]).await.unwrap();
    assert_eq!(stores.main.open_of(anna).await.unwrap(), vec![emergency]);
    assert!(writers.try_join_next().is_none_or(|told| told.unwrap().is_err()), "the others wait still");

    lock.rollback().await.unwrap();
    timeout(DEADLINE, writers.join_all()).await.expect("each had its answer, or its deadline");
    stores.main.tell(&[draft(bob, Recipients::Person(bob))]).await.unwrap();
}
