//! What comes through a queue, taken in groups: while one group is worked on the next one gathers.

use super::{Tasks, caught};
use std::future::Future;
use tokio::sync::mpsc;

/// One who works on groups. What it keeps outlives a group that makes it panic.
pub trait Gathers: Send + 'static {
    /// What comes through the queue.
    type Item: Send + 'static;

    /// How much of a group it is.
    fn weight(_: &Self::Item) -> usize {
        1
    }

    /// Works on a group, in the order in which it came.
    fn take(&mut self, group: Vec<Self::Item>) -> impl Future<Output = ()> + Send;
}

impl Tasks {
    /// Takes what waits in the queue, at most about `most` of it at a time. Ends when all who feed the queue are gone and the
    /// last is taken; it is waited for last. If it panics that is told, and the next group is taken.
    pub fn gather<G: Gathers>(
        &self,
        name: &'static str,
        mut queue: mpsc::Receiver<G::Item>,
        most: usize,
        mut gathers: G,
    ) {
        self.spawn_last(name, async move {
            while let Some(first) = queue.recv().await {
                let mut gathered = G::weight(&first);
                let mut group = vec![first];
                while gathered < most
                    && let Ok(next) = queue.try_recv()
                {
                    gathered += G::weight(&next);
                    group.push(next);
                }
                if let Err(panicked) = caught(gathers.take(group)).await {
                    Self::died(name, &panicked);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Groups(mpsc::Sender<Vec<usize>>);

    impl Gathers for Groups {
        type Item = usize;
        fn weight(n: &usize) -> usize {
            *n
        }
        async fn take(&mut self, group: Vec<usize>) {
            assert!(group != [4], "four is too much");
            self.0.send(group).await.unwrap();
        }
    }

    #[tokio::test]
    async fn groups_keep_the_order_and_their_size_and_outlive_a_panic() {
        let (tasks, (feed, queue), (out, mut taken)) =
            (Tasks::default(), mpsc::channel(16), mpsc::channel(16));
        for n in [1, 1, 2, 4, 5, 1] {
            feed.send(n).await.unwrap();
        }
        drop(feed);
        tasks.gather("groups", queue, 4, Groups(out));
        let mut groups = Vec::new();
        while let Some(group) = taken.recv().await {
            groups.push(group);
        }
        assert_eq!(groups, [vec![1, 1, 2], vec![5], vec![1]]);
        assert!(tasks.wait_last(Duration::from_secs(5)).await);
    }
}
