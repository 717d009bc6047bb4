//! What the database has in the end.

use crate::phone::Phone;
use cima::id::DeviceId;
use sqlx::{PgConnection, query_as, query_scalar};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A transition, without the ids that differ from one database to another.
pub type Happened = (String, i64, bool);

fn device(phone: &Phone) -> Uuid {
    phone.session.device.parse::<DeviceId>().unwrap().0
}

/// The numbers of the stored fixes, each with how many there are of it.
pub async fn fixes(db: &mut PgConnection, phone: &Phone) -> BTreeMap<i64, i64> {
    let fixes = query_as("SELECT seq, count(*) FROM fixes WHERE device_id = $1 GROUP BY seq ORDER BY seq");
    let rows: Vec<(i64, i64)> = fixes.bind(device(phone)).fetch_all(db).await.unwrap();
    rows.into_iter().collect()
}

/// What happened at the person's fence, in the order in which it did.
pub async fn transitions(db: &mut PgConnection, phone: &Phone) -> Vec<Happened> {
    let happened = query_as(
        "SELECT kind, seq, initial FROM transitions WHERE device_id = $1 AND NOT retracted ORDER BY at, seq, kind",
    );
    happened.bind(device(phone)).fetch_all(db).await.unwrap()
}

/// How many alerts tell of the person's fence.
pub async fn told(db: &mut PgConnection, phone: &Phone) -> i64 {
    let told = query_scalar("SELECT count(*) FROM alerts WHERE kind = 'geofence' AND subject_id = $1");
    told.bind(phone.session.user.parse::<Uuid>().unwrap()).fetch_one(db).await.unwrap()
}

/// Waits until a question has this answer, and fails with what it had instead.
pub async fn until<T: PartialEq + std::fmt::Debug>(wanted: &T, mut ask: impl AsyncFnMut() -> T) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(45);
    loop {
        let answer = ask().await;
        if answer == *wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "wanted {wanted:?}\nfound  {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
