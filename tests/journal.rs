//! The journal in front of a store is the store: whatever is written, flushed, refused or cut off in between.

#![expect(clippy::unwrap_used, reason = "a store that does not answer has broken its promise")]

use async_trait::async_trait;
use cima::clock::{Clock, Timestamp};
use cima::error::{Fault, StoreError, Stored};
use cima::geo::{Fix, Point};
use cima::id::{DeviceId, EmergencyId};
use cima::journal::{Journal, Limits};
use cima::runtime::Tasks;
use cima::store::sqlite;
use cima::tracking::{
    FixBatch, FixKey, FixStore, Incident, NewFix, Reading, StoredFix, TrackPage, TrailPart, TrailStore,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;

const T0: Timestamp = Timestamp::from_unix_ms(1_800_000_000_000);
/// Nothing is flushed unless a test asks.
const PATIENT: Limits = Limits {
    heap: usize::MAX,
    age: Duration::from_secs(3_600),
    most: 100_000,
    patience: Duration::from_millis(50),
};

fn device(n: u64) -> DeviceId {
    DeviceId(Uuid::from_u128(u128::from(n) + 1))
}

fn new_fix(device: DeviceId, seq: i64, at_s: u64, streamed: bool) -> NewFix {
    let fix = Fix {
        seq,
        point: Point::new(47.0, 8.0 + seq as f64 / 1e4).unwrap(),
        fixed_at: T0 + Duration::from_secs(at_s),
        accuracy_m: Some(5.0),
        altitude_m: None,
        speed_mps: None,
        course_deg: None,
        battery: Some(0.5),
    };
    NewFix { device, fix, received_at: T0 + Duration::from_secs(at_s + 1), streamed }
}

/// A small generator: the same seed plays the same game.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn store(dir: &TempDir, name: &str) -> sqlite::Stores {
    sqlite::open(&dir.path().join(name), Clock::manual(T0)).await.unwrap()
}

async fn journal(folder: &Path, inner: Arc<dyn FixStore>, limits: Limits) -> Arc<Journal> {
    Journal::open(folder, inner, limits, &Tasks::default()).await.unwrap()
}

