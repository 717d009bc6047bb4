//! What waits for Redis. Nothing here can grow past its bound, however long Redis is away.

use crate::bus::Sealed;
use crate::id::UserId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use uuid::Uuid;

/// Messages in their order. When it is full the oldest goes: what it hinted at is in the store.
pub(super) struct Queue {
    name: &'static str,
    bound: usize,
    waiting: Mutex<VecDeque<Vec<u8>>>,
    filled: Notify,
}

impl Queue {
    pub(super) fn new(name: &'static str, bound: usize) -> Self {
        Self { name, bound, waiting: Mutex::default(), filled: Notify::new() }
    }
    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        // Every change is one push or drain: a panic in between leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; `false` if another had to go for it.
    pub(super) fn push(&self, message: Vec<u8>) -> bool {
        let fits = {
            let mut waiting = self.lock();
            let fits = waiting.len() < self.bound || waiting.pop_front().is_none();
            waiting.push_back(message);
            fits
        };
        self.filled.notify_one();
        if !fits {
            metrics::counter!("cima_bus_dropped_total", "what" => self.name).increment(1);
        }
        fits
    }

    /// Waits for messages and takes at most so many of the oldest.
    pub(super) async fn take(&self, most: usize) -> Vec<Vec<u8>> {
        loop {
            let filled = self.filled.notified();
            let taken: Vec<_> = {
                let mut waiting = self.lock();
                let most = most.min(waiting.len());
                waiting.drain(..most).collect()
            };
            if !taken.is_empty() {
                return taken;
            }
            filled.await;
        }
    }

    /// Puts back what could not be handed over, before what came meanwhile and as far as there is room.
    pub(super) fn put_back(&self, taken: Vec<Vec<u8>>) -> bool {
        let mut waiting = self.lock();
        let room = self.bound - waiting.len().min(self.bound);
        let fits = taken.len() <= room;
        for message in taken.into_iter().rev().take(room) {
            waiting.push_front(message);
        }
        fits
    }
}

/// The newest position of each person.
pub(super) struct Newest {
    bound: usize,
    waiting: Mutex<HashMap<UserId, Sealed>>,
    filled: Notify,
}

impl Newest {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, waiting: Mutex::default(), filled: Notify::new() }
    }
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Sealed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, subject: UserId, sealed: Sealed) {
        {
            let mut waiting = self.lock();
            if waiting.len() >= self.bound && !waiting.contains_key(&subject) {
                metrics::counter!("cima_bus_dropped_total", "what" => "position").increment(1);
                return;
            }
            waiting.insert(subject, sealed);
        }
        self.filled.notify_one();
    }

    /// Waits for positions and takes all of them.
    pub(super) async fn take(&self) -> HashMap<UserId, Sealed> {
        loop {
            let filled = self.filled.notified();
            let taken = std::mem::take(&mut *self.lock());
            if !taken.is_empty() {
                return taken;
            }
            filled.await;
        }
    }

    /// Forgets what waits: it is old by the time it could go, and who watches reads the store.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// The ids of messages that came lately.
pub(super) struct Recent {
    bound: usize,
    order: VecDeque<Uuid>,
    ids: HashSet<Uuid>,
}

impl Recent {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, order: VecDeque::new(), ids: HashSet::new() }
    }
    /// Remembers it; `true` if it has not come before.
    pub(super) fn remember(&mut self, id: Uuid) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_when_a_queue_is_full() {
        let queue = Queue::new("test", 2);
        assert!(queue.push(vec![1]) && queue.push(vec![2]));
        assert!(!queue.push(vec![3]));
        assert_eq!(queue.take(1).await, [vec![2]]);
        assert!(queue.push(vec![4]));
        assert!(!queue.put_back(vec![vec![2]]), "there is no room for it any more");
        assert_eq!(queue.take(9).await, [vec![3], vec![4]]);
        assert!(queue.put_back(vec![vec![3], vec![4]]));
        assert_eq!(queue.take(9).await, [vec![3], vec![4]]);
    }

    #[tokio::test]
    async fn of_a_person_the_newest_position_waits() {
        let newest = Newest::new(1);
        let (ada, bo) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        newest.put(ada, Sealed::new(vec![1]));
        newest.put(ada, Sealed::new(vec![2]));
        newest.put(bo, Sealed::new(vec![3]));
        let taken = newest.take().await;
        assert_eq!(taken.into_iter().collect::<Vec<_>>(), [(ada, Sealed::new(vec![2]))]);
    }

    #[test]
    fn a_message_is_new_once_and_memory_is_bounded() {
        let mut recent = Recent::new(2);
        let ids: Vec<Uuid> = (0..3).map(Uuid::from_u128).collect();
        assert!(recent.remember(ids[0]) && !recent.remember(ids[0]));
        assert!(recent.remember(ids[1]) && recent.remember(ids[2]));
        assert_eq!((recent.order.len(), recent.ids.len()), (2, 2));
        assert!(recent.remember(ids[0]), "long ago is forgotten");
    }
}
