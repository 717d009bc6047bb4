//! What the server writes to its log because of cima: nothing, while nothing is wrong.

use crate::database::fresh;
use cima::alerts::AlertsStore;
use cima::id::UserId;

#[tokio::test]
async fn calls_leave_no_warning_in_the_servers_log() {
    let log = std::env::var("CIMA_TEST_POSTGRES_LOG").expect("tests/backends.sh says where the log is");
    let database = fresh().await;
    let stores = database.open().await;
    for _ in 0..50 {
        stores.main.healthy().await.unwrap();
        stores.main.next_due().await.unwrap();
        stores.main.inbox_head(UserId(crate::database::id())).await.unwrap();
    }
    stores.main.close().await;
    let log = std::fs::read_to_string(log).unwrap();
    let warnings = log.lines().filter(|line| line.contains("no transaction in progress")).count();
    assert_eq!(warnings, 0);
}
