//! One delivery that cannot be sent or settled, and the others of its queue.

use super::super::{Channel, Endpoint, Matter, Notification, Target};
use super::*;
use crate::error::Stored;
use crate::id::{AlertId, DeviceId, EndpointId, UserId};
use async_trait::async_trait;
use std::sync::Mutex;
use uuid::Uuid;

const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);

/// Deliveries in memory: due until they are claimed, and what was written down of them.
#[derive(Default)]
struct Deliveries {
    due: Mutex<Vec<(Claimed, Timestamp)>>,
    settled: Mutex<Vec<(AlertId, Settlement)>>,
    /// Writing this one down is refused for good.
    refused: Option<AlertId>,
}

impl Deliveries {
    fn of(alerts: u128, urgency: Urgency) -> Self {
        let due = (1..=alerts).map(|n| (claimed(AlertId(Uuid::from_u128(n)), urgency), T0));
        Self { due: Mutex::new(due.collect()), ..Self::default() }
    }
    fn settled(&self) -> Vec<(AlertId, Settlement)> {
        let mut settled = self.settled.lock().unwrap().clone();
        settled.sort_by_key(|(alert, _)| *alert);
        settled
    }
}

fn claimed(alert: AlertId, urgency: Urgency) -> Claimed {
    let (endpoint, registration) = (EndpointId(Uuid::from_u128(1)), Uuid::nil());
    let until = T0 + Duration::from_secs(3_600);
    let locale = "en".to_owned();
    Claimed {
        key: ClaimKey { alert, endpoint, claim: 1, registration },
        notification: Notification { alert, matter: Matter::Emergency, urgency, locale, until },
        target: Target::Fcm { token: "t".into() },
        tries: 0,
        queued_at: T0,
        at: T0,
        received: false,
        seen: false,
    }
}

#[async_trait]
impl PushStore for Deliveries {
    async fn register_endpoint(&self, _: UserId, _: DeviceId, _: &Target, _: Timestamp) -> Stored<bool> {
        Ok(false)
    }
    async fn remove_endpoint(&self, _: UserId, _: DeviceId, _: Channel) -> Stored<bool> {
        Ok(false)
    }
    async fn endpoints(&self, _: UserId) -> Stored<Vec<Endpoint>> {
        Ok(Vec::new())
    }
    async fn oldest_emergency_push(&self) -> Stored<Option<Timestamp>> {
        Ok(None)
    }
    async fn next_push(&self, _: Queue) -> Stored<Option<Timestamp>> {
        Ok(self.due.lock().unwrap().iter().map(|(_, at)| *at).min())
    }
    async fn claim_pushes(
        &self,
        _: Queue,
        _: &[String],
        limit: u32,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Stored<Vec<Claimed>> {
        let mut due = self.due.lock().unwrap();
        let mut claimed = Vec::new();
        for (one, at) in due.iter_mut().filter(|(_, at)| *at <= now).take(limit as usize) {
            *at = lease_until;
            claimed.push(one.clone());
        }
        Ok(claimed)
    }
    async fn settle_pushes(&self, _: Urgency, given: &[Settled], _: Timestamp) -> Stored<Vec<UserId>> {
        if given.iter().any(|one| Some(one.key.alert) == self.refused) {
            return Err(crate::error::StoreError::new(crate::error::Fault::Corrupt, "refused"));
        }
        let mut due = self.due.lock().unwrap();
        for one in given {
            match one.settlement {
                Settlement::Retry(at) | Settlement::Later(at) => {
                    let found = due.iter_mut().find(|(claimed, _)| claimed.key == one.key);
                    let (claimed, due_at) = found.unwrap();
                    claimed.tries += u32::from(matches!(one.settlement, Settlement::Retry(_)));
                    *due_at = at;
                }
                _ => due.retain(|(claimed, _)| claimed.key != one.key),
            }
            self.settled.lock().unwrap().push((one.key.alert, one.settlement));
        }
        Ok(Vec::new())
    }
    async fn recover_pushes(&self, _: Timestamp) -> Stored<u64> {
        Ok(0)
    }
    async fn sweep_pushes(&self, _: Timestamp, _: Timestamp) -> Stored<Vec<UserId>> {
        Ok(Vec::new())
    }
    async fn replay_pushes(&self, _: Timestamp) -> Stored<u64> {
        Ok(0)
    }
}

/// A provider that cannot bear the first alert.
struct Panicking;

#[async_trait]
impl Provider for Panicking {
    async fn send(&self, notification: &Notification, _: &Target) -> SendOutcome {
        assert!(notification.alert != AlertId(Uuid::from_u128(1)), "cannot be sent");
        SendOutcome::Accepted
    }
}

/// Runs a worker over the deliveries until so many settlements are written down; whether the node was to stop.
async fn run(deliveries: &Arc<Deliveries>, urgency: Urgency, settlements: usize) -> bool {
    let (clock, tasks) = (Clock::manual(T0), Tasks::default());
    let queue = Queue { channel: Channel::Fcm, urgency };
    let worker = Worker::new(
        queue,
        deliveries.clone(),
        Arc::new(Panicking),
        Arc::default(),
        Bus::default(),
        clock.clone(),
        &tasks,
    );
    worker.start_task();
    let done = async {
        while deliveries.settled().len() < settlements {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_millis(500));
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(10), done).await;
    let failed = tasks.failed().is_cancelled();
    tasks.shut_down(Duration::from_secs(5)).await;
    done.unwrap_or_else(|_| panic!("{:?}, node stops: {failed}", deliveries.settled()));
    failed
}

#[tokio::test]
async fn a_send_that_panics_is_given_up_and_the_others_are_sent() {
    let deliveries = Arc::new(Deliveries::of(3, Urgency::Routine));
    assert!(!run(&deliveries, Urgency::Routine, 3).await, "one send stops no node");
    let settled: Vec<Settlement> = deliveries.settled().into_iter().map(|(_, what)| what).collect();
    assert_eq!(settled, [Settlement::Dead("panic"), Settlement::Accepted, Settlement::Accepted]);
}

#[tokio::test]
async fn an_emergency_whose_send_panics_is_tried_again_before_it_is_given_up() {
    let deliveries = Arc::new(Deliveries::of(2, Urgency::Emergency));
    assert!(!run(&deliveries, Urgency::Emergency, 4).await, "one send stops no node");
    let settled = deliveries.settled();
    assert!(matches!(settled[0].1, Settlement::Retry(_)) && matches!(settled[1].1, Settlement::Retry(_)));
    assert_eq!(settled[2].1, Settlement::Dead("panic"));
    assert_eq!(settled[3].1, Settlement::Accepted);
}

#[tokio::test]
async fn a_settlement_that_is_refused_holds_up_no_other() {
    let refused = Some(AlertId(Uuid::from_u128(2)));
    let deliveries = Arc::new(Deliveries { refused, ..Deliveries::of(4, Urgency::Routine) });
    run(&deliveries, Urgency::Routine, 3).await;
    let settled: Vec<AlertId> = deliveries.settled().into_iter().map(|(alert, _)| alert).collect();
    assert_eq!(settled, [1, 3, 4].map(|n| AlertId(Uuid::from_u128(n))));
}
