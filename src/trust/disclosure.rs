//! Who has seen whose position: written down before the first frame, counted while it goes on.

use super::{Basis, Grant, TrustStore};
use crate::clock::{Clock, Timestamp};
use crate::error::Stored;
use crate::id::{EmergencyId, UserId};
use crate::runtime::{Refusal, SetAside, tried};
use dashmap::DashMap;
use serde::Serialize;
use std::sync::Arc;

/// What one disclosure row is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DisclosureKey {
    /// Who saw.
    pub viewer: UserId,
    /// Whose position.
    pub subject: UserId,
    /// `live_location` or `emergency`.
    pub basis: &'static str,
    /// Which emergency allowed it.
    pub emergency: Option<EmergencyId>,
    /// Seen after an end under duress: never listed to the subject, whose phone may be in other hands.
    pub covert: bool,
}

/// Some fixes of one key, seen between two times.
#[derive(Clone, PartialEq, Debug)]
pub struct Disclosed {
    /// What it is about.
    pub key: DisclosureKey,
    /// First time.
    pub first_at: Timestamp,
    /// Last time.
    pub last_at: Timestamp,
    /// How many fixes.
    pub fixes: u64,
}

/// One row of what a person may read about who saw them.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct Disclosure {
    /// The row's number; `next` of a page.
    #[serde(skip)]
    pub row: i64,
    /// Who saw.
    pub viewer: UserId,
    /// Their name.
    pub viewer_name: String,
    /// `live_location` or `emergency`.
    pub basis: String,
    /// Which emergency allowed it.
    pub emergency: Option<EmergencyId>,
    /// First time.
    pub first_at: Timestamp,
    /// Last time.
    pub last_at: Timestamp,
    /// How many fixes.
    pub fixes: u64,
}

/// Counts what is shown; a key's row is durable before its first fix leaves, its counts follow.
pub struct DisclosureLedger {
    store: Arc<dyn TrustStore>,
    clock: Clock,
    counts: DashMap<DisclosureKey, Disclosed>,
    aside: SetAside,
}

impl DisclosureLedger {
    /// An empty ledger over a store.
    pub fn new(store: Arc<dyn TrustStore>, clock: Clock) -> Self {
        Self { store, clock, counts: DashMap::new(), aside: SetAside::of("disclosure") }
    }

    /// Records that `fixes` are about to be shown under `grant`. A person's own position is not a disclosure.
    ///
    /// # Errors
    /// When the first row of a key could not be made durable: then nothing may be shown.
    pub async fn record(&self, grant: &Grant, fixes: u64) -> Stored<()> {
        let Some(key) = key_of(grant) else { return Ok(()) };
        let now = self.clock.now();
        if let Some(mut counted) = self.counts.get_mut(&key) {
            counted.fixes += fixes;
            counted.last_at = now;
            return Ok(());
        }
        self.store.disclose(vec![Disclosed { key, first_at: now, last_at: now, fixes }]).await?;
        self.counts.entry(key).or_insert(Disclosed { key, first_at: now, last_at: now, fixes: 0 });
        Ok(())
    }

    /// Writes the counts down; called every five seconds, before a reading and at the stop.
    ///
    /// # Errors
    /// When the store failed; the counts are kept for the next time.
    pub async fn flush(&self) -> Stored<()> {
        let mut due = Vec::new();
        self.counts.retain(|_, counted| {
            if counted.fixes > 0 {
                due.push(counted.clone());
            }
            false
        });
        if due.is_empty() {
            return Ok(());
        }
        match tried(self.store.disclose(due.clone())).await {
            Ok(()) => Ok(()),
            Err(Refusal::Passing(error)) => {
                self.put_back(due);
                Err(error)
            }
            Err(refusal @ Refusal::Lasting(_)) => self.flush_each(due, refusal).await,
        }
    }

    /// One of the counts is refused for good: the others are written without it. Of a store that takes none of them, each
    /// is kept.
    async fn flush_each(&self, due: Vec<Disclosed>, refusal: Refusal) -> Stored<()> {
        let (mut refused, mut taken) = (Vec::new(), false);
        for count in due {
            match tried(self.store.disclose(vec![count.clone()])).await {
                Ok(()) => taken = true,
                Err(why) => refused.push((count, why)),
            }
        }
        let mut failed = (!taken).then_some(refusal);
        for (count, why) in refused {
            match why {
                Refusal::Lasting(why) if taken => {
                    let DisclosureKey { viewer, subject, .. } = count.key;
                    self.aside.note(format_args!("{viewer} {subject}"), why);
                }
                why => {
                    self.put_back(vec![count]);
                    failed = Some(why);
                }
            }
        }
        failed.map_or(Ok(()), |why| Err(why.into()))
    }

    fn put_back(&self, due: Vec<Disclosed>) {
        for back in due {
            let mut counted = self.counts.entry(back.key).or_insert(Disclosed { fixes: 0, ..back.clone() });
            counted.fixes += back.fixes;
            counted.first_at = counted.first_at.min(back.first_at);
            counted.last_at = counted.last_at.max(back.last_at);
        }
    }
}

fn key_of(grant: &Grant) -> Option<DisclosureKey> {
    let (basis, emergency) = match grant.basis() {
        Basis::Own => return None,
        Basis::LiveLocation => ("live_location", None),
        Basis::Emergency(id) => ("emergency", Some(id)),
    };
    Some(DisclosureKey {
        viewer: grant.viewer(),
        subject: grant.subject(),
        basis,
        emergency,
        covert: grant.is_covert(),
    })
}
