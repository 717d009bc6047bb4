//! Inboxes have no gaps, however many alerts are stored at the same time, and none of them fails because of another.

use crate::database::{self, T0, id};
use cima::alerts::{AlertDraft, AlertKind, AlertsStore, Audience, Lane, Recipients};
use cima::id::{AlertId, UserId};
use cima::tracking::Severity;
use sqlx::{PgConnection, query, query_as, query_scalar};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

const WRITERS: usize = 8;
const ALERTS: usize = 2_000;
/// Told by one transaction, each to others, so that heads are taken in every order if nobody sorts them.
const AT_ONCE: usize = 5;

/// People who all are each other's contacts.
pub(crate) async fn circle(db: &mut PgConnection, n: usize) -> Vec<UserId> {
    let people: Vec<Uuid> = (0..n).map(|_| id()).collect();
    query(
        "INSERT INTO accounts (id, handle, password_hash, display_name, locale, time_zone, created_at)
         SELECT id, 'person' || n, '$', 'Person', 'en', 'UTC', now() FROM unnest($1::uuid[]) WITH ORDINALITY AS p (id, n)",
    )
    .bind(&people)
    .execute(&mut *db)
    .await
    .unwrap();
    query(
        "INSERT INTO links (id, subject_id, contact_id, scopes, tier, hears_duress, created_at, accepted_at, scopes_since)
         SELECT gen_random_uuid(), s, c, 15, 1, true, now(), now(), now()
         FROM unnest($1::uuid[]) s, unnest($1::uuid[]) c WHERE s <> c",
    )
    .bind(&people)
    .execute(db)
    .await
    .unwrap();
    people.into_iter().map(UserId).collect()
}

pub(crate) fn draft(subject: UserId, recipients: Recipients) -> AlertDraft {
    AlertDraft {
        id: AlertId(id()),
        kind: AlertKind::Link,
        severity: Severity::Info,
        subject,
        at: T0,
        template: "link.asked",
        params: BTreeMap::from([("name".to_owned(), "a\0b".to_owned())]),
        emergency: None,
        geofence: None,
        transition: None,
        late: false,
        lane: Lane::Routine,
        recipients,
    }
}

/// What the inboxes of a circle look like from outside, while they are written: never a gap below the newest place.
async fn has_gap(db: &mut PgConnection) -> bool {
    let gaps = "SELECT EXISTS (SELECT 1 FROM inbox GROUP BY user_id HAVING max(cursor) <> count(*) OR min(cursor) <> 1)";
    query_scalar(gaps).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_leave_no_gap_and_no_deadlock() {
    let fresh = database::fresh().await;
    let mut db = fresh.connect().await;
    let people = Arc::new(circle(&mut db, 6).await);
    let store = fresh.open().await.main;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, people) = (Arc::clone(&store), Arc::clone(&people));
        writers.spawn(async move {
            let mut told = 0;
            for round in 0..ALERTS / WRITERS / AT_ONCE {
                let batch: Vec<AlertDraft> = (0..AT_ONCE)
                    .map(|n| {
                        let subject = people[(writer * 5 + round + n * (1 + writer % 4)) % people.len()];
                        let person = people[(writer + 2 * n + round) % people.len()];
                        let all = Recipients::Contacts { only: None, audience: Audience::All };
                        draft(subject, if n % 3 == 0 { all } else { Recipients::Person(person) })
                    })
                    .collect();
                // A deadlock would be an error here.
                store.tell(&batch).await.unwrap();
                assert!(store.tell(&batch).await.unwrap().told.is_empty(), "a repeat tells nobody");
                told += batch.len();
            }
            told
        });
    }
    let mut told = 0;
    while told < ALERTS {
        assert!(!has_gap(&mut db).await, "a reader sees a place before the one below it");
        if let Some(done) = writers.try_join_next() {
            told += done.unwrap();
        }
    }
    let stored: i64 = query_scalar("SELECT count(*) FROM alerts").fetch_one(&mut db).await.unwrap();
    assert_eq!(stored, ALERTS as i64);
    let inboxes = query_as::<_, (i64, i64, i64, i64)>(
        "SELECT count(*), min(i.cursor), max(i.cursor), h.head FROM inbox i JOIN inbox_heads h ON h.user_id = i.user_id
         GROUP BY i.user_id, h.head",
    );
    let inboxes = inboxes.fetch_all(&mut db).await.unwrap();
    assert_eq!(inboxes.len(), people.len());
    for (places, first, newest, head) in inboxes {
        assert_eq!((first, newest, head), (1, places, places));
    }
    let deliveries: i64 = query_scalar("SELECT count(*) FROM deliveries").fetch_one(&mut db).await.unwrap();
    let places: i64 = query_scalar("SELECT count(*) FROM inbox").fetch_one(&mut db).await.unwrap();
    assert_eq!(deliveries, places);
    let read = store.inbox_after(people[0], 0, 1).await.unwrap();
    assert_eq!(
        read[0].alert.as_ref().unwrap().params["name"],
        "a\u{fffd}b",
        "what cannot be kept refuses nothing"
    );
    let dead: i64 = query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&mut db)
        .await
        .unwrap();
    eprintln!("{places} places, {dead} deadlocks resolved");
    store.close().await;
}