/// Every read there is, of both, must answer the same.
async fn same_answers(one: &dyn FixStore, other: &dyn FixStore, dice: &mut Dice, what: &str) {
    let devices: Vec<DeviceId> = (0..4).map(device).collect();
    let from = T0 + Duration::from_secs(dice.roll(60));
    let to = T0 + Duration::from_secs(dice.roll(120));
    let place: FixKey = (T0 + Duration::from_secs(dice.roll(90)), dice.roll(40) as i64);
    let limit = 1 + dice.roll(30) as u32;
    let after = (dice.roll(2) == 0).then(|| (place.0, device(dice.roll(4)), place.1));
    let reading = if dice.roll(2) == 0 { Reading::Forwards } else { Reading::Backwards };
    let since = T0 + Duration::from_secs(dice.roll(60));
    let page = TrackPage { reading, since, ..TrackPage::between(from, to, after, limit) };
    let (of_one, of_other) =
        (one.page(&devices, page).await.unwrap(), other.page(&devices, page).await.unwrap());
    assert_eq!(of_one, of_other, "{what}: {page:?}");
    // Of two devices at one place either may be the newest.
    let newest = |found: Option<StoredFix>| found.map(|fix| fix.fix.order());
    let of_one = newest(one.newest(&devices).await.unwrap());
    assert_eq!(of_one, newest(other.newest(&devices).await.unwrap()), "{what}: newest");
    let asked: Vec<(DeviceId, i64)> = (0..20).map(|n| (device(n % 4), dice.roll(40) as i64)).collect();
    let (mut known, mut wanted) = (one.known(&asked).await.unwrap(), other.known(&asked).await.unwrap());
    for list in [&mut known, &mut wanted] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(known, wanted, "{what}: known");
    for device in devices {
        assert_eq!(
            one.last_seq(device).await.unwrap(),
            other.last_seq(device).await.unwrap(),
            "{what}: last_seq"
        );
        let before = one.at_or_before(device, place).await.unwrap();
        assert_eq!(before, other.at_or_before(device, place).await.unwrap(), "{what}: at_or_before");
        let next = one.after(device, place, limit).await.unwrap();
        assert_eq!(next, other.after(device, place, limit).await.unwrap(), "{what}: after");
        let highest = one.highest(&[device]).await.unwrap();
        assert_eq!(highest, other.highest(&[device]).await.unwrap(), "{what}: highest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_answers_as_its_store_would() {
    let seed = std::env::var("CIMA_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| Clock::system().now().unix_ms() as u64);
    println!("CIMA_SEED={seed}");
    let mut dice = Dice(seed);
    let rounds = if std::env::var_os("CIMA_PROVE").is_some() { 40 } else { 4 };
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        let (plain, under) = (store(&dir, "plain").await, store(&dir, "under").await);
        let folder = dir.path().join("journal");
        let mut noted = journal(&folder, under.fixes.clone(), PATIENT).await;
        for step in 0..60 {
            let what = format!("seed {seed}, round {round}, step {step}");
            match dice.roll(6) {
                0 => noted.flush().await.unwrap(),
                // A crash: what was answered is on the disk, the rest of the process is gone.
                1 => {
                    drop(noted);
                    noted = journal(&folder, under.fixes.clone(), PATIENT).await;
                }
                _ => {
                    let group: Vec<NewFix> = (0..1 + dice.roll(12))
                        .map(|_| {
                            let seq = 1 + dice.roll(40) as i64;
                            // Mostly the time that belongs to the number; sometimes another: a conflict.
                            let at = if dice.roll(8) == 0 { dice.roll(90) } else { (seq as u64 * 7) % 90 };
                            new_fix(device(dice.roll(4)), seq, at, dice.roll(2) == 0)
                        })
                        .collect();
                    let sorted = |mut batch: FixBatch| {
                        batch.duplicates.sort_unstable();
                        batch.conflicts.sort_unstable();
                        batch
                    };
                    let wanted = sorted(plain.fixes.record(&group).await.unwrap());
                    assert_eq!(sorted(noted.record(&group).await.unwrap()), wanted, "{what}: {group:?}");
                }
            }
            same_answers(noted.as_ref(), plain.fixes.as_ref(), &mut dice, &what).await;
        }
        noted.flush().await.unwrap();
        same_answers(under.fixes.as_ref(), plain.fixes.as_ref(), &mut dice, "flushed").await;
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "what is in the store is wiped");
    }
}

/// A store that can be told to fail, and counts what it is given.
struct Moody {
    inner: Arc<dyn FixStore>,
    fails: AtomicBool,
    /// It refuses a fix of this number for good.
    refuses: AtomicI64,
    recorded: AtomicUsize,
}

impl Moody {
    fn over(inner: Arc<dyn FixStore>) -> Self {
        let (fails, refuses, recorded) = Default::default();
        Self { inner, fails, refuses, recorded }
    }
}

#[async_trait]
impl FixStore for Moody {
    async fn record(&self, fixes: &[NewFix]) -> Stored<FixBatch> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::new(Fault::Busy, "in a mood"));
        }
        let refused = self.refuses.load(Ordering::Relaxed);
        if fixes.iter().any(|fix| fix.fix.seq == refused) {
            return Err(StoreError::new(Fault::Corrupt, "not this one"));
        }
        self.recorded.fetch_add(fixes.len(), Ordering::Relaxed);
        self.inner.record(fixes).await
    }
    async fn known(&self, asked: &[(DeviceId, i64)]) -> Stored<Vec<(DeviceId, i64, Timestamp)>> {
        self.inner.known(asked).await
    }
    async fn highest(&self, devices: &[DeviceId]) -> Stored<Vec<(DeviceId, i64)>> {
        self.inner.highest(devices).await
    }
    async fn last_seq(&self, device: DeviceId) -> Stored<i64> {
        self.inner.last_seq(device).await
    }
    async fn latest(&self, device: DeviceId) -> Stored<Option<StoredFix>> {
        self.inner.latest(device).await
    }
    async fn at(&self, device: DeviceId, times: &[Timestamp]) -> Stored<Vec<StoredFix>> {
        self.inner.at(device, times).await
    }
    async fn newest(&self, devices: &[DeviceId]) -> Stored<Option<StoredFix>> {
        self.inner.newest(devices).await
    }
    async fn page(&self, devices: &[DeviceId], page: TrackPage) -> Stored<Vec<StoredFix>> {
        self.inner.page(devices, page).await
    }
    async fn at_or_before(&self, device: DeviceId, at: FixKey) -> Stored<Option<StoredFix>> {
        self.inner.at_or_before(device, at).await
    }
    async fn after(&self, device: DeviceId, after: FixKey, limit: u32) -> Stored<Vec<StoredFix>> {
        self.inner.after(device, after, limit).await
    }
}

#[async_trait]
impl TrailStore for Moody {
    async fn expired(&self, kept_from: &[(DeviceId, Timestamp)]) -> Stored<Vec<DeviceId>> {
        self.inner.expired(kept_from).await
    }
    async fn expire(&self, device: DeviceId, before: Timestamp, incidents: &[Incident]) -> Stored<u64> {
        self.inner.expire(device, before, incidents).await
    }
    async fn trail_page(
        &self,
        devices: &[DeviceId],
        parts: &[TrailPart],
        page: TrackPage,
    ) -> Stored<Vec<StoredFix>> {
        self.inner.trail_page(devices, parts, page).await
    }
    async fn newest_of_trail(&self, devices: &[DeviceId], parts: &[TrailPart]) -> Stored<Option<StoredFix>> {
        self.inner.newest_of_trail(devices, parts).await
    }
    async fn drop_trail(&self, emergency: EmergencyId) -> Stored<u64> {
        self.inner.drop_trail(emergency).await
    }
    async fn wipe_fixes(&self) -> Stored<()> {
        self.inner.wipe_fixes().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_fails_fixes_are_taken_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let under = store(&dir, "under").await;
    let moody = Arc::new(Moody::over(under.fixes.clone()));
    moody.fails.store(true, Ordering::Relaxed);
    let folder = dir.path().join("journal");
    let limits = Limits { heap: 10, most: 100, ..PATIENT };
    let noted = journal(&folder, moody.clone(), limits).await;
    let phone = device(0);
    for seq in 1..=100 {
        noted.record(&[new_fix(phone, seq, seq as u64, true)]).await.unwrap();
    }
    noted.flush().await.unwrap_err();
    assert_eq!(noted.last_seq(phone).await.unwrap(), 100);
    assert_eq!(noted.after(phone, (T0, 0), 1_000).await.unwrap().len(), 100);
    // Full: not taken is better than taken and forgotten.
    noted.record(&[new_fix(phone, 101, 101, true)]).await.unwrap_err();
    assert_eq!(noted.last_seq(phone).await.unwrap(), 100);
    // A crash while the store fails, and a start when it works again.
    drop(noted);
    assert_eq!(under.fixes.last_seq(phone).await.unwrap(), 0);
    moody.fails.store(false, Ordering::Relaxed);
    let noted = journal(&folder, moody.clone(), limits).await;
    assert_eq!(under.fixes.last_seq(phone).await.unwrap(), 100);
    assert_eq!(under.fixes.after(phone, (T0, 0), 1_000).await.unwrap().len(), 100);
    let repeat =
        noted.record(&[new_fix(phone, 100, 100, true), new_fix(phone, 101, 101, true)]).await.unwrap();
    assert_eq!(repeat, FixBatch { duplicates: vec![0], conflicts: vec![] });
    noted.flush().await.unwrap();
    assert_eq!(moody.recorded.load(Ordering::Relaxed), 101, "each went to the store once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_heap_goes_to_the_store_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let under = store(&dir, "under").await;
    let limits = Limits { heap: 50, ..PATIENT };
    let noted = journal(&dir.path().join("journal"), under.fixes.clone(), limits).await;
    let phone = device(0);
    let group: Vec<NewFix> = (1..=50).map(|seq| new_fix(phone, seq, seq as u64, true)).collect();
    noted.record(&group).await.unwrap();
    let stored = async {
        while under.fixes.last_seq(phone).await.unwrap() < 50 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_that_is_refused_goes_aside_alone_and_is_offered_again_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let under = store(&dir, "under").await;
    let moody = Arc::new(Moody::over(under.fixes.clone()));
    let folder = dir.path().join("journal");
    let segments = || std::fs::read_dir(&folder).unwrap().count();
    let noted = journal(&folder, moody.clone(), PATIENT).await;
    let phone = device(0);
    let group: Vec<NewFix> = (1..=100).map(|seq| new_fix(phone, seq, seq as u64, true)).collect();
    noted.record(&group).await.unwrap();
    moody.refuses.store(13, Ordering::Relaxed);
    noted.flush().await.unwrap();
    assert_eq!(under.fixes.after(phone, (T0, 0), 1_000).await.unwrap().len(), 99);
    assert_eq!(segments(), 1, "what was acked is kept");
    drop(noted);
    drop(journal(&folder, moody.clone(), PATIENT).await);
    assert_eq!(segments(), 1, "it is refused again, and no start fails for it");
    moody.refuses.store(0, Ordering::Relaxed);
    drop(journal(&folder, moody.clone(), PATIENT).await);
    assert_eq!(under.fixes.after(phone, (T0, 0), 1_000).await.unwrap().len(), 100);
    assert_eq!(segments(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_gets_nothing_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let under = store(&dir, "under").await;
    let moody = Arc::new(Moody::over(under.fixes.clone()));
    let noted = journal(&dir.path().join("journal"), moody.clone(), PATIENT).await;
    let group: Vec<NewFix> = (0..100).map(|n| new_fix(device(n), 13, n, true)).collect();
    noted.record(&group).await.unwrap();
    moody.refuses.store(13, Ordering::Relaxed);
    for _ in 0..10 {
        noted.flush().await.unwrap_err();
    }
    moody.refuses.store(0, Ordering::Relaxed);
    noted.flush().await.unwrap();
    assert_eq!(moody.recorded.load(Ordering::Relaxed), 100);
}
